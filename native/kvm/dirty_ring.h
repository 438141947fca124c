// A vCPU's dirty ring, mapped: KVM publishes entries, we harvest them in order.
//
//   entry { u32 flags; u32 slot; u64 offset }     flags: 0 empty → 1 dirty → 2 harvested → (reset)
//   0
//
// Protocol (api.rst §8.29, "KVM_CAP_DIRTY_LOG_RING"): load `flags` with acquire; if dirty, take the
// entry, store flags = harvested with release, go on with the next index. After every ring was
// harvested, KVM_RESET_DIRTY_RINGS. The vCPU must be out of KVM_RUN from before the harvest until
// after the reset when an exact cut is wanted.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

#include "core/mapped_region.h"
#include "core/result.h"

namespace ft {

/// One harvested entry: guest frame number inside memslot 0's address space.
struct DirtyEntry {
  uint32_t slot;
  uint64_t offset;  // page offset inside the slot
};

class DirtyRing {
 public:
  /// Maps the ring of `vcpu_fd` (KVM_DIRTY_LOG_PAGE_OFFSET). `ring_bytes` as given to Vm::create.
  static Result<DirtyRing> map(int vcpu_fd, uint32_t ring_bytes);

  uint32_t capacity() const { return capacity_; }
  /// True when at least one entry waits. Any thread; one acquire load.
  bool has_entries() const;
  /// Calls `take(DirtyEntry)` for every waiting entry in order and marks it harvested.
  /// Returns how many. The vCPU's own thread, or any thread while the vCPU is stopped.
  template <typename F>
  uint32_t harvest(F&& take) {
    uint32_t n = 0;
    DirtyEntry entry;
    while (n < capacity_ && next(&entry)) {
      take(entry);
      n++;
    }
    return n;
  }
  /// How many entries wait, without harvesting (walks at most `limit` entries).
  uint32_t pending(uint32_t limit) const;
  /// Whether more than `count` entries wait (count < capacity). Any thread; one acquire load, since
  /// entries are published in order.
  bool more_than(uint32_t count) const;

 private:
  bool next(DirtyEntry* out);
  MappedRegion region_;
  kvm_dirty_gfn* entries_ = nullptr;
  uint32_t capacity_ = 0;
  uint32_t head_ = 0;
};

}  // namespace ft

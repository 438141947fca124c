// Harvesting a vCPU's dirty ring.
//
//   index   reset_index (KVM)        head_ (ours)            dirty_index (KVM)
//     │          ▼                        ▼                        ▼
//     └── empty ─┴── harvested (2) ───────┴── dirty (1) ───────────┴── empty ──▶  (modulo capacity)
//
// Indices run on for ever and are reduced modulo the capacity, a power of two, so head_ may wrap
// past 2^32 without harm. KVM writes slot and offset before it publishes flags = 1; the acquire
// load below pairs with that. Our release store of flags = 2 keeps the reads of slot and offset
// before it, since from then on KVM may reuse the entry (after a reset).
#include "kvm/dirty_ring.h"

#include <unistd.h>

namespace ft {
namespace {

uint32_t load_flags(const kvm_dirty_gfn* entry) {
  return __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE);
}

}  // namespace

Result<DirtyRing> DirtyRing::map(int vcpu_fd, uint32_t ring_bytes) {
  const uint32_t capacity = ring_bytes / sizeof(kvm_dirty_gfn);
  if (capacity == 0 || (capacity & (capacity - 1)) != 0) {
    return Error{"FT_ERR_RING_SIZE", 0,
                 "A dirty ring of " + std::to_string(ring_bytes) +
                     " bytes cannot be mapped: its size must be a power of two."};
  }
  const long page = ::sysconf(_SC_PAGESIZE);
  auto region =
      MappedRegion::shared(vcpu_fd, ring_bytes, KVM_DIRTY_LOG_PAGE_OFFSET * page, "a dirty ring");
  if (!region.ok()) return region.error();
  DirtyRing ring;
  ring.region_ = region.take();
  ring.entries_ = reinterpret_cast<kvm_dirty_gfn*>(ring.region_.data());
  ring.capacity_ = capacity;
  return ring;
}

bool DirtyRing::has_entries() const {
  return pending(1) != 0;
}

uint32_t DirtyRing::pending(uint32_t limit) const {
  const uint32_t most = limit < capacity_ ? limit : capacity_;
  const uint32_t head = __atomic_load_n(&head_, __ATOMIC_RELAXED);
  uint32_t n = 0;
  while (n < most && load_flags(&entries_[(head + n) & (capacity_ - 1)]) == KVM_DIRTY_GFN_F_DIRTY) {
    n++;
  }
  return n;
}

bool DirtyRing::more_than(uint32_t count) const {
  const uint32_t head = __atomic_load_n(&head_, __ATOMIC_RELAXED);
  return load_flags(&entries_[(head + count) & (capacity_ - 1)]) == KVM_DIRTY_GFN_F_DIRTY;
}

bool DirtyRing::next(DirtyEntry* out) {
  kvm_dirty_gfn* entry = &entries_[head_ & (capacity_ - 1)];
  if (load_flags(entry) != KVM_DIRTY_GFN_F_DIRTY) return false;
  out->slot = entry->slot;
  out->offset = entry->offset;
  __atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
  // Another thread may be looking at has_entries(): it sees the old head or the new one.
  __atomic_store_n(&head_, head_ + 1, __ATOMIC_RELAXED);
  return true;
}

}  // namespace ft

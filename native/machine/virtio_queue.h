// One split virtqueue, seen from the device. The driver is hostile and runs while we read.
//
//   descriptor table   size × { u64 addr; u32 len; u16 flags; u16 next }         driver writes
//   available ring     { u16 flags; u16 idx; u16 ring[size] }                    driver writes
//   used ring          { u16 flags; u16 idx; { u32 id; u32 len } ring[size] }    device writes
//
// Every address, index and length is checked before it is used; each descriptor is read once, so a
// driver that changes it meanwhile changes nothing for us. What breaks the rules breaks the queue:
// nothing more is taken from it until the driver resets the device.
// Indirect descriptors and event indexes are not offered. Source: Virtio 1.2, §2.7.
// Thread: every call under the machine lock.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/result.h"
#include "machine/guest_memory.h"

namespace ft {

inline constexpr uint16_t kQueueSizeMax = 256;

/// A queue's place in guest memory and its positions, as stored in a state blob.
struct VirtQueueState {
  uint64_t desc_gpa = 0;
  uint64_t avail_gpa = 0;
  uint64_t used_gpa = 0;
  uint16_t size = 0;
  uint16_t last_avail = 0;  // next entry of the available ring to take
  uint16_t used_idx = 0;    // next entry of the used ring to fill
  uint8_t ready = 0;
  uint8_t broken = 0;
};
static_assert(sizeof(VirtQueueState) == 32);

/// One buffer of a chain, inside guest memory.
struct ChainSegment {
  uint64_t gpa;
  uint32_t bytes;
};

/// A popped descriptor chain: readable segments first, then writable ones. Reused from pop to pop.
struct DescriptorChain {
  uint16_t head = 0;
  uint16_t readable_count = 0;
  uint16_t writable_count = 0;
  uint32_t readable_bytes = 0;
  uint32_t writable_bytes = 0;
  std::array<ChainSegment, kQueueSizeMax> segments;

  std::span<const ChainSegment> readable() const { return {segments.data(), readable_count}; }
  std::span<const ChainSegment> writable() const {
    return {segments.data() + readable_count, writable_count};
  }
};

class VirtQueue {
 public:
  enum class Pop : uint8_t { kChain, kEmpty, kBroken };

  VirtQueue(GuestMemory& memory, uint16_t size_max) : memory_(&memory), size_max_(size_max) {}

  uint16_t size_max() const { return size_max_; }
  /// The registers as the driver set them. Writing is for the transport while the queue is not
  /// ready; a device never writes them.
  VirtQueueState& registers() { return s_; }
  const VirtQueueState& state() const { return s_; }

  bool ready() const { return s_.ready != 0 && s_.broken == 0; }
  bool broken() const { return s_.broken != 0; }
  /// Why the queue broke, for the log; empty while it is whole.
  const char* broken_reason() const { return reason_; }

  /// Makes the configured queue usable from position zero. False, and the reason in
  /// broken_reason(), when size or addresses are not acceptable.
  bool enable();
  /// Back to the state after power-on.
  void reset();
  /// Puts a captured state back. Error: FT_ERR_STATE_FORMAT; the queue is then unchanged.
  Status restore(const VirtQueueState& state);
  /// Whether `state` could be restored into this queue (nullptr), or what is wrong with it.
  const char* check(const VirtQueueState& state) const;

  /// True when a chain waits (or the ring is damaged, which pop() will then find).
  bool has_available() const;
  /// Takes the next chain.
  Pop pop(DescriptorChain* chain);
  /// Puts back the chain that was popped last, provided nothing was pushed since.
  void unpop() { s_.last_avail--; }
  /// Walks the chain that begins at descriptor `head` and was popped before, by this device or by
  /// the one whose state was restored. False when it cannot be used: the queue is then broken.
  bool walk_again(uint16_t head, DescriptorChain* chain);
  /// Returns a chain to the driver with `bytes_written` bytes of it filled.
  void push_used(uint16_t head, uint32_t bytes_written);
  /// Whether the driver wants to be interrupted for what was pushed.
  bool wants_interrupt() const;

  /// Copies the chain's readable bytes from `skip` on into `out`; returns how many.
  size_t copy_out(const DescriptorChain& chain, size_t skip, std::span<uint8_t> out) const {
    return copy_out(chain.readable(), skip, out);
  }
  /// Copies `in` into the chain's writable segments from `skip` on; returns how many fitted.
  size_t copy_in(const DescriptorChain& chain, size_t skip, std::span<const uint8_t> in) {
    return copy_in(chain.writable(), skip, in);
  }
  /// The same for segments kept from a chain that was popped: one direction's, in order.
  size_t copy_out(std::span<const ChainSegment> readable, size_t skip,
                  std::span<uint8_t> out) const;
  size_t copy_in(std::span<const ChainSegment> writable, size_t skip, std::span<const uint8_t> in);

  /// Breaks the queue: a device found its contents unacceptable.
  void break_queue(const char* reason);

 private:
  Pop fail(const char* reason);
  bool walk(uint16_t head, DescriptorChain* chain);

  GuestMemory* memory_;
  uint16_t size_max_;
  VirtQueueState s_;
  const char* reason_ = "";
};

}  // namespace ft

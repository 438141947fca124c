// The operations of one disk that are looked at for order: who waits for whom, and who may go.
//
//   enter ─▶ waiting ──(nobody earlier in the way)──▶ ready ─ issue ─▶ issued ─ leave ─▶
//
// An operation waits for the earlier ones in the window that it must not overtake:
//   read           writes and zeroes that overlap it
//   write, zero    reads, writes and zeroes that overlap it
//   flush          every write and zero
//   scan           as a read: a look for holes, or a read, on behalf of a sync
//   anything       an earlier barrier (the flush of a standby: what the log has after a flush must
//                  not be on the medium before it, so that the image is one that the primary's
//                  disk could have had, whenever the power goes)
// What has not entered yet is behind all of that, since operations enter in the order in which they
// were submitted.
//
// Thread: under the lock of the ReplicatedDisk that owns it.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <memory>

#include "core/result.h"
#include "disk/io_engine.h"

namespace ft {

enum class OpOrigin : uint8_t { kDevice, kApply, kSync };

struct DiskOp {
  IoKind kind = IoKind::kFlush;
  OpOrigin origin = OpOrigin::kDevice;
  bool scan = false;       // kSync: looks for holes instead of reading
  bool counted = false;    // in the count of unsettled writes of `generation`
  uint8_t generation = 0;  // parity of the map's generation that its mark belongs to
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::shared_ptr<IoBuffer> data;
  uint64_t cookie = 0;    // kDevice: the device's
  uint64_t sequence = 0;  // order of submission; kSync: number of the sync

  bool changes() const { return kind == IoKind::kWrite || kind == IoKind::kZero; }
  bool barrier() const { return kind == IoKind::kFlush && origin == OpOrigin::kApply; }
  bool overlaps(const DiskOp& other) const {
    return offset < other.offset + other.bytes && other.offset < offset + bytes;
  }
  bool must_follow(const DiskOp& earlier) const {
    if (earlier.barrier()) return true;
    if (kind == IoKind::kFlush) return earlier.changes();
    return (changes() || earlier.changes()) && overlaps(earlier);
  }
};

class OpWindow {
 public:
  static constexpr uint32_t kSlots = IoEngine::kDepth;

  uint32_t used() const { return used_; }
  DiskOp& op(uint32_t slot) { return slots_[slot].op; }
  const DiskOp& op(uint32_t slot) const { return slots_[slot].op; }

  /// Takes the operation in, behind everything that is here already. There must be a free slot.
  uint32_t enter(DiskOp op) {
    FT_CHECK(used_ < kSlots, "the window of disk operations is full");
    const uint32_t slot = static_cast<uint32_t>((~occupied_)._Find_first());
    Slot& mine = slots_[slot];
    mine.waits_for.reset();
    mine.issued = false;
    mine.op = std::move(op);
    for (uint32_t i = 0; i < used_; i++) {
      if (mine.op.must_follow(slots_[order_[i]].op)) mine.waits_for.set(order_[i]);
    }
    occupied_.set(slot);
    order_[used_++] = static_cast<uint8_t>(slot);
    return slot;
  }

  bool ready(uint32_t slot) const { return !slots_[slot].issued && slots_[slot].waits_for.none(); }
  void issue(uint32_t slot) { slots_[slot].issued = true; }

  /// The operation has ended (or will never begin): those behind it wait for it no longer.
  DiskOp leave(uint32_t slot) {
    FT_CHECK(occupied_.test(slot), "an operation ended twice");
    uint32_t place = 0;
    while (order_[place] != slot) place++;
    for (used_--; place < used_; place++) order_[place] = order_[place + 1];
    occupied_.reset(slot);
    for (uint32_t i = 0; i < used_; i++) slots_[order_[i]].waits_for.reset(slot);
    return std::move(slots_[slot].op);
  }

  /// The slots in use, in the order of submission, as they are now.
  struct Order {
    std::array<uint8_t, kSlots> slots;
    uint32_t count;
    const uint8_t* begin() const { return slots.data(); }
    const uint8_t* end() const { return slots.data() + count; }
  };
  Order order() const { return {order_, used_}; }

 private:
  struct Slot {
    DiskOp op;
    std::bitset<kSlots> waits_for;
    bool issued = false;
  };
  static_assert(kSlots <= 256);

  std::array<Slot, kSlots> slots_;
  std::array<uint8_t, kSlots> order_ = {};
  std::bitset<kSlots> occupied_;
  uint32_t used_ = 0;
};

}  // namespace ft

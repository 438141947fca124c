// Staging slots: what a cut leaves behind for the event loop to encode after the guest went on.
//
//        vCPU thread                         event loop
//   free ──take()──▶ filling ──publish()──▶ waiting ──front()──▶ encoding ──retire()──▶ free
//
// A slot keeps its buffers from use to use; page room is reserved address space that only takes
// memory as far as epochs really reach into it. Idle slots keep a bounded amount of that between
// them: what comes again and again finds its room warm, and a burst does not keep memory for ever.
// Slots are many, for small epochs that come faster than the event loop turns; of large ones fewer
// wait at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "core/mapped_region.h"
#include "core/result.h"
#include "kvm/state.h"
#include "machine/disk_records.h"
#include "machine/power.h"

namespace ft {

/// Facts of one cut, in nanoseconds and counts.
struct CutFacts {
  uint64_t epoch = 0;
  bool base = false;
  bool overrun = false;
  GuestEnd guest_end = GuestEnd::kNone;  // the guest ended itself; no later cut follows
  uint64_t halt = 0;  // VcpuThreads::halts() at the cut: odd when the guest stood still before it
  uint32_t dirty_pages = 0;
  uint32_t output_frames = 0;
  uint64_t kick_ns = 0;     // asked for → the leader is out of KVM_RUN; 0: nobody had to ask
  uint64_t barrier_ns = 0;  // until every vCPU stood still and the machine's lock was ours
  uint64_t pause_ns = 0;    // of the vCPU that stood still first, until all may go on
  uint64_t harvest_ns = 0;
  uint64_t copy_ns = 0;
  uint64_t state_ns = 0;
  uint64_t reset_ns = 0;
  uint64_t end_ns = 0;  // CLOCK_MONOTONIC at the end of the pause
};

struct AuditRecord {
  uint32_t gfn;
  uint32_t crc;
};

struct EpochSlot {
  CutFacts facts;
  std::vector<uint32_t> gfns;  // pages of the epoch, in harvest order
  MappedRegion pages;          // gfns.size() × 4096 bytes, same order
  size_t kept_bytes = 0;       // of `pages` that epochs have reached into
  StateWriter state_writer;
  std::span<const uint8_t> state;  // points into state_writer
  std::vector<AuditRecord> audit;
  DiskLogs disks;  // what was written since the last cut; empty for a machine without disks
};

class SlotPool {
 public:
  /// `count` slots, each with room for `pages_max` pages.
  static Result<std::unique_ptr<SlotPool>> create(uint32_t count, uint64_t pages_max);

  /// Cutting thread: an empty slot, or nullptr when all are in use.
  EpochSlot* take();
  bool has_free() const;
  /// Cutting thread: the slot that take() gave is complete.
  void publish(EpochSlot* slot);
  /// Event loop: the oldest published slot (it stays the front until retired), or nullptr.
  EpochSlot* front() const;
  /// Event loop: the front slot is encoded and may be used again.
  void retire();
  /// Event loop, no cut being made: calls act(const EpochSlot&) for every published slot.
  template <typename Act>
  void each_waiting(Act act) const {
    const std::lock_guard lock(mutex_);
    for (const EpochSlot* slot : waiting_) act(*slot);
  }
  /// Forgets every published slot. Only while no cut is being made.
  void clear();
  /// Page room that free slots keep, in bytes.
  size_t idle_bytes() const;

 private:
  void recycle(EpochSlot* slot);
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<EpochSlot>> slots_;
  size_t pages_waiting_ = 0;
  size_t idle_bytes_ = 0;  // sum of the free slots' kept_bytes
  std::vector<EpochSlot*> free_;
  std::deque<EpochSlot*> waiting_;
};

}  // namespace ft

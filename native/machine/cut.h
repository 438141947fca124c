// The cut: ends the open epoch while the guest stands still.
//
//   harvest rings ∪ VMM writes → copy pages → state blob → audit hashes → reset rings → seal outbox
//
// Nothing else happens in the pause; encoding, compression, checksums and sending follow after the
// guest went on, from the staging slot. Why the cut is exact: no vCPU is in KVM_RUN from before the
// harvest until after the reset, and the machine lock keeps devices from writing meanwhile; so
// between the copies and the reset nothing can change, and whatever changes later is logged anew.
//
// Credit: at most `in_flight_max` epochs are cut and not yet committed, and a staging slot must be
// free. Without credit the cut waits while the guest runs; past the dirty budget the guest waits.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "kvm/state.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"
#include "machine/dirty_set.h"
#include "machine/epoch_slot.h"
#include "machine/guest_memory.h"
#include "machine/outbox.h"

namespace ft {

/// CLOCK_MONOTONIC in nanoseconds.
uint64_t monotonic_ns();

struct CutPolicy {
  uint32_t interval_us = 400;
  /// Somebody calls Machine::tick() as often; else the leader's own timer ticks.
  bool paced = false;
  uint32_t dirty_budget_pages = 4096;
  bool cut_on_output = true;
  uint32_t in_flight_max = 8;
  uint32_t audit_pages = 2;
  /// How long acknowledged output may leave after a sign of the standby; 0: no such bound.
  uint32_t lease_us = 0;
  /// Harvest and reset only: nothing is copied, kept or shipped, and no output is held. What dirty
  /// tracking alone costs on this host, to compare with.
  bool floor = false;
};

/// What floor cuts have counted.
struct FloorFacts {
  uint64_t cuts = 0;
  uint64_t pages = 0;
};

/// Faults that tests plant to prove that the oracle and the audit can fail. Off in any real use.
struct TestFaults {
  bool hide_dirty_page = false;  // leave one page of the ring out of the dirty set now and then
  bool release_early = false;    // never hold output: it leaves before its epoch is even cut
};

class Cutter {
 public:
  struct Parts {
    Vm& vm;
    std::vector<Vcpu>& vcpus;
    std::vector<VcpuStateAccess>& vcpu_states;
    GuestMemory& memory;
    Outbox& outbox;
    SlotPool& slots;
    std::mutex& machine_lock;
    /// Adds the devices' entries to the state blob. Called with the machine lock held.
    std::function<void(StateWriter&)> capture_devices;
    /// Moves the disks' open logs into the slot of the epoch that is being cut. Called with the
    /// machine lock held; empty for a machine without disks.
    std::function<void(uint64_t epoch, DiskLogs&)> take_disk_logs;
    /// A slot was published. Called on the cutting thread; must not block.
    std::function<void()> on_cut;
    TestFaults faults;
  };

  explicit Cutter(Parts parts);

  // Event loop, every vCPU parked: vCPU threads read the policy.
  void begin(const CutPolicy& policy, uint64_t first_epoch);
  void end();

  // Event loop.
  /// The next cut is the base epoch: output is held from it on.
  void hold_output_at_next_cut() { hold_next_.store(true); }
  void commit(uint64_t epoch) { committed_.store(epoch); }
  /// True for the base epoch and later ones: whoever holds one of them can go on from it.
  bool is_restorable(uint64_t epoch) const { return base_.load() != 0 && epoch >= base_.load(); }
  /// The overrun epoch is encoded: the guest may run on.
  void thaw() { frozen_.store(false); }

  // Any thread.
  bool active() const { return active_.load(); }
  bool can_cut() const;
  /// Nothing touches guest memory: an overrun cut is being encoded, or the guest's last one was
  /// made.
  bool frozen() const { return frozen_.load() || final_cut_made_.load(); }
  /// A cut stands before the machine lock: whoever takes it again and again lets it by.
  bool waits_for_lock() const { return waits_for_lock_.load(); }
  /// A standby is being made, and nobody waits for a cut yet: output is not held.
  bool syncing() const { return active() && !policy_.floor && base_.load() == 0; }
  /// Event loop: the replication that goes on is paced from outside (CutPolicy::paced).
  bool paced() const { return policy_.paced; }
  /// Output waits, nothing is in flight, and the policy says not to wait for the timer then.
  bool output_wants_cut() const;

  // Any thread: when the last cut was made, and how long the guest stood still for it.
  uint64_t last_cut_ns() const { return last_cut_ns_.load(std::memory_order_relaxed); }
  uint64_t last_pause_ns() const { return last_pause_ns_.load(std::memory_order_relaxed); }

  /// Walks the rings: true when so many pages are dirty that the guest should wait.
  bool past_budget() const;

  // Leader thread.
  /// The vCPUs begin to be stopped for a cut: the pause counts from here, not from cut().
  void stopping() { stopping_ns_ = monotonic_ns(); }
  /// When the next cut was asked for, and with it the leader kicked; 0: it was not.
  void asked_at(uint64_t ns) { asked_ns_ = ns; }
  /// Makes the cut. Every vCPU is stopped; can_cut() holds. With `guest_end` the epoch is the
  /// guest's last: final_cut_made() is true from then until begin(). `halt` becomes CutFacts::halt.
  void cut(const SignalsBlocked& blocked, GuestEnd guest_end = GuestEnd::kNone, uint64_t halt = 0);
  bool final_cut_made() const { return final_cut_made_.load(); }

  // Any thread.
  FloorFacts floor_facts() const { return {floor_cuts_.load(), floor_pages_.load()}; }

 private:
  uint32_t harvest(CutFacts& facts);
  void reset(const SignalsBlocked& blocked, uint32_t harvested);
  void copy_pages(EpochSlot& slot);
  void capture_state(EpochSlot& slot);
  void hash_audit_pages(EpochSlot& slot, uint64_t now_ns);
  void cut_floor(const SignalsBlocked& blocked, GuestEnd guest_end);

  Parts parts_;
  CutPolicy policy_;
  std::atomic<bool> cut_on_output_{false};  // the policy's, for threads that hold no lock
  DirtySet dirty_;
  std::atomic<bool> active_{false};
  std::atomic<bool> frozen_{false};
  std::atomic<bool> hold_next_{false};
  std::atomic<bool> final_cut_made_{false};
  std::atomic<bool> waits_for_lock_{false};
  std::atomic<uint64_t> base_{0};  // 0 until it is cut
  std::atomic<uint64_t> cut_{0};
  std::atomic<uint64_t> committed_{0};
  std::atomic<uint64_t> last_cut_ns_{0};
  std::atomic<uint64_t> last_pause_ns_{0};
  uint64_t stopping_ns_ = 0;  // 0: the cut begins when it is made
  uint64_t asked_ns_ = 0;
  uint64_t audit_cursor_ = 0;
  uint64_t last_audit_ns_ = 0;
  std::atomic<uint64_t> floor_cuts_{0};
  std::atomic<uint64_t> floor_pages_{0};
};

}  // namespace ft

// Runs every vCPU on a thread of its own, stops them when somebody needs the guest still, and lets
// the leader (vCPU 0's thread) make the cut, so that no other thread has to be woken for it.
//
//            tick(), request_cut(), the leader's own timer, or a full ring
//                 │ signal, open in KVM_RUN alone (vcpu_kick.h)
//   KVM_RUN ──────┴─▶ serve ──can_cut──▶ others parked ▶ Cutter::cut ▶ others go on ──▶ KVM_RUN
//                       └──no credit──▶ run on (cut wanted), or wait here past the dirty budget
//
// Why no request is lost: a requester first stores its flag and then signals. A signal that lands
// after the loop has read the flags stays pending, and KVM_RUN returns at once.
//
// The guest halted (halt(), until resume()): every vCPU stays out of KVM_RUN and sleeps until it is
// kicked. Cuts go on; one that is made now has all that the guest ever did before it was halted.
//
// Who ticks: another thread, if there is one that does (replication's event loop), for a timer of
// the leader's own interrupts the guest's CPU, which costs more than a signal from another one.
#pragma once

#include <linux/kvm.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "kvm/vcpu.h"
#include "machine/device_bus.h"
#include "machine/power.h"
#include "machine/vcpu_kick.h"

namespace ft {

class ChangeLog;
class Cutter;
class Outbox;

class VcpuThreads {
 public:
  struct Parts {
    std::vector<Vcpu>& vcpus;
    DeviceBus& bus;
    std::mutex& machine_lock;
    Cutter& cutter;
    Outbox& outbox;
    /// What the guest changes while nobody replicates, and somebody wants to know; may be null.
    ChangeLog* changes = nullptr;
    /// KVM cannot run the guest on. Called on a vCPU thread, once.
    std::function<void(std::string message)> on_stopped;
    /// The guest ended itself, and no vCPU runs it any more. Called on the leader's thread, once,
    /// after flush_output and before the final cut.
    std::function<void(GuestEnd)> on_guest_end;
    /// What the guest had handed to its devices before it ended goes into the outbox.
    std::function<void()> flush_output;
    /// Host CPU of each vCPU's thread (cpu_plan.h); kAnyCpu: wherever the scheduler likes.
    std::vector<int> cpus;
  };

  explicit VcpuThreads(Parts parts);
  ~VcpuThreads();

  void start();
  bool started() const { return !threads_.empty(); }
  /// Ends every thread. Any thread but a vCPU's.
  void stop();

  /// Asks for a cut as soon as there is credit for one. Any thread.
  void request_cut();
  /// Credit, room or output limits changed: whoever waits for them looks again. Any thread.
  void credit_changed();
  /// The guest ended itself (the first word counts): no vCPU enters it again, and with a standby
  /// the leader makes the final cut as soon as there is credit. Any thread, the machine lock held
  /// or not.
  void guest_ended(GuestEnd how);
  /// Brings every vCPU out of KVM_RUN, so that it looks at the outbox limit. Any thread.
  void recheck_limits();
  /// The time between two cuts; 0: none are due. With `paced`, somebody calls tick() as often;
  /// else the leader's own timer does. Not before start().
  void set_interval(uint32_t interval_us, bool paced);
  /// A cut is due, if the last one was not just now; true when it was asked for. Any thread.
  bool tick();

  /// No vCPU enters the guest any more, also of threads that are started later, and a cut is asked
  /// for; until resume(). The guest may run for a moment yet: a cut whose CutFacts::halt is halts()
  /// was made when it stood still already. The thread that starts and stops.
  void halt();
  void resume();
  /// Odd while the guest is halted; another number for each time it is.
  uint64_t halts() const { return halts_.load(); }

  /// Stops every vCPU outside KVM_RUN and keeps it there while in scope.
  class Parked {
   public:
    explicit Parked(VcpuThreads& threads);
    ~Parked();
    Parked(const Parked&) = delete;
    Parked& operator=(const Parked&) = delete;

   private:
    VcpuThreads& threads_;
    bool held_ = false;
  };

  /// Exits by reason since the start, indexed by Vcpu::Exit. Any thread.
  static constexpr size_t kExitKinds = static_cast<size_t>(Vcpu::Exit::kOther) + 1;
  uint64_t exits(Vcpu::Exit kind) const {
    return exits_[static_cast<size_t>(kind)].load(std::memory_order_relaxed);
  }

 private:
  void loop(size_t index);
  bool wanted(size_t index) const;
  void serve_leader(const SignalsBlocked& blocked);
  void serve_ended(size_t index, const SignalsBlocked& blocked);
  uint64_t run_ns() const;
  bool final_cut_due() const;
  bool halted() const { return halts_.load() % 2 == 1; }
  template <typename Act>
  void with_others_parked(Act act);
  bool behind_schedule();
  void ring_served();
  void wait_for_output_room(size_t index);
  bool handle_exit(Vcpu& vcpu, Vcpu::Exit exit);
  void dispatch_io(kvm_run* run);
  void hold(size_t first, size_t count);
  void let_go();
  void park();
  void hold_past_budget();
  template <typename Ready>
  void wait_until(Ready ready);
  void kick(size_t index);
  void broken(std::string message);

  Parts parts_;
  std::vector<std::thread> threads_;
  std::vector<std::atomic<int>> tids_;
  KickTimer backstop_;
  std::atomic<uint64_t> interval_ns_{0};
  uint64_t paid_until_ns_ = 0;  // cuts were made for every interval up to here

  std::atomic<uint64_t> asked_ns_{0};  // when the leader was kicked for a cut; 0: it was not
  std::atomic<bool> ticked_{false};
  std::atomic<bool> cut_requested_{false};
  std::atomic<bool> cut_wanted_{false};  // a cut is due as soon as there is credit
  std::atomic<bool> ring_full_{false};
  std::atomic<bool> over_budget_{false};  // the leader waits for credit, and the others with it
  std::atomic<uint64_t> halts_{0};
  std::atomic<bool> stop_{false};
  std::atomic<bool> stopped_reported_{false};
  std::atomic<GuestEnd> guest_end_{GuestEnd::kNone};
  bool end_reported_ = false;  // the leader's own
  std::atomic<int> park_requests_{0};
  std::atomic<int> waiting_{0};
  std::atomic<uint64_t> exits_[kExitKinds]{};

  std::mutex gate_mutex_;  // parked_, and waiting for credit
  std::condition_variable gate_cv_;
  size_t parked_ = 0;
};

}  // namespace ft

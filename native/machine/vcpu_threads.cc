#include "machine/vcpu_threads.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "machine/change_log.h"
#include "machine/cut.h"
#include "machine/outbox.h"

namespace ft {
namespace {

// With ticks from outside, the leader's own timer only bounds an epoch while nobody ticks.
constexpr uint64_t kBackstopNsMin = 10'000'000;

void pin_to(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  // The plan names CPUs that this process may use; a cpuset that changed since costs speed and
  // nothing else.
  pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

}  // namespace

VcpuThreads::VcpuThreads(Parts parts) : parts_(std::move(parts)), tids_(parts_.vcpus.size()) {}

VcpuThreads::~VcpuThreads() {
  stop();
}

void VcpuThreads::start() {
  FT_CHECK(threads_.empty(), "vCPU threads started twice");
  prepare_kicks();
  for (size_t i = 0; i < parts_.vcpus.size(); i++) {
    threads_.emplace_back([this, i] { loop(i); });
  }
  for (auto& tid : tids_) {
    while (tid.load() == 0) sched_yield();
  }
}

void VcpuThreads::stop() {
  if (threads_.empty()) return;
  {
    const std::lock_guard lock(gate_mutex_);
    stop_.store(true);
  }
  gate_cv_.notify_all();
  for (size_t i = 0; i < threads_.size(); i++) kick(i);
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  backstop_.reset();
}

void VcpuThreads::kick(size_t index) {
  const int tid = tids_[index].load();
  if (tid > 0) kick_thread(tid);
}

void VcpuThreads::request_cut() {
  if (cut_requested_.load()) return;
  asked_ns_.store(monotonic_ns());
  if (!cut_requested_.exchange(true)) kick(0);
}

bool VcpuThreads::tick() {
  const Cutter& cutter = parts_.cutter;
  if (!cutter.active() || monotonic_ns() - cutter.last_cut_ns() < run_ns()) return false;
  // Without credit the guest is left alone until it is past its budget: whoever brings some finds
  // the wish.
  if (!cutter.can_cut()) {
    cut_wanted_.store(true);
    if (!cutter.can_cut() && !cutter.past_budget()) return false;
  }
  asked_ns_.store(monotonic_ns());
  if (ticked_.exchange(true)) return false;
  kick(0);
  return true;
}

void VcpuThreads::halt() {
  if (halted()) return;
  halts_.fetch_add(1);
  asked_ns_.store(monotonic_ns());
  cut_requested_.store(true);
  for (size_t i = 0; i < tids_.size(); i++) kick(i);
}

void VcpuThreads::resume() {
  if (!halted()) return;
  halts_.fetch_add(1);
  for (size_t i = 0; i < tids_.size(); i++) kick(i);
}

void VcpuThreads::recheck_limits() {
  credit_changed();
  for (size_t i = 0; i < tids_.size(); i++) kick(i);
}

void VcpuThreads::credit_changed() {
  if (waiting_.load() > 0) {
    // Taking the mutex orders us after a waiter that checked and is about to sleep.
    { const std::lock_guard lock(gate_mutex_); }
    gate_cv_.notify_all();
  }
  if (cut_wanted_.load() || parts_.cutter.output_wants_cut()) request_cut();
}

void VcpuThreads::set_interval(uint32_t interval_us, bool paced) {
  FT_CHECK(started(), "the interval is set before the vCPU threads run");
  const uint64_t interval_ns = static_cast<uint64_t>(interval_us) * 1000;
  interval_ns_ = interval_ns;
  paid_until_ns_ = monotonic_ns();
  const uint64_t backstop_ns = std::max(interval_ns, kBackstopNsMin);
  backstop_.set(tids_[0].load(), paced && interval_ns > 0 ? backstop_ns : interval_ns);
}

VcpuThreads::Parked::Parked(VcpuThreads& threads) : threads_(threads) {
  if (!threads_.started()) return;
  held_ = true;
  threads_.hold(0, threads_.threads_.size());
}

VcpuThreads::Parked::~Parked() {
  // The threads may have been stopped meanwhile; the request goes all the same.
  if (held_) threads_.let_go();
}

// Asks the threads from `first` on to park, and waits until `count` are: all of them, or all but
// the leader, who then is the one that asks. Every thread finishes what it has begun with KVM
// before it parks, so a parked vCPU may be read by whoever asked.
void VcpuThreads::hold(size_t first, size_t count) {
  std::unique_lock lock(gate_mutex_);
  park_requests_++;
  gate_cv_.notify_all();
  for (size_t i = first; i < tids_.size(); i++) kick(i);
  gate_cv_.wait(lock, [&] { return parked_ == count || stop_.load(); });
}

void VcpuThreads::let_go() {
  {
    const std::lock_guard lock(gate_mutex_);
    park_requests_--;
  }
  gate_cv_.notify_all();
}

void VcpuThreads::park() {
  std::unique_lock lock(gate_mutex_);
  parked_++;
  gate_cv_.notify_all();
  gate_cv_.wait(lock, [&] { return park_requests_.load() == 0 || stop_.load(); });
  parked_--;
}

// Sleeps until `ready`, or until the thread is wanted elsewhere (parking, stopping).
template <typename Ready>
void VcpuThreads::wait_until(Ready ready) {
  waiting_++;
  {
    std::unique_lock lock(gate_mutex_);
    gate_cv_.wait(lock, [&] { return ready() || stop_.load() || park_requests_.load() > 0; });
  }
  waiting_--;
}

void VcpuThreads::loop(size_t index) {
  Vcpu& vcpu = parts_.vcpus[index];
  kvm_run* run = vcpu.run_page();
  const SignalsBlocked blocked;
  pin_to(parts_.cpus[index]);
  const Status open = vcpu.open_to(kick_signal());
  FT_CHECK(open.ok(), open.error().message.c_str());
  tids_[index].store(static_cast<int>(syscall(SYS_gettid)));

  // After an MMIO or port exit KVM still has to finish the instruction at the next KVM_RUN. State
  // must not be captured before that, so requests are served only with nothing unfinished; when one
  // waits, immediate_exit makes KVM_RUN finish the instruction and come straight back. Each thread
  // does that for its own vCPU: nobody else ever enters it.
  bool unfinished = false;
  while (true) {
    run->immediate_exit = unfinished && wanted(index) ? 1 : 0;
    if (!unfinished) {
      if (stop_.load()) break;
      if (park_requests_.load() > 0) {
        park();
        continue;
      }
      if (guest_end_.load() != GuestEnd::kNone) {
        serve_ended(index, blocked);
        continue;
      }
      if (index == 0) serve_leader(blocked);
      if (stop_.load() || park_requests_.load() > 0) continue;
      if (parts_.cutter.frozen()) {
        wait_until([&] { return !parts_.cutter.frozen(); });
        continue;
      }
      if (halted()) {
        // Whoever wants a cut, a parked thread, an end or a running guest stores that and kicks.
        if (wait_for_kick()) ticked_.store(true);
        continue;
      }
      if (index != 0 && over_budget_.load()) {
        wait_until([&] { return !over_budget_.load(); });
        continue;
      }
      if (parts_.outbox.over_limit()) {
        wait_for_output_room(index);
        continue;
      }
    }
    const auto exit = vcpu.run();
    if (!exit.ok()) {
      broken(exit.error().message);
      unfinished = false;
      continue;
    }
    exits_[static_cast<size_t>(exit.value())].fetch_add(1, std::memory_order_relaxed);
    if (exit.value() == Vcpu::Exit::kInterrupted && take_kick()) ticked_.store(true);
    unfinished = handle_exit(vcpu, exit.value());
  }
}

// True when something waits that loop() would serve before it enters the guest.
bool VcpuThreads::wanted(size_t index) const {
  if (stop_.load() || park_requests_.load() > 0) return true;
  if (guest_end_.load() != GuestEnd::kNone || halted()) return true;
  if (parts_.outbox.over_limit() || parts_.cutter.frozen()) return true;
  if (index != 0) return over_budget_.load();
  return ticked_.load() || cut_requested_.load() || ring_full_.load();
}

// The outbox is full: the guest waits until some of it was released. A cut stays possible while it
// waits, because only a sealed segment can ever be released.
void VcpuThreads::wait_for_output_room(size_t index) {
  // What the I/O thread appends while we wait wants a cut as much as what was there before.
  const auto cut_due = [&] {
    return index == 0 && parts_.cutter.can_cut() &&
           (cut_wanted_.load() || ring_full_.load() || parts_.outbox.output_waiting());
  };
  wait_until([&] {
    return !parts_.outbox.over_limit() || cut_due() || guest_end_.load() != GuestEnd::kNone;
  });
  if (cut_due()) cut_wanted_.store(true);
}

// Returns true when the instruction that caused the exit is not finished yet.
bool VcpuThreads::handle_exit(Vcpu& vcpu, Vcpu::Exit exit) {
  kvm_run* run = vcpu.run_page();
  switch (exit) {
    case Vcpu::Exit::kInterrupted:
    case Vcpu::Exit::kHalt:
      return false;
    case Vcpu::Exit::kIo:
      dispatch_io(run);
      return true;
    case Vcpu::Exit::kMmio: {
      const std::lock_guard lock(parts_.machine_lock);
      const std::span<uint8_t> data{run->mmio.data, std::min<size_t>(run->mmio.len, 8)};
      if (run->mmio.is_write != 0) {
        parts_.bus.mmio_write(run->mmio.phys_addr, data);
      } else {
        parts_.bus.mmio_read(run->mmio.phys_addr, data);
      }
      return true;
    }
    case Vcpu::Exit::kRingFull:
      ring_full_.store(true);
      if (&vcpu != &parts_.vcpus[0]) {
        kick(0);
        wait_until([&] { return !ring_full_.load(); });
      }
      return false;
    case Vcpu::Exit::kShutdown:
      guest_ended(GuestEnd::kTripleFault);
      return false;
    case Vcpu::Exit::kSystemEvent:
      guest_ended(run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN ? GuestEnd::kPowerOffEvent
                                                                      : GuestEnd::kResetEvent);
      return false;
    case Vcpu::Exit::kInternalError:
    case Vcpu::Exit::kFailEntry:
    case Vcpu::Exit::kOther:
      break;
  }
  broken("KVM cannot run the guest on: " + vcpu.describe_exit());
  return false;
}

void VcpuThreads::dispatch_io(kvm_run* run) {
  uint8_t* data = reinterpret_cast<uint8_t*>(run) + run->io.data_offset;
  const std::lock_guard lock(parts_.machine_lock);
  for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
    const std::span<uint8_t> bytes{data, run->io.size};
    if (run->io.direction == KVM_EXIT_IO_OUT) {
      parts_.bus.port_write(run->io.port, bytes);
    } else {
      parts_.bus.port_read(run->io.port, bytes);
    }
  }
}

// The leader's decision before it enters the guest: is a cut due, and is there credit for it?
void VcpuThreads::serve_leader(const SignalsBlocked& blocked) {
  const bool ticked = ticked_.exchange(false);
  const bool asked = cut_requested_.exchange(false);
  const uint64_t asked_ns = asked_ns_.exchange(0);
  const bool full = ring_full_.load();
  Cutter& cutter = parts_.cutter;
  if (!cutter.active()) {
    cut_wanted_.store(false);
    if (parts_.changes != nullptr && parts_.changes->due(full)) {
      with_others_parked([&] { parts_.changes->serve(blocked); });
    }
    if (full) ring_served();
    return;
  }
  const bool tick_due = ticked && monotonic_ns() - cutter.last_cut_ns() >= run_ns();
  if (!tick_due && !asked && !full && !cut_wanted_.load()) return;
  if (!cutter.can_cut()) {
    cut_wanted_.store(true);
    // Looked at again after the store: credit that came in between saw no wish and did not kick.
    if (!cutter.can_cut()) {
      if (full || cutter.past_budget()) hold_past_budget();
      if (!cutter.can_cut()) return;
    }
  }
  // Only now that all stand still can no vCPU end the guest any more. A cut behind such an end
  // would let the standby go on behind it, too: the last cut, which says so, is made instead.
  cutter.asked_at(asked_ns);
  with_others_parked([&] {
    const uint64_t halt = halts_.load();
    if (guest_end_.load() == GuestEnd::kNone) cutter.cut(blocked, GuestEnd::kNone, halt);
  });
  if (guest_end_.load() != GuestEnd::kNone) return;
  cut_wanted_.store(behind_schedule());
  if (full) ring_served();
}

// A tick right after a cut that output asked for would cut an almost empty epoch; and where the
// pause is as long as the interval, the guest still gets half of the time.
uint64_t VcpuThreads::run_ns() const {
  return std::max(interval_ns_.load() / 2, parts_.cutter.last_pause_ns());
}

// Waits for credit, and keeps the other vCPUs from dirtying more meanwhile. They look at the flag
// before they enter the guest; how far they got by then is what the rings have room for.
void VcpuThreads::hold_past_budget() {
  over_budget_.store(true);
  for (size_t i = 1; i < tids_.size(); i++) kick(i);
  wait_until([&] { return parts_.cutter.can_cut() || guest_end_.load() != GuestEnd::kNone; });
  {
    const std::lock_guard lock(gate_mutex_);
    over_budget_.store(false);
  }
  gate_cv_.notify_all();
}

// Ticks that came while this thread had no CPU are merged into one. The cuts they stood for are
// made up, each as soon as there is credit, so that the rate asked for is also the rate on average.
// Cuts made early, for output, are not saved up.
bool VcpuThreads::behind_schedule() {
  constexpr uint64_t kOwedMax = 8;
  const uint64_t interval_ns = interval_ns_;
  const uint64_t now = parts_.cutter.last_cut_ns();
  // During a sync ticks come at another pace, and nothing is owed.
  if (parts_.cutter.syncing()) {
    paid_until_ns_ = now;
    return false;
  }
  const uint64_t oldest = now - std::min(now, kOwedMax * interval_ns);
  paid_until_ns_ = std::clamp(paid_until_ns_ + interval_ns, oldest, now);
  // No cut on the heels of one that took as long as the guest ran.
  if (parts_.cutter.last_pause_ns() >= interval_ns / 2) return false;
  return interval_ns > 0 && now - paid_until_ns_ >= interval_ns;
}

// The full ring was harvested and reset: a vCPU that waits for it may run again.
void VcpuThreads::ring_served() {
  {
    const std::lock_guard lock(gate_mutex_);
    ring_full_.store(false);
  }
  gate_cv_.notify_all();
}

// Runs `act` on the leader's thread while every other vCPU stands still.
template <typename Act>
void VcpuThreads::with_others_parked(Act act) {
  const size_t others = parts_.vcpus.size() - 1;
  if (others == 0) {
    act();
    return;
  }
  parts_.cutter.stopping();
  hold(1, others);
  if (!stop_.load()) act();
  let_go();
}

// The guest cannot be run on: says so once, then keeps the thread out of KVM_RUN until it is
// stopped.
void VcpuThreads::broken(std::string message) {
  if (!stopped_reported_.exchange(true)) parts_.on_stopped(std::move(message));
  while (!stop_.load()) {
    wait_until([] { return false; });
    if (!stop_.load() && park_requests_.load() > 0) park();
  }
}

// ── the guest's own end ────────────────────────────────────────────────────────────────────────
//
//   a vCPU ends the guest ─▶ every vCPU leaves KVM_RUN and stays out ─▶ leader: flush ·
//   on_guest_end
//                                              with a standby, given credit ─▶ final cut, then none

// Whoever waits for credit or room is woken by serve_ended(): the gate is not taken here, where the
// machine lock may be held.
void VcpuThreads::guest_ended(GuestEnd how) {
  GuestEnd none = GuestEnd::kNone;
  if (!guest_end_.compare_exchange_strong(none, how)) return;
  for (size_t i = 0; i < tids_.size(); i++) kick(i);
}

bool VcpuThreads::final_cut_due() const {
  return parts_.cutter.active() && !parts_.cutter.final_cut_made() && parts_.cutter.can_cut();
}

// Called instead of entering the guest, with no instruction of this vCPU's unfinished.
void VcpuThreads::serve_ended(size_t index, const SignalsBlocked& blocked) {
  { const std::lock_guard lock(gate_mutex_); }
  gate_cv_.notify_all();
  if (index != 0) {
    wait_until([] { return false; });
    return;
  }
  const GuestEnd how = guest_end_.load();
  if (!end_reported_) {
    with_others_parked([&] {
      end_reported_ = true;
      parts_.flush_output();
      parts_.on_guest_end(how);
    });
  }
  if (final_cut_due()) {
    with_others_parked([&] { parts_.cutter.cut(blocked, how); });
    if (ring_full_.load()) ring_served();
  }
  wait_until([&] { return final_cut_due(); });
}

}  // namespace ft

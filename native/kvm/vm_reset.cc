// KVM_RESET_DIRTY_RINGS, and why it is not a plain ioctl.
//
// The kernel gathers harvested entries into batches of neighbouring pages and write-protects a
// batch when the next entry does not fit into it. Since Linux 6.16 the loop also ends when a
// signal is pending for the calling thread (TIF_SIGPENDING), and then it ends at once: the batch
// gathered so far is counted as reset, but its pages were never write-protected.
//
//     entries   A  B  C  D  │ signal
//     batch     └──── mask ─┘──▶ return "4 reset", pages A to D stay writable, unlogged
//
// A write to such a page is never seen again: the replica goes quietly wrong. The count does not
// always show it, since the signal may come after the last entry. So:
//   1. every signal that can be blocked is blocked on the calling thread, which the caller proves,
//      and a blocked signal is not "pending" in that sense;
//   2. what cannot be blocked (SIGSTOP, a debugger, the freezer) either kills us or stops the
//      thread for a while. A count that falls short, or a call that took as long as only a stopped
//      thread takes, is treated as a cut-short reset: the slots are protected anew as a whole.
#include <sys/ioctl.h>
#include <time.h>

#include "kvm/vm.h"

namespace ft {
namespace {

// 65,536 entries take about 2 ms; a thread that was merely preempted is back far sooner than this.
constexpr int64_t kStoppedNs = 20'000'000;
// Each further call follows a stop, so a handful is already unheard of.
constexpr int kCallsMax = 64;

int64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

}  // namespace

Result<uint32_t> Vm::reset_dirty_rings(const SignalsBlocked&, uint32_t harvested) {
  uint32_t total = 0;
  bool cut_short = false;
  for (int calls = 0; calls < kCallsMax; calls++) {
    const int64_t begin_ns = now_ns();
    const int n = ::ioctl(fd_.get(), KVM_RESET_DIRTY_RINGS, 0);
    if (n < 0) return sys_error("FT_ERR_KVM_RESET", "KVM_RESET_DIRTY_RINGS failed");
    total += static_cast<uint32_t>(n);
    if (now_ns() - begin_ns > kStoppedNs) cut_short = true;
    if (harvested == kHarvestedUnknown || total >= harvested) break;
    cut_short = true;
  }
  if (cut_short) {
    FT_TRY(rearm_dirty_logging());
    rearms_++;
  }
  return total;
}

Status Vm::rearm_dirty_logging() {
  for (const kvm_userspace_memory_region& slot : slots_) {
    if ((slot.flags & KVM_MEM_LOG_DIRTY_PAGES) == 0) continue;
    kvm_userspace_memory_region off = slot;
    off.flags &= ~KVM_MEM_LOG_DIRTY_PAGES;
    FT_TRY(put_slot(off));
    FT_TRY(put_slot(slot));
  }
  return Ok{};
}

}  // namespace ft

#include "machine/vcpu_kick.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "core/result.h"

namespace ft {

int kick_signal() {
  return SIGRTMIN + 3;
}

void prepare_kicks() {
  struct sigaction action {};
  action.sa_handler = [](int) {};
  action.sa_flags = SA_RESTART;
  FT_CHECK(sigaction(kick_signal(), &action, nullptr) == 0, "cannot prepare the kick signal");
}

void kick_thread(int tid) {
  // Such signals are queued, in a queue that all processes of the user share; a thread that ended
  // is past being kicked.
  while (syscall(SYS_tgkill, getpid(), tid, kick_signal()) != 0 && errno == EAGAIN) sched_yield();
}

bool take_kick() {
  sigset_t kick;
  sigemptyset(&kick);
  sigaddset(&kick, kick_signal());
  siginfo_t info{};
  const timespec at_once{};
  return sigtimedwait(&kick, &info, &at_once) > 0 && info.si_code == SI_TIMER;
}

bool wait_for_kick() {
  sigset_t kick;
  sigemptyset(&kick);
  sigaddset(&kick, kick_signal());
  siginfo_t info{};
  return sigwaitinfo(&kick, &info) > 0 && info.si_code == SI_TIMER;
}

KickTimer::~KickTimer() {
  reset();
}

void KickTimer::set(int tid, uint64_t interval_ns) {
  if (!made_) {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = kick_signal();
    event._sigev_un._tid = tid;
    FT_CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0, "cannot create the cut timer");
    made_ = true;
  }
  itimerspec spec{};
  spec.it_interval.tv_sec = static_cast<time_t>(interval_ns / 1'000'000'000);
  spec.it_interval.tv_nsec = static_cast<long>(interval_ns % 1'000'000'000);
  spec.it_value = spec.it_interval;
  FT_CHECK(timer_settime(timer_, 0, &spec, nullptr) == 0, "cannot set the cut timer");
}

void KickTimer::reset() {
  if (made_) timer_delete(timer_);
  made_ = false;
}

}  // namespace ft

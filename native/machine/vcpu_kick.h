// How a vCPU's thread is brought out of KVM_RUN: by one signal, which it takes nowhere else.
//
//   whoever wants something: store a flag ─▶ kick()        timer of the thread's own
//                                              └──────┬──────────┘
//                         KVM_RUN ◀── pending? ───────┘  left blocked until KVM_RUN opens to it
//                            └─▶ EINTR ─▶ take_kick() ─▶ the flags are read
//
// The signal is blocked all the time and open only while the kernel is inside KVM_RUN
// (KVM_SET_SIGNAL_MASK), so no handler runs, and a kick that comes a moment before KVM_RUN
// stays pending and brings it back at once: none is lost. Source: api.rst, KVM_SET_SIGNAL_MASK.
// Only a thread that ends opens to it, with a kick perhaps still pending: for that one there is a
// handler, which does nothing.
#pragma once

#include <time.h>

#include <cstdint>

namespace ft {

/// The signal; a real-time one that nothing else in the process uses.
int kick_signal();
/// Makes the signal harmless wherever it is delivered. Before any thread is kicked.
void prepare_kicks();
/// Sends it to a thread of this process. Any thread.
void kick_thread(int tid);
/// Takes one pending kick off the calling thread. True when the thread's own timer sent it.
bool take_kick();
/// Sleeps until a kick comes, and takes it; one that is pending counts. True as for take_kick().
bool wait_for_kick();

/// Kicks a thread again and again.
class KickTimer {
 public:
  KickTimer() = default;
  ~KickTimer();
  KickTimer(const KickTimer&) = delete;
  KickTimer& operator=(const KickTimer&) = delete;

  /// Every `interval_ns` from now on; 0: not any more. `tid` is the same at each call.
  void set(int tid, uint64_t interval_ns);
  /// Deletes the timer; its thread ends.
  void reset();

 private:
  timer_t timer_{};
  bool made_ = false;
};

}  // namespace ft

// The clock that cuts are made by: a timer in the event loop.
//
// Why here and not on the vCPU's thread: a timer there interrupts the guest's CPU and is armed
// again on it, half as much again as the pause itself where interrupts are costly. The event loop
// has to turn for each epoch anyway; and while it does not get to turn, cuts made by the clock
// would only wait for it, so that it is better to let the open epoch grow (the leader's own timer
// bounds it).
#pragma once

#include <uv.h>

#include <cstdint>
#include <functional>

#include "core/unique_fd.h"

namespace ft {

/// Until output is held nobody waits for a cut: during a sync they only have to keep epochs small,
/// and each takes time of both event loops from the pages that are on their way. Cuts that this
/// leaves out are not made up either (Cutter::syncing).
inline constexpr uint32_t kSyncIntervalUs = 4000;

class CutClock {
 public:
  /// `tick` is called on `loop`'s thread, once per turn of the loop in which time was up.
  CutClock(uv_loop_t* loop, std::function<void()> tick);
  ~CutClock();
  CutClock(const CutClock&) = delete;
  CutClock& operator=(const CutClock&) = delete;

  /// Ticks every `interval_us` from now on; 0: not any more. It keeps no process alive.
  void set(uint32_t interval_us);

 private:
  struct Poll;  // outlives the clock until libuv has let go of it

  UniqueFd timer_;
  Poll* poll_;
};

}  // namespace ft

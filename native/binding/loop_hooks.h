// The event loop, seen from the addon: how another thread wakes it, and whether it sleeps at all.
//
//   one round of the loop:   prepare ─▶ poll (sleeps) ─▶ check
//                               │                          │
//     what other threads want:  served              asleep = false; served
//                               asleep = true
//
// A thread that wants the loop stores its wish and then looks at `asleep`; the loop stores `asleep`
// and then looks at the wishes (both in one total order). So a wish is never lost, and it costs a
// system call, on the thread of a vCPU, only when the loop really sleeps. While the loop has work,
// wishes are served where it comes by anyway: before it would sleep.
//
// Busy polling, when asked for: for so long after something happened the loop does not sleep but
// goes round and round. It saves the way into sleep and out again, at the price of a CPU.
//
// Thread: JavaScript's, except LoopWaker::notify().
#pragma once

#include <napi.h>
#include <uv.h>

#include <atomic>
#include <functional>
#include <vector>

namespace ft {

class LoopWaker;

class LoopHooks {
 public:
  /// One for each environment: makes them, and keeps them until its end.
  static void install(Napi::Env env);
  static LoopHooks& of(Napi::Env env);

  /// 0: sleep as usual.
  void set_busy_poll(uint32_t us) { busy_poll_ns_ = uint64_t{us} * 1000; }
  /// Something came: with busy polling, the loop stays awake for a while.
  void note_activity();
  /// Something will come within `us`: whoever brings it shall not have to wake the loop.
  void expect_within_ns(uint64_t ns);

 private:
  friend class LoopWaker;
  explicit LoopHooks(Napi::Env env);
  static void keep(Napi::Env env, LoopHooks* hooks);
  void before_sleep();
  void after_sleep();
  void serve();
  void set_asleep(bool asleep) { asleep_.store(asleep, std::memory_order_seq_cst); }

  uv_loop_t* loop_ = nullptr;
  uv_prepare_t prepare_;
  uv_check_t check_;
  uv_idle_t idle_;    // active: the loop does not sleep
  uv_async_t async_;  // ends the sleep; what is wanted is found in after_sleep()
  std::atomic<bool> asleep_{false};
  std::vector<LoopWaker*> wakers_;
  uint64_t busy_poll_ns_ = 0;
  uint64_t awake_until_ns_ = 0;
};

/// Calls a function on the event loop when another thread wants it; any number of wishes that came
/// since are one call.
class LoopWaker {
 public:
  LoopWaker(Napi::Env env, std::function<void()> on_wake);
  LoopWaker(const LoopWaker&) = delete;
  LoopWaker& operator=(const LoopWaker&) = delete;
  /// On the loop's thread; nobody calls notify() any more.
  ~LoopWaker();

  /// Any thread; does not block.
  void notify();

 private:
  friend class LoopHooks;
  LoopHooks& hooks_;
  std::function<void()> on_wake_;
  std::atomic<bool> wanted_{false};
};

}  // namespace ft

#include "binding/loop_hooks.h"

#include <sched.h>

#include <algorithm>

#include "core/result.h"
#include "core/time_slice.h"
#include "machine/cut.h"

namespace ft {
namespace {

// Others wait for what the event loop does: a cut for its way, a guest for its output. Work that
// takes longer than this is cut into turns of about 2 ms anyway.
constexpr uint32_t kSliceUs = 500;

}  // namespace

// Never freed: the handles belong to the loop for as long as the process runs, and there is one set
// for each environment.
void LoopHooks::keep(Napi::Env, LoopHooks*) {}

void LoopHooks::install(Napi::Env env) {
  (void)use_short_slices(kSliceUs);
  env.SetInstanceData<LoopHooks, keep>(new LoopHooks(env));
}

LoopHooks& LoopHooks::of(Napi::Env env) {
  return *env.GetInstanceData<LoopHooks>();
}

LoopHooks::LoopHooks(Napi::Env env) {
  FT_CHECK(napi_get_uv_event_loop(env, &loop_) == napi_ok, "this environment has no event loop");
  uv_prepare_init(loop_, &prepare_);
  uv_check_init(loop_, &check_);
  uv_idle_init(loop_, &idle_);
  uv_async_init(loop_, &async_, [](uv_async_t*) {});
  prepare_.data = check_.data = this;
  // None of them keeps the process alive.
  for (void* handle : {static_cast<void*>(&prepare_), static_cast<void*>(&check_),
                       static_cast<void*>(&idle_), static_cast<void*>(&async_)}) {
    uv_unref(static_cast<uv_handle_t*>(handle));
  }
  uv_prepare_start(&prepare_,
                   [](uv_prepare_t* h) { static_cast<LoopHooks*>(h->data)->before_sleep(); });
  uv_check_start(&check_, [](uv_check_t* h) { static_cast<LoopHooks*>(h->data)->after_sleep(); });
}

void LoopHooks::note_activity() {
  if (busy_poll_ns_ != 0) expect_within_ns(busy_poll_ns_);
}

void LoopHooks::expect_within_ns(uint64_t ns) {
  awake_until_ns_ = std::max(awake_until_ns_, monotonic_ns() + ns);
}

void LoopHooks::before_sleep() {
  serve();
  if (awake_until_ns_ != 0 && monotonic_ns() < awake_until_ns_) {
    uv_idle_start(&idle_, [](uv_idle_t*) {});
    // Whoever shares this CPU and has work goes first: it may be what is waited for.
    ::sched_yield();
    return;
  }
  awake_until_ns_ = 0;
  uv_idle_stop(&idle_);
  set_asleep(true);
  const bool wanted = std::any_of(wakers_.begin(), wakers_.end(), [](const LoopWaker* waker) {
    return waker->wanted_.load(std::memory_order_seq_cst);
  });
  // Wanted between the serving and the store above, by somebody who saw us awake.
  if (wanted && asleep_.exchange(false)) uv_async_send(&async_);
}

void LoopHooks::after_sleep() {
  set_asleep(false);
  serve();
}

// A function called here may make or end wakers.
void LoopHooks::serve() {
  for (size_t i = 0; i < wakers_.size(); i++) {
    LoopWaker* waker = wakers_[i];
    if (!waker->wanted_.load(std::memory_order_relaxed)) continue;
    if (!waker->wanted_.exchange(false)) continue;
    // What was expected is here.
    awake_until_ns_ = 0;
    note_activity();
    // A copy, since the call may end its own waker.
    const auto on_wake = waker->on_wake_;
    on_wake();
  }
}

LoopWaker::LoopWaker(Napi::Env env, std::function<void()> on_wake)
    : hooks_(LoopHooks::of(env)), on_wake_(std::move(on_wake)) {
  hooks_.wakers_.push_back(this);
}

LoopWaker::~LoopWaker() {
  std::erase(hooks_.wakers_, this);
}

void LoopWaker::notify() {
  wanted_.store(true, std::memory_order_seq_cst);
  if (!hooks_.asleep_.load(std::memory_order_seq_cst)) return;
  // Of several that find the loop asleep, one wakes it.
  if (hooks_.asleep_.exchange(false)) uv_async_send(&hooks_.async_);
}

}  // namespace ft

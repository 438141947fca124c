#include "binding/cut_clock.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <utility>

#include "core/result.h"

namespace ft {

struct CutClock::Poll {
  uv_poll_t handle;
  std::function<void()> tick;
  int fd;
};

CutClock::CutClock(uv_loop_t* loop, std::function<void()> tick)
    : timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) {
  FT_CHECK(timer_.valid(), "cannot create the cut clock");
  poll_ = new Poll{.handle = {}, .tick = std::move(tick), .fd = timer_.get()};
  poll_->handle.data = poll_;
  FT_CHECK(uv_poll_init(loop, &poll_->handle, poll_->fd) == 0, "cannot watch the cut clock");
  const auto on_time = [](uv_poll_t* handle, int, int) {
    auto* poll = static_cast<Poll*>(handle->data);
    uint64_t times;
    if (::read(poll->fd, &times, sizeof(times)) == sizeof(times)) poll->tick();
  };
  FT_CHECK(uv_poll_start(&poll_->handle, UV_READABLE, on_time) == 0, "cannot start the cut clock");
  uv_unref(reinterpret_cast<uv_handle_t*>(&poll_->handle));
}

CutClock::~CutClock() {
  uv_poll_stop(&poll_->handle);
  uv_close(reinterpret_cast<uv_handle_t*>(&poll_->handle),
           [](uv_handle_t* handle) { delete static_cast<Poll*>(handle->data); });
}

void CutClock::set(uint32_t interval_us) {
  itimerspec spec{};
  spec.it_interval.tv_sec = interval_us / 1'000'000;
  spec.it_interval.tv_nsec = static_cast<long>(interval_us % 1'000'000) * 1000;
  spec.it_value = spec.it_interval;
  FT_CHECK(::timerfd_settime(timer_.get(), 0, &spec, nullptr) == 0, "cannot set the cut clock");
}

}  // namespace ft

#include "core/run_within.h"

#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

namespace ft {
namespace {

/// Shared by both, since either may be the last to look.
struct Outcome {
  std::mutex mutex;
  std::condition_variable known;
  std::optional<Status> status;
};

}  // namespace

std::optional<Status> run_within(uint32_t ms_max, std::function<Status()> work) {
  const auto outcome = std::make_shared<Outcome>();
  std::thread([outcome, work = std::move(work)]() mutable {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, nullptr);
    Status status = work();
    work = nullptr;
    const std::lock_guard lock(outcome->mutex);
    outcome->status = std::move(status);
    outcome->known.notify_all();
  }).detach();
  std::unique_lock lock(outcome->mutex);
  outcome->known.wait_for(lock, std::chrono::milliseconds(ms_max),
                          [&] { return outcome->status.has_value(); });
  return outcome->status;
}

}  // namespace ft

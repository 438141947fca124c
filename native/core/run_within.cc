// Work that may never end, on a thread of its own.
#include "core/run_within.h"

#include <pthread.h>
#include <signal.h>

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>

namespace ft {
namespace {

/// Shared by both, since either may be the last to look.
struct Task {
  std::function<Status()> work;
  std::mutex mutex;
  std::condition_variable known;
  std::optional<Status> status;

  void run() {
    Status ended = work();
    work = nullptr;
    const std::lock_guard lock(mutex);
    status = std::move(ended);
    known.notify_all();
  }
};

void* run_aside(void* owned) {
  const std::unique_ptr<std::shared_ptr<Task>> task(static_cast<std::shared_ptr<Task>*>(owned));
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  (*task)->run();
  return nullptr;
}

}  // namespace

std::optional<Status> run_within(const std::function<bool()>& worth_waiting,
                                 std::function<Status()> work) {
  const auto task = std::make_shared<Task>();
  task->work = std::move(work);
  auto shared = std::make_unique<std::shared_ptr<Task>>(task);
  pthread_t thread;
  // std::thread would throw, which ends the process, where the system has no thread to give.
  if (::pthread_create(&thread, nullptr, run_aside, shared.get()) != 0) {
    task->run();
    return task->status;
  }
  static_cast<void>(shared.release());  // the thread's now
  ::pthread_detach(thread);
  std::unique_lock lock(task->mutex);
  constexpr std::chrono::milliseconds kSlice(kWaitSliceMs);
  while (!task->known.wait_for(lock, kSlice, [&] { return task->status.has_value(); })) {
    if (!worth_waiting()) break;
  }
  return task->status;
}

}  // namespace ft

// A pool of threads that take operations from one list and put what has ended into another.
#include "disk/io_threads.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "disk/io_support.h"

namespace ft {
namespace {

constexpr size_t kThreads = 8;

int64_t outcome_of(int64_t result) {
  return result < 0 ? -errno : result;
}

int run(int fd, const IoOp& op) {
  IoProgress progress{op};
  for (;;) {
    int64_t outcome = 0;
    const auto offset = static_cast<off_t>(progress.offset());
    if (op.kind == IoKind::kRead) {
      outcome = outcome_of(::pread(fd, progress.piece(), progress.piece_bytes(), offset));
    } else if (op.kind == IoKind::kFlush) {
      outcome = outcome_of(::fdatasync(fd));
    } else if (op.kind == IoKind::kZero && !progress.write_zeros) {
      outcome = outcome_of(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset,
                                       static_cast<off_t>(op.bytes)));
    } else {
      outcome = outcome_of(::pwrite(fd, progress.piece(), progress.piece_bytes(), offset));
    }
    int error = 0;
    if (progress.advance(outcome, error)) return error;
  }
}

class ThreadEngine : public IoEngine {
 public:
  ThreadEngine(int fd, UniqueFd event) : fd_(fd), event_(std::move(event)) {
    // Signals are for other threads.
    sigset_t all, before;
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    for (size_t i = 0; i < kThreads; i++) threads_.emplace_back([this] { work(); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  ~ThreadEngine() override {
    {
      std::lock_guard lock(mutex_);
      ending_ = true;
    }
    wanted_.notify_all();
    for (auto& thread : threads_) thread.join();
  }

  void submit(const IoOp& op) override {
    std::lock_guard lock(mutex_);
    FT_CHECK(++under_way_ <= kDepth, "more disk operations than the engine takes");
    todo_.push_back(op);
  }

  void start() override { wanted_.notify_all(); }

  void reap(std::vector<IoDone>& out) override {
    drain_event_fd(event_.get());
    std::lock_guard lock(mutex_);
    under_way_ -= static_cast<uint32_t>(done_.size());
    out.insert(out.end(), done_.begin(), done_.end());
    done_.clear();
  }

  int event_fd() const override { return event_.get(); }
  const char* name() const override { return "threads"; }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      wanted_.wait(lock, [this] { return ending_ || !todo_.empty(); });
      if (todo_.empty()) return;  // and ending
      IoOp op = std::move(todo_.front());
      todo_.pop_front();
      lock.unlock();
      const int error = run(fd_, op);
      op.data.reset();
      lock.lock();
      done_.push_back({op.id, error});
      wake();
    }
  }

  const int fd_;
  const UniqueFd event_;
  std::mutex mutex_;
  std::condition_variable wanted_;
  std::deque<IoOp> todo_;
  std::vector<IoDone> done_;
  uint32_t under_way_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

Result<std::unique_ptr<IoEngine>> make_thread_engine(int fd) {
  auto event = make_event_fd();
  if (!event) return event.error();
  return std::unique_ptr<IoEngine>(new ThreadEngine(fd, event.take()));
}

}  // namespace ft

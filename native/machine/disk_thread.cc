// The disk thread.
#include "machine/disk_thread.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace ft {
namespace {

void drain(int event_fd) {
  uint64_t count;
  while (::read(event_fd, &count, sizeof(count)) == sizeof(count)) {
  }
}

}  // namespace

Result<std::unique_ptr<DiskThread>> DiskThread::create(Parts parts) {
  std::unique_ptr<DiskThread> self(new DiskThread(std::move(parts)));
  self->epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  self->wake_ = UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!self->epoll_.valid() || !self->wake_.valid()) {
    return sys_error("FT_ERR_RESOURCES", "cannot make the disk thread's descriptors");
  }
  // A disk's own descriptor is emptied by pump(), the others here.
  std::vector<int> fds = {self->wake_.get()};
  for (const Disk& disk : self->parts_.disks) {
    fds.push_back(disk.queue_event_fd);
    fds.push_back(disk.disk.event_fd());
  }
  for (const int fd : fds) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (::epoll_ctl(self->epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return sys_error("FT_ERR_RESOURCES", "cannot watch a disk's event descriptor");
    }
  }
  return self;
}

DiskThread::~DiskThread() {
  stop();
}

void DiskThread::start() {
  FT_CHECK(!thread_.joinable(), "the disk thread is started twice");
  thread_ = std::thread([this] { loop(); });
}

void DiskThread::ask_to_stop() {
  stop_.store(true);
  wake();
}

void DiskThread::stop() {
  if (!thread_.joinable()) return;
  ask_to_stop();
  thread_.join();
}

void DiskThread::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof(one));
}

void DiskThread::drain_events() {
  drain(wake_.get());
  for (const Disk& disk : parts_.disks) drain(disk.queue_event_fd);
}

void DiskThread::loop() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  epoll_event event;
  while (!stop_.load()) {
    ::epoll_wait(epoll_.get(), &event, 1, -1);
    // Emptied before anything is looked at: what comes meanwhile is told of again.
    drain_events();
    bool more = true;
    while (more && !stop_.load()) {
      more = false;
      for (size_t i = 0; i < work_.size(); i++) {
        parts_.disks[i].disk.pump(work_[i].done);
        if (serve(i)) more = true;
      }
    }
  }
}

// One batch of one device under the machine lock. True when there is more to do: for this device,
// or for the disk that it gave something to.
bool DiskThread::serve(size_t index) {
  Work& work = work_[index];
  VirtioBlk& device = parts_.disks[index].device;
  while (parts_.cut_waits()) std::this_thread::yield();
  const std::lock_guard lock(parts_.machine_lock);
  if (parts_.frozen()) return false;  // wake() follows when the cut is encoded
  uint32_t copied = 0;
  while (work.next < work.done.size() && copied < kBatchBytes) {
    DiskCompletion& done = work.done[work.next++];
    copied += device.complete(done);
    done.data.reset();
  }
  bool more = work.next < work.done.size();
  if (!more) {
    work.done.clear();
    work.next = 0;
  }
  const uint64_t submitted = device.facts().submitted;
  if (copied < kBatchBytes && device.serve(kBatchBytes - copied)) more = true;
  if (copied >= kBatchBytes) more = true;
  device.signal();
  return more || device.facts().submitted != submitted;
}

}  // namespace ft

#include "machine/io_thread.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

namespace ft {
namespace {
// Frames moved per hold of the machine lock: a cut waits at most for these.
constexpr uint32_t kBatchFrames = 16;

void drain(int event_fd) {
  uint64_t count;
  while (::read(event_fd, &count, sizeof(count)) == sizeof(count)) {
  }
}
}  // namespace

Result<std::unique_ptr<IoThread>> IoThread::create(Parts parts) {
  std::unique_ptr<IoThread> io(new IoThread(std::move(parts)));
  io->epoll_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  io->wake_ = UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!io->epoll_.valid() || !io->wake_.valid()) {
    return sys_error("FT_ERR_RESOURCES", "cannot make the I/O thread's descriptors");
  }
  for (const int fd : {io->wake_.get(), io->parts_.rx_event_fd, io->parts_.tx_event_fd}) {
    epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
    if (::epoll_ctl(io->epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return sys_error("FT_ERR_RESOURCES", "cannot watch a queue's event descriptor");
    }
  }
  return io;
}

IoThread::~IoThread() {
  stop();
}

void IoThread::start() {
  FT_CHECK(!thread_.joinable(), "the I/O thread is started twice");
  // Frames that piled up on the interface before this host was active are not for this guest's
  // present; a client asks again.
  while (true) {
    const auto stale = parts_.tap.read_frame(frame_);
    if (!stale.ok() || stale.value() == 0) break;
  }
  watch_tap(true);
  thread_ = std::thread([this] { loop(); });
}

void IoThread::stop() {
  if (!thread_.joinable()) return;
  stop_.store(true);
  wake();
  thread_.join();
}

void IoThread::wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof(one));
}

void IoThread::watch_tap(bool on) {
  if (on == tap_watched_) return;
  epoll_event event{.events = EPOLLIN, .data = {.fd = parts_.tap.fd()}};
  const int operation = on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL;
  FT_CHECK(::epoll_ctl(epoll_.get(), operation, parts_.tap.fd(), &event) == 0,
           "cannot watch the TAP");
  tap_watched_ = on;
}

void IoThread::loop() {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  epoll_event events[4];
  while (!stop_.load()) {
    const int n = ::epoll_wait(epoll_.get(), events, 4, -1);
    bool transmit_due = false;
    bool receive_due = false;
    for (int i = 0; i < n; i++) {
      const int fd = events[i].data.fd;
      if (fd != parts_.tap.fd()) drain(fd);
      if (fd == wake_.get() || fd == parts_.tx_event_fd) transmit_due = true;
      if (fd != parts_.tx_event_fd) receive_due = true;
    }
    if (stop_.load()) break;
    // Nothing touches guest memory between an overrun cut and the end of its encoding; wake()
    // follows, and everything is looked at again.
    if (transmit_due) transmit();
    if (receive_due) receive();
  }
}

void IoThread::transmit() {
  while (true) {
    uint32_t taken = 0;
    bool cut = false;
    {
      const std::lock_guard lock(parts_.machine_lock);
      if (parts_.cutter.frozen()) return;
      taken = parts_.net.process_tx(kBatchFrames);
      cut = taken > 0 && parts_.cutter.output_wants_cut();
    }
    if (cut) parts_.request_cut();
    if (taken > 0 && parts_.outbox.over_limit()) parts_.recheck_limits();
    if (taken < kBatchFrames) return;
  }
}

void IoThread::receive() {
  const std::lock_guard lock(parts_.machine_lock);
  if (parts_.cutter.frozen()) {
    watch_tap(false);
    return;
  }
  uint32_t delivered = 0;
  bool room = parts_.net.rx_ready();
  while (room && delivered < kBatchFrames) {
    if (pending_bytes_ == 0) {
      const auto bytes = parts_.tap.read_frame(frame_);
      if (!bytes.ok()) {
        watch_tap(false);
        parts_.on_error(bytes.error());
        return;
      }
      if (bytes.value() == 0) break;
      pending_bytes_ = bytes.value();
    }
    const auto delivery = parts_.net.deliver({frame_, pending_bytes_}, true);
    room = delivery != VirtioNet::Delivery::kNoBuffer;
    if (room) {
      pending_bytes_ = 0;
      delivered++;
    }
  }
  if (delivered > 0) parts_.net.signal_rx();
  // Without a receive buffer the TAP is left alone; its queue fills and drops, as a wire would. The
  // guest's next RX notification starts it again.
  watch_tap(room);
}

}  // namespace ft

// The I/O thread: moves frames between the TAP, the virtio queues and the outbox.
//
//   epoll { TAP readable · TX ioeventfd · RX ioeventfd · wake }
//     TX notified   → frames into the outbox's open segment; perhaps ask for a cut
//     TAP readable  → frames into receive buffers, as long as the guest has some
//     RX notified   → the guest has buffers again: poll the TAP again
//
// Work is done in short batches under the machine lock, because a cut waits for that lock.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

#include "core/unique_fd.h"
#include "machine/cut.h"
#include "machine/tap.h"
#include "machine/virtio_mmio.h"
#include "machine/virtio_net.h"

namespace ft {

class IoThread {
 public:
  struct Parts {
    Tap& tap;
    VirtioMmio& transport;
    VirtioNet& net;
    Cutter& cutter;
    Outbox& outbox;
    std::mutex& machine_lock;
    int rx_event_fd;
    int tx_event_fd;
    /// Output waits and nothing is in flight: cut now. Called without the machine lock.
    std::function<void()> request_cut;
    /// The outbox is over its limit: the guest must be stopped until there is room.
    std::function<void()> recheck_limits;
    /// The TAP is gone. Called once.
    std::function<void(const Error&)> on_error;
  };

  static Result<std::unique_ptr<IoThread>> create(Parts parts);
  ~IoThread();

  void start();
  void stop();
  /// The cut that froze devices was encoded: look at everything again. Any thread.
  void wake();

 private:
  explicit IoThread(Parts parts) : parts_(std::move(parts)) {}
  void loop();
  void transmit();
  void receive();
  void watch_tap(bool on);

  Parts parts_;
  UniqueFd epoll_;
  UniqueFd wake_;
  std::thread thread_;
  std::atomic<bool> stop_{false};
  bool tap_watched_ = false;
  size_t pending_bytes_ = 0;  // a frame that found no receive buffer waits in frame_
  uint8_t frame_[kFrameBytesMax + 1];
};

}  // namespace ft

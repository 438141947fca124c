// The disk thread: moves requests from the guest's rings to the disks, and what the disks finished
// back to the rings.
//
//   epoll { wake · per disk: queue ioeventfd, ReplicatedDisk's event }
//     pump each disk          end and issue operations          no lock of the machine's
//     serve each device       complete, take and start          machine lock, ≤ 128 KiB copied a
//     time until neither finds anything to do
//
// It runs from before the guest does until after it ended: on a standby it carries out what epochs
// bring, and a device without a running driver simply has nothing for it.
//
// A cut waits for the machine lock. So the lock is given up after every batch, and not taken again
// while a cut waits for it (a mutex alone would let this thread win every race).
#pragma once

#include <atomic>
#include <mutex>
#include <thread>
#include <vector>

#include "core/result.h"
#include "core/unique_fd.h"
#include "disk/replicated_disk.h"
#include "machine/cut.h"
#include "machine/virtio_blk.h"

namespace ft {

class DiskThread {
 public:
  /// One disk and the device in front of it; both outlive the thread.
  struct Disk {
    ReplicatedDisk& disk;
    VirtioBlk& device;
    int queue_event_fd;
  };
  struct Parts {
    std::vector<Disk> disks;
    std::mutex& machine_lock;
    /// Nothing touches guest memory between an overrun cut and the end of its encoding.
    std::function<bool()> frozen;
    /// A cut waits for the machine lock.
    std::function<bool()> cut_waits;
  };

  /// Bytes copied, about, in one hold of the machine lock.
  static constexpr uint32_t kBatchBytes = 128 * 1024;

  /// Error: FT_ERR_RESOURCES.
  static Result<std::unique_ptr<DiskThread>> create(Parts parts);
  ~DiskThread();

  void start();
  /// The thread ends as soon as the storage lets it; what is under way in the disks runs on.
  void ask_to_stop();
  /// The same, and waits for it.
  void stop();
  /// There may be something to do that no descriptor tells of. Any thread.
  void wake();

 private:
  struct Work {
    std::vector<DiskCompletion> done;
    size_t next = 0;  // of done: the first that the device has not had
  };

  explicit DiskThread(Parts parts) : parts_(std::move(parts)), work_(parts_.disks.size()) {}
  void loop();
  void drain_events();
  bool serve(size_t index);

  Parts parts_;
  std::vector<Work> work_;
  UniqueFd epoll_;
  UniqueFd wake_;
  std::thread thread_;
  std::atomic<bool> stop_{false};
};

}  // namespace ft

// One disk of the guest, on either side: puts operations in order, keeps the log that the next
// epoch carries, and syncs the peer's image while the guest writes.
//
//   active side                                               standby
//   virtio-blk ─submit─▶ waiting ─issue─▶ engine ─▶ done      epoch ─verify: mark─▶ ack
//                           │  └ append to the open log            └apply─▶ waiting ─issue─▶ engine
//   sync regions ─read─▶ append to the open log
//                cut: take_log ─▶ slot ─▶ wire
//
// Order. Operations that overlap are issued one after the other, in the order in which they were
// submitted; a flush waits for every write before it. A write enters the log when it is issued, not
// when it is submitted, and a region read for the sync holds off overlapping writes until its data
// is in the log. So the order of overlapping records in the log is their order on this disk, and a
// standby that applies the log in order ends with the same bytes.
//
// What an epoch means. A write whose completion the guest has seen at a cut was issued before it,
// so it is in the log of that epoch or an earlier one. A request that the guest has posted and not
// seen completed is in the device's list of unfinished requests (virtio_blk.h) and is done again by
// the side that resumes; doing a write twice leaves the same bytes.
//
// Nothing grows without bound: the open log takes kLogBytesMax, then operations wait for the next
// cut; the standby's backlog is reported and acknowledgements wait for it.
//
// Locks: one mutex of its own, innermost (may be taken under the machine lock, takes none).
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "disk/disk_image.h"
#include "disk/io_engine.h"
#include "disk/region_map.h"

namespace ft {

/// What the standby must do to its image, in order.
struct DiskRecord {
  IoKind kind = IoKind::kFlush;  // kWrite, kZero or kFlush
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::shared_ptr<IoBuffer> data;  // kWrite: exactly `bytes` bytes
};

struct DiskCompletion {
  uint64_t cookie;
  int error;                       // 0 or an errno
  std::shared_ptr<IoBuffer> data;  // a read's bytes
};

class ReplicatedDisk {
 public:
  static constexpr uint64_t kLogBytesMax = 16ull << 20;

  struct Facts {
    uint64_t reads = 0, writes = 0, flushes = 0, zeroes = 0;
    uint64_t bytes_read = 0, bytes_written = 0;
    uint64_t errors = 0;
    uint64_t regions_marked = 0;
    uint64_t sync_bytes = 0;  // sent for the sync of this session
    uint64_t sync_regions_left = 0;
    uint64_t backlog_bytes = 0;  // submitted or applied, not yet in the image
  };

  struct Hooks {
    /// The log is half full: a cut would help. Any thread; must not block.
    std::function<void()> on_log_pressure;
    /// Every region of the sync is in the log (the next cut carries the last of it). Disk thread.
    std::function<void()> on_synced;
    /// An applied record could not be written: this image is no copy any more. Disk thread, once.
    std::function<void(const Error&)> on_apply_failed;
  };

  /// `map_path` empty: no map on disk. Errors: those of the engine and the map.
  static Result<std::unique_ptr<ReplicatedDisk>> create(DiskImage image,
                                                        const std::string& map_path, Hooks hooks);
  /// Waits for what is under way.
  ~ReplicatedDisk();

  const DiskImage& image() const { return image_; }

  // ── the device ──
  /// Takes a request. Bounds were checked by the caller. Any thread.
  void submit(IoKind kind, uint64_t offset, uint64_t bytes, std::shared_ptr<IoBuffer> data,
              uint64_t cookie);
  /// Ends and issues what can be; adds the device's completions to `out`. Disk thread only.
  void pump(std::vector<DiskCompletion>& out);
  /// Readable when pump() has something to do.
  int event_fd() const;

  // ── the active side's replication; event loop, but take_log on the cutting thread ──
  /// Starts logging and syncing. With `peer_map` (same syncId, same size as ours) only the regions
  /// marked in either map are sent, else all of the image, its holes as zeroes.
  void begin_replication(const std::vector<uint8_t>* peer_map);
  void end_replication();
  /// Moves the open log into `out` (empty before). `epoch` is the one being cut.
  void take_log(uint64_t epoch, std::vector<DiskRecord>& out);
  /// The peer holds everything up to `epoch`.
  void acked(uint64_t epoch);
  bool synced() const;
  double sync_progress() const;  // 0…1
  /// Both images are in step from here on (base epoch acknowledged, or held).
  void in_step(const std::string& sync_id);

  // ── the standby; event loop ──
  /// A sync from a primary with `peer_sync_id` begins. When it is ours, returns our map; otherwise
  /// forgets our syncId, since the image is about to become a mixture, and returns nothing.
  std::vector<uint8_t> begin_sync(const std::string& peer_sync_id);
  /// A record of a verified body is about to be acknowledged: marks its regions.
  void promise(const DiskRecord& record);
  /// Puts a record of a whole epoch in line. Its data is owned by the record.
  void apply(DiskRecord record);

  std::string sync_id() const;
  Facts facts() const;
  /// Waits until nothing is under way, flushes, and closes the map cleanly.
  Status close();

 private:
  // Left to the implementation.
};

}  // namespace ft

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
// Nothing grows without bound: the open log takes kLogBytesMax, then writes wait for the next cut
// (reads go on); while a sync runs, the guest and the sync have one half of it each, so that
// neither starves the other. The standby's backlog is reported and acknowledgements wait for it.
//
//   mode     solo ──begin_replication──▶ replicating ──end_replication──▶ solo
//            any  ──begin_sync─────────▶ standby ──the device's first write──▶ solo
//
// What is issued while replicating is in the log, whoever submitted it and when: a standby that was
// promoted may still have records to apply when it begins to replicate. Its sync is not through
// before all of them are issued, for the guest takes them for written.
//
// Locks: one mutex of its own, innermost (may be taken under the machine lock, takes none).
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/result.h"
#include "disk/disk_image.h"
#include "disk/disk_sync.h"
#include "disk/io_engine.h"
#include "disk/op_window.h"
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
  /// What a record counts for in the log besides its data: records without data are bounded too.
  static constexpr uint64_t kRecordBytes = 64;

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
    /// There is an apply_failure(). Disk thread, once.
    std::function<void()> on_apply_failed;
    /// There is a sync_failure(). Disk thread, once a sync.
    std::function<void()> on_sync_failed;
  };

  /// `map_path` empty: no map on disk. Errors: those of the engine and the map.
  static Result<std::unique_ptr<ReplicatedDisk>> create(DiskImage image,
                                                        const std::string& map_path, Hooks hooks);
  /// The same with an engine of the caller's choice, made for image.fd().
  static Result<std::unique_ptr<ReplicatedDisk>> create(DiskImage image,
                                                        const std::string& map_path, Hooks hooks,
                                                        std::unique_ptr<IoEngine> engine);
  /// Waits for what is under way.
  ~ReplicatedDisk();

  const DiskImage& image() const { return image_; }
  const char* engine_name() const { return engine_->name(); }

  // ── the device ──
  /// Takes a request. Bounds were checked by the caller. Any thread. kWrite needs data of `bytes`
  /// bytes, kRead may bring the buffer to read into.
  void submit(IoKind kind, uint64_t offset, uint64_t bytes, std::shared_ptr<IoBuffer> data,
              uint64_t cookie);
  /// Ends and issues what can be; adds the device's completions to `out`. Disk thread only.
  void pump(std::vector<DiskCompletion>& out);
  /// Readable when pump() has something to do.
  int event_fd() const;

  // ── the active side's replication; event loop, but take_log on the cutting thread ──
  /// Starts logging and syncing. With `peer_map` (same syncId, same size as ours) only the regions
  /// marked in either map are sent, else all of the image, its holes as zeroes. All of it too when
  /// our own syncId was forgotten since the handshake, because a flush failed.
  void begin_replication(const std::vector<uint8_t>* peer_map);
  void end_replication();
  /// Moves the open log into `out` (empty before), whose memory is used again. `epoch` is the one
  /// being cut.
  void take_log(uint64_t epoch, std::vector<DiskRecord>& out);
  /// The peer holds everything up to `epoch`.
  void acked(uint64_t epoch);
  bool synced() const;
  double sync_progress() const;  // 0…1
  /// Both images are in step from here on (base epoch acknowledged, or held). On a standby every
  /// record up to the base epoch has been promised before. Does nothing when the session has ended
  /// or the guest runs here already.
  void in_step(const std::string& sync_id);

  // ── the standby; event loop ──
  /// A sync from a primary with `peer_sync_id` begins. When it is ours, returns our map; otherwise
  /// forgets our syncId, since the image is about to become a mixture, and returns nothing. Records
  /// that were promised earlier are applied before this call or never. Requests of the device that
  /// were not issued yet end with ECANCELED: their guest is gone.
  std::vector<uint8_t> begin_sync(const std::string& peer_sync_id);
  /// A record of a verified body is about to be acknowledged: marks its regions.
  void promise(const DiskRecord& record);
  /// Puts a record of a whole epoch in line. Its data is owned by the record.
  void apply(DiskRecord record);

  // ── what failed; any thread ──
  // A hook may be heard of late, when another session has begun. These speak of the one that goes
  // on.
  /// An applied record could not be written: this image is no copy any more, until begin_sync().
  std::optional<Error> apply_failure() const;
  /// A region could not be read for the sync, which cannot end now: synced() stays false until
  /// another begin_replication().
  std::optional<Error> sync_failure() const;

  std::string sync_id() const;
  Facts facts() const;
  /// facts().backlog_bytes alone, which costs little.
  uint64_t backlog_bytes() const {
    const std::lock_guard lock(mutex_);
    return facts_.backlog_bytes;
  }
  /// Whether the storage still does something, for whoever waits for close(). A flush may take long
  /// and shows nothing until it has ended.
  struct Movement {
    uint64_t ended = 0;  // operations, so far
    bool flushing = false;
  };
  /// Any thread; waits for nothing, whatever hangs.
  Movement movement() const { return {ended_.load(), flushes_under_way_.load() > 0}; }
  /// Waits until nothing is under way, flushes, and closes the map cleanly. The disk thread has
  /// ended before. Error: FT_ERR_DISK_IO, FT_ERR_DISK_MAP; the next sync is then in full.
  Status close();

 private:
  enum class Mode : uint8_t { kSolo, kReplicating, kStandby };
  /// What pump() has to tell once it holds no lock.
  struct News {
    bool pressure = false;
    bool synced = false;
    bool apply_failed = false;
    bool sync_failed = false;
  };
  static constexpr uint32_t kSyncStepsMax = 8;      // with a guest that asks nothing of the disk
  static constexpr uint32_t kSyncStepsMaxBusy = 2;  // beside a guest's requests
  static constexpr uint64_t kSyncLogBytesMax = kLogBytesMax / 2;

  ReplicatedDisk(DiskImage image, RegionMap map, Hooks hooks, std::unique_ptr<IoEngine> engine);

  /// What an operation counts for in the log and the backlog.
  static uint64_t cost_of(const DiskOp& op);
  uint64_t backlog_of(const DiskOp& op) const;

  // replicated_disk.cc: the queue. All but pump's own parts need the lock.
  void kick();
  void enter_waiting();
  void enter_sync_steps();
  void issue_ready(std::vector<DiskCompletion>& out, News& news);
  void issue(uint32_t slot);
  void settle(const IoDone& done, std::vector<DiskCompletion>& out, News& news);
  void settle_failed(const DiskOp& op, int error, News& news);
  void find_zeroes();
  bool run_scans(News& news);
  void tell(const News& news);

  // disk_replication.cc: log, marks, sync.
  bool log_has_room(uint64_t cost) const;
  void log(DiskRecord record);
  void clear_log();
  void note_write(DiskOp& op);
  void uncount(const DiskOp& op);
  void try_retire();
  void turn_standby();
  void settle_sync_read(DiskOp op, int error, News& news);
  void settle_scan(uint32_t slot, const Result<DataExtent>& found, News& news);
  void fail_sync(const Error& error, News& news);

  const DiskImage image_;
  const Hooks hooks_;
  mutable std::mutex mutex_;
  RegionMap map_;
  Mode mode_ = Mode::kSolo;
  Facts facts_;
  std::atomic<uint64_t> ended_{0};
  std::atomic<uint32_t> flushes_under_way_{0};
  bool kicked_ = false;  // the engine's eventfd was made readable since the last pump

  std::deque<DiskOp> waiting_;  // submitted, not in the window yet
  OpWindow window_;             // changed by the disk thread only
  uint64_t next_sequence_ = 1;  // of submission
  uint64_t device_from_ = 0;    // requests of the device before this one belong to a guest gone
  uint32_t device_under_way_ = 0;
  uint64_t records_waiting_ = 0;  // applied and not issued yet

  std::vector<DiskRecord> log_;
  uint64_t guest_logged_ = 0, sync_logged_ = 0;  // bytes in the open log
  uint64_t sync_reserved_ = 0;                   // room for the steps under way
  bool waits_for_cut_ = false;                   // something found no room in the log
  bool pressure_told_ = false;

  DiskSync sync_;
  bool synced_ = false;
  uint8_t generation_ = 0;          // parity of the map's newer marks
  uint64_t unsettled_[2] = {0, 0};  // writes under way, by parity
  uint64_t older_epoch_ = 0;        // replicating: carries the last of the older marks
  uint64_t acked_epoch_ = 0;
  uint64_t promised_ = 0, applied_ = 0;                // standby: writes of this session
  bool distrusted_ = false;                            // a flush failed in this session
  std::optional<Error> apply_failure_, sync_failure_;  // of this session, told

  // Of the disk thread alone.
  std::vector<IoDone> done_;
  std::vector<IoOp> batch_;
  std::vector<uint32_t> scans_;
  std::unique_ptr<IoEngine> engine_;  // last: its end waits for what uses the rest
};

}  // namespace ft

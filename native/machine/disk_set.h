// The guest's disks on this host, as one: opened, replicated, applied and closed together.
//
//   VirtioBlk ──▶ ReplicatedDisk 0…3 ──take_logs──▶ EpochSlot            active side
//   ImageApplier ──targets──▶ ReplicatedDisk 0…3 ──▶ images              standby
//
// A read-only disk has no part in replication: nothing of it is logged, synced or applied, and it
// is always in step (the handshake compares what both hosts have).
//
// Threads: as said in disk/replicated_disk.h for each call; the hooks come from the disk thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "disk/replicated_disk.h"
#include "machine/disk_records.h"

namespace ft {

/// One disk as the operator names it.
struct DiskOptions {
  std::string path;
  bool read_only = false;
  std::string map_path;  // empty: every resync is in full
  /// For tests: another engine than IoEngine::create's, made for this descriptor.
  std::function<std::unique_ptr<IoEngine>(int fd)> make_engine = {};
};

class DiskSet {
 public:
  /// What both hosts must have alike.
  struct Description {
    uint64_t bytes = 0;
    bool read_only = false;
    uint32_t fingerprint = 0;  // of a read-only one
  };
  struct Hooks {
    /// A log is half full: a cut would help. Any thread; must not block.
    std::function<void()> on_log_pressure;
    /// synced() became true. Disk thread.
    std::function<void()> on_synced;
    /// A disk has an apply_failure(). Disk thread.
    std::function<void()> on_apply_failed;
    /// A disk has a sync_failure(). Disk thread.
    std::function<void()> on_sync_failed;
  };
  /// A disk's map of regions that may differ from the peer's; nothing: they may all.
  using Maps = std::vector<std::optional<std::vector<uint8_t>>>;

  /// Errors: those of DiskImage::open and ReplicatedDisk::create.
  static Result<std::unique_ptr<DiskSet>> create(std::span<const DiskOptions> options, Hooks hooks);

  size_t count() const { return disks_.size(); }
  ReplicatedDisk& disk(size_t index) { return *disks_[index]; }
  const ReplicatedDisk& disk(size_t index) const { return *disks_[index]; }
  const std::vector<Description>& descriptions() const { return descriptions_; }

  // The active side.
  void begin_replication(const Maps& peer_maps);
  void end_replication();
  /// Moves every open log into `logs`, by disk. Under the machine lock, in the cut; takes no time
  /// that depends on what was written.
  void take_logs(uint64_t epoch, DiskLogs& logs);
  void acked(uint64_t epoch);
  bool synced() const;
  double sync_progress() const;  // 0…1, the slowest disk's

  // The standby.
  /// A failure of an earlier session is forgotten: what is about to come makes up for it.
  Maps begin_sync(std::span<const std::string> peer_sync_ids);
  /// Where an applier sends the records. They belong to this object.
  std::vector<DiskTarget> targets();
  uint64_t backlog_bytes() const;

  // Either side.
  /// ReplicatedDisk::apply_failure() of the first disk that has one. Any thread.
  std::optional<Error> apply_failure() const;
  /// ReplicatedDisk::sync_failure() of the first disk that has one. Any thread.
  std::optional<Error> sync_failure() const;
  std::vector<std::string> sync_ids() const;
  void in_step(const std::string& session);
  /// ReplicatedDisk::movement() of all disks. Any thread; waits for nothing, whatever hangs.
  ReplicatedDisk::Movement movement() const;
  /// Waits for what is under way, flushes and closes the maps. The disk thread has ended. All disks
  /// are closed whatever happens; the first error of one is returned. Once.
  Status close();

 private:
  explicit DiskSet(Hooks hooks) : hooks_(std::move(hooks)) {}
  Status add(const DiskOptions& options);
  bool replicated(size_t index) const { return !descriptions_[index].read_only; }

  const Hooks hooks_;
  std::vector<Description> descriptions_;
  std::vector<std::unique_ptr<ReplicatedDisk>> disks_;
};

}  // namespace ft

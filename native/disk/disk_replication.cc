// What replication adds to the queue of a disk: the log that the next epoch carries, the marks of
// what the peer may lack, and the sync of the peer's image. The argument behind the marks is in
// region_map.h; here is where it is kept true.
#include <algorithm>

#include "disk/replicated_disk.h"

namespace ft {
namespace {

/// Neighbouring zero records are joined up to here.
constexpr uint64_t kZeroBytesMax = 64ull << 20;

}  // namespace

// ── the log ──

bool ReplicatedDisk::log_has_room(uint64_t cost) const {
  const bool sync_runs = sync_.active() && !sync_.finished();
  const uint64_t limit = sync_runs ? kLogBytesMax - kSyncLogBytesMax : kLogBytesMax;
  // One that is larger than the limit goes alone.
  return guest_logged_ == 0 || guest_logged_ + cost <= limit;
}

void ReplicatedDisk::log(DiskRecord record) {
  if (record.kind == IoKind::kZero && !log_.empty()) {
    DiskRecord& last = log_.back();
    if (last.kind == IoKind::kZero && last.offset + last.bytes == record.offset &&
        last.bytes + record.bytes <= kZeroBytesMax) {
      last.bytes += record.bytes;
      return;
    }
  }
  log_.push_back(std::move(record));
}

void ReplicatedDisk::clear_log() {
  log_.clear();
  guest_logged_ = sync_logged_ = sync_reserved_ = 0;
  waits_for_cut_ = pressure_told_ = false;
}

void ReplicatedDisk::take_log(uint64_t epoch, std::vector<DiskRecord>& out) {
  FT_CHECK(out.empty(), "the last epoch's log was not used up");
  std::lock_guard lock(mutex_);
  if (mode_ != Mode::kReplicating) return;
  out.swap(log_);
  guest_logged_ = sync_logged_ = 0;
  pressure_told_ = false;
  // Every write that is marked so far is in the log of this epoch or an earlier one: a write is
  // marked and logged in one step.
  if (map_.older_empty() && !map_.newer_empty()) {
    map_.rotate();
    generation_ ^= 1;
    older_epoch_ = epoch;
  }
  if (waits_for_cut_) {
    waits_for_cut_ = false;
    kick();
  }
}

// ── the marks ──

/// A write is about to be issued.
void ReplicatedDisk::note_write(DiskOp& op) {
  if (mode_ == Mode::kStandby) {
    // A record of the primary's: its region was marked when it was promised, and it was counted
    // when it was put in line.
    if (op.origin == OpOrigin::kApply) return;
    // The guest runs here now. From its first write on nothing is unmarked any more.
    mode_ = Mode::kSolo;
    map_.collect();
  }
  uncount(op);
  map_.mark(op.offset, op.bytes);
  op.counted = true;
  op.generation = generation_;
  unsettled_[generation_]++;
}

void ReplicatedDisk::uncount(const DiskOp& op) {
  if (!op.counted) return;
  FT_CHECK(unsettled_[op.generation] > 0, "a write settled that was not counted");
  unsettled_[op.generation]--;
}

void ReplicatedDisk::try_retire() {
  // After a session has ended, a counter may still hold writes of marks that are legacy by now.
  // That delays a retirement and never hastens one.
  if (map_.older_empty() || unsettled_[generation_ ^ 1] != 0) return;
  if (mode_ == Mode::kReplicating && acked_epoch_ < older_epoch_) return;
  map_.retire();
  turn_standby();
}

/// The standby's generations turn when everything promised has been put in line, so that every
/// mark of the generation has its write counted.
void ReplicatedDisk::turn_standby() {
  if (mode_ != Mode::kStandby || promised_ != applied_) return;
  if (!map_.older_empty() || map_.newer_empty()) return;
  map_.rotate();
  generation_ ^= 1;
  if (unsettled_[generation_ ^ 1] == 0) map_.retire();
}

void ReplicatedDisk::acked(uint64_t epoch) {
  std::lock_guard lock(mutex_);
  if (mode_ != Mode::kReplicating) return;
  acked_epoch_ = std::max(acked_epoch_, epoch);
  try_retire();
}

void ReplicatedDisk::in_step(const std::string& sync_id) {
  std::lock_guard lock(mutex_);
  // The session may have ended, or this side may have been promoted, before the word came: then
  // the syncIds differ, and the next sync is in full.
  if (mode_ == Mode::kSolo) return;
  FT_CHECK(mode_ != Mode::kReplicating || synced_, "in step before the sync was through");
  if (distrusted_) {
    map_.forget_sync();
  } else {
    map_.in_step(sync_id);
  }
}

// ── the active side ──

void ReplicatedDisk::begin_replication(const std::vector<uint8_t>* peer_map) {
  std::lock_guard lock(mutex_);
  map_.collect();
  clear_log();
  mode_ = Mode::kReplicating;
  synced_ = distrusted_ = false;
  sync_failure_.reset();
  older_epoch_ = acked_epoch_ = 0;
  facts_.sync_bytes = 0;
  auto wanted = map_.snapshot();
  if (image_.read_only()) {
    std::fill(wanted.begin(), wanted.end(), 0);
  } else if (peer_map != nullptr && peer_map->size() == wanted.size() && !map_.sync_id().empty()) {
    for (size_t i = 0; i < wanted.size(); i++) wanted[i] |= (*peer_map)[i];
  } else {
    std::fill(wanted.begin(), wanted.end(), 0xff);
  }
  sync_.begin(image_.bytes(), map_.region_bytes(), wanted);
  kick();
}

void ReplicatedDisk::end_replication() {
  std::lock_guard lock(mutex_);
  if (mode_ != Mode::kReplicating) return;
  map_.collect();
  clear_log();
  sync_.cancel();
  mode_ = Mode::kSolo;
  synced_ = false;
  kick();
}

bool ReplicatedDisk::synced() const {
  std::lock_guard lock(mutex_);
  return synced_;
}

double ReplicatedDisk::sync_progress() const {
  std::lock_guard lock(mutex_);
  return sync_.progress();
}

void ReplicatedDisk::settle_sync_read(DiskOp op, int error, News& news) {
  if (mode_ != Mode::kReplicating || op.sequence != sync_.number() || !sync_.active()) return;
  if (error != 0) {
    fail_sync(Error{"FT_ERR_DISK_IO", error,
                    "The disk image " + image_.path() + " cannot be read at byte " +
                        std::to_string(op.offset) + ": " + std::strerror(error) +
                        ". Until it can be, the peer cannot be given a copy of this disk."},
              news);
    return;
  }
  const uint64_t cost = kRecordBytes + op.bytes;
  sync_reserved_ -= cost;
  sync_logged_ += op.data == nullptr ? kRecordBytes : cost;
  facts_.sync_bytes += op.bytes;
  sync_.has_read({false, op.offset, op.bytes});
  log({op.data == nullptr ? IoKind::kZero : IoKind::kWrite, op.offset, op.bytes,
       std::move(op.data)});
}

void ReplicatedDisk::settle_scan(uint32_t slot, const Result<DataExtent>& found, News& news) {
  const DiskOp op = window_.leave(slot);
  if (mode_ != Mode::kReplicating || op.sequence != sync_.number() || !sync_.active()) return;
  if (!found) return fail_sync(found.error(), news);
  const DataExtent& extent = found.value();
  sync_reserved_ -= kRecordBytes;
  if (extent.hole_end > op.offset) {
    const uint64_t bytes = extent.hole_end - op.offset;
    sync_logged_ += kRecordBytes;
    facts_.sync_bytes += bytes;
    log({IoKind::kZero, op.offset, bytes, nullptr});
  }
  sync_.scanned({true, op.offset, op.bytes}, extent.hole_end, extent.data_end);
}

/// The rest of the sync would be of no use.
void ReplicatedDisk::fail_sync(const Error& error, News& news) {
  facts_.errors++;
  sync_reserved_ = 0;
  sync_.cancel();
  sync_failure_ = error;
  news.sync_failed = true;
}

// ── the standby ──

std::vector<uint8_t> ReplicatedDisk::begin_sync(const std::string& peer_sync_id) {
  std::lock_guard lock(mutex_);
  map_.collect();
  clear_log();
  sync_.cancel();
  mode_ = Mode::kStandby;
  synced_ = distrusted_ = false;
  apply_failure_.reset();
  promised_ = applied_ = 0;
  device_from_ = next_sequence_;
  kick();
  if (image_.read_only()) return {};
  if (!peer_sync_id.empty() && peer_sync_id == map_.sync_id()) return map_.snapshot();
  map_.forget_sync();
  return {};
}

void ReplicatedDisk::promise(const DiskRecord& record) {
  if (record.kind == IoKind::kFlush) return;
  std::lock_guard lock(mutex_);
  map_.mark(record.offset, record.bytes);
  promised_++;
}

void ReplicatedDisk::apply(DiskRecord record) {
  DiskOp op;
  op.kind = record.kind;
  op.origin = OpOrigin::kApply;
  op.offset = record.kind == IoKind::kFlush ? 0 : record.offset;
  op.bytes = record.kind == IoKind::kFlush ? 0 : record.bytes;
  op.data = std::move(record.data);
  FT_CHECK(op.kind != IoKind::kRead, "a record that reads");
  FT_CHECK(op.offset <= image_.bytes() && op.bytes <= image_.bytes() - op.offset,
           "a record reaches past the end of the disk");
  FT_CHECK(op.kind != IoKind::kWrite || (op.data != nullptr && op.data->bytes() == op.bytes),
           "a record without its bytes");
  std::lock_guard lock(mutex_);
  op.sequence = next_sequence_++;
  facts_.backlog_bytes += backlog_of(op);
  if (op.changes() && mode_ == Mode::kStandby) {
    FT_CHECK(applied_ < promised_, "a record is applied that was not promised");
    applied_++;
    op.counted = true;
    op.generation = generation_;
    unsettled_[generation_]++;
  }
  waiting_.push_back(std::move(op));
  records_waiting_++;
  kick();
  turn_standby();
}

}  // namespace ft

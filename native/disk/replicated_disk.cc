// The queue of one disk: takes requests in, issues what nothing holds back, and ends what is done.
// What replication adds (log, marks, sync) is in disk_replication.cc.
#include "disk/replicated_disk.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ft {
namespace {

/// Scans that one pump does before it lets others have their turn.
constexpr int kScansMax = 64;

}  // namespace

uint64_t ReplicatedDisk::cost_of(const DiskOp& op) {
  return kRecordBytes + (op.kind == IoKind::kWrite ? op.bytes : 0);
}

// A hole costs a file next to nothing. A device may have to write the zeroes one by one.
uint64_t ReplicatedDisk::backlog_of(const DiskOp& op) const {
  const bool zeroes = op.kind == IoKind::kZero && image_.block_device();
  return zeroes ? kRecordBytes + op.bytes : cost_of(op);
}

Result<std::unique_ptr<ReplicatedDisk>> ReplicatedDisk::create(DiskImage image,
                                                               const std::string& map_path,
                                                               Hooks hooks) {
  auto engine = IoEngine::create(image.fd());
  if (!engine) return engine.error();
  return create(std::move(image), map_path, std::move(hooks), engine.take());
}

Result<std::unique_ptr<ReplicatedDisk>> ReplicatedDisk::create(DiskImage image,
                                                               const std::string& map_path,
                                                               Hooks hooks,
                                                               std::unique_ptr<IoEngine> engine) {
  auto stamp = image.stamp();
  if (!stamp) return stamp.error();
  // Nothing is written to a read-only image, so there is nothing to remember.
  const std::string path = image.read_only() ? std::string() : map_path;
  auto map = RegionMap::open(path, image.bytes(), stamp.value());
  if (!map) return map.error();
  return std::unique_ptr<ReplicatedDisk>(
      new ReplicatedDisk(std::move(image), map.take(), std::move(hooks), std::move(engine)));
}

ReplicatedDisk::ReplicatedDisk(DiskImage image, RegionMap map, Hooks hooks,
                               std::unique_ptr<IoEngine> engine)
    : image_(std::move(image)),
      hooks_(std::move(hooks)),
      map_(std::move(map)),
      engine_(std::move(engine)) {}

ReplicatedDisk::~ReplicatedDisk() = default;

int ReplicatedDisk::event_fd() const {
  return engine_->event_fd();
}

void ReplicatedDisk::kick() {
  if (kicked_) return;
  kicked_ = true;
  engine_->wake();
}

void ReplicatedDisk::submit(IoKind kind, uint64_t offset, uint64_t bytes,
                            std::shared_ptr<IoBuffer> data, uint64_t cookie) {
  DiskOp op;
  op.kind = kind;
  op.offset = offset;
  op.bytes = bytes;
  op.data = std::move(data);
  op.cookie = cookie;
  if (kind == IoKind::kFlush) op.offset = op.bytes = 0;
  FT_CHECK(op.offset <= image_.bytes() && op.bytes <= image_.bytes() - op.offset,
           "a request reaches past the end of the disk");
  FT_CHECK(kind != IoKind::kWrite || (op.data != nullptr && op.data->bytes() == bytes),
           "a write without its bytes");
  FT_CHECK(kind != IoKind::kRead || op.data == nullptr || op.data->bytes() == bytes,
           "a read into a buffer of another size");
  FT_CHECK(kind == IoKind::kRead || kind == IoKind::kFlush || !image_.read_only(),
           "a write to a read-only disk");
  std::lock_guard lock(mutex_);
  op.sequence = next_sequence_++;
  facts_.backlog_bytes += backlog_of(op);
  device_under_way_++;
  waiting_.push_back(std::move(op));
  kick();
}

void ReplicatedDisk::pump(std::vector<DiskCompletion>& out) {
  News news;
  done_.clear();
  engine_->reap(done_);
  find_zeroes();
  for (int scans = 0;; scans++) {
    {
      std::lock_guard lock(mutex_);
      kicked_ = false;
      for (const IoDone& done : done_) settle(done, out, news);
      done_.clear();
      enter_waiting();
      enter_sync_steps();
      issue_ready(out, news);
      if (scans == kScansMax && !scans_.empty()) kick();
    }
    // Outside of the lock: a submission may take a disk's time, and a cut may be waiting.
    for (IoOp& op : batch_) {
      if (op.data == nullptr && op.kind == IoKind::kRead) {
        op.data = std::make_shared<IoBuffer>(op.bytes);
        window_.op(static_cast<uint32_t>(op.id)).data = op.data;
      }
      engine_->submit(op);
    }
    if (!batch_.empty()) engine_->start();
    batch_.clear();
    if (scans == kScansMax || !run_scans(news)) break;
  }
  tell(news);
}

void ReplicatedDisk::tell(const News& news) {
  if (news.pressure && hooks_.on_log_pressure) hooks_.on_log_pressure();
  if (news.synced && hooks_.on_synced) hooks_.on_synced();
  if (news.apply_failed && hooks_.on_apply_failed) hooks_.on_apply_failed();
  if (news.sync_failed && hooks_.on_sync_failed) hooks_.on_sync_failed();
}

void ReplicatedDisk::enter_waiting() {
  // Some slots are kept free for the sync.
  while (!waiting_.empty() && window_.used() < OpWindow::kSlots - kSyncStepsMax) {
    window_.enter(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void ReplicatedDisk::enter_sync_steps() {
  if (mode_ != Mode::kReplicating) return;
  const uint32_t steps_max = device_under_way_ > 0 ? kSyncStepsMaxBusy : kSyncStepsMax;
  while (sync_.steps_under_way() < steps_max && window_.used() < OpWindow::kSlots) {
    const auto step = sync_.next();
    if (!step) return;
    const uint64_t cost = kRecordBytes + (step->scan ? 0 : step->bytes);
    if (sync_logged_ + sync_reserved_ + cost > kSyncLogBytesMax) {
      waits_for_cut_ = true;
      return;
    }
    sync_reserved_ += cost;
    sync_.take(*step);
    DiskOp op;
    op.kind = IoKind::kRead;
    op.origin = OpOrigin::kSync;
    op.scan = step->scan;
    op.offset = step->offset;
    op.bytes = step->bytes;
    op.sequence = sync_.number();
    window_.enter(std::move(op));
  }
}

void ReplicatedDisk::issue_ready(std::vector<DiskCompletion>& out, News& news) {
  bool writes_wait = false;
  bool left = false;
  for (const uint32_t slot : window_.order()) {
    if (!window_.ready(slot)) continue;
    DiskOp& op = window_.op(slot);
    if (op.origin == OpOrigin::kSync) {
      if (mode_ != Mode::kReplicating || op.sequence != sync_.number() || !sync_.active()) {
        window_.leave(slot);
        left = true;
      } else if (op.scan) {
        window_.issue(slot);
        scans_.push_back(slot);
      } else {
        issue(slot);
      }
      continue;
    }
    if (op.origin == OpOrigin::kDevice && op.sequence < device_from_) {
      facts_.backlog_bytes -= backlog_of(op);
      device_under_way_--;
      out.push_back({op.cookie, ECANCELED, nullptr});
      window_.leave(slot);
      left = true;
      continue;
    }
    if (op.kind != IoKind::kRead && mode_ == Mode::kReplicating) {
      // Once one has to wait, all later ones do, or a large write might wait for ever.
      writes_wait = writes_wait || !log_has_room(cost_of(op));
      if (writes_wait) {
        waits_for_cut_ = true;
        continue;
      }
    }
    issue(slot);
  }
  if (left) kick();  // there is room in the window, and perhaps nothing under way to tell of it
  const bool full = guest_logged_ + sync_logged_ >= kLogBytesMax / 2 || waits_for_cut_;
  if (full && mode_ == Mode::kReplicating && !pressure_told_) pressure_told_ = news.pressure = true;
  // A promoted standby may have been given records that are neither in its image nor in its log
  // yet; the guest takes them for written, so no epoch stands for its disk before they are issued.
  const bool through = sync_.finished() && records_waiting_ == 0;
  if (mode_ == Mode::kReplicating && !synced_ && through) synced_ = news.synced = true;
}

void ReplicatedDisk::issue(uint32_t slot) {
  DiskOp& op = window_.op(slot);
  if (op.kind != IoKind::kRead) {
    // First the mark, then the log, then the image: in no moment is there a write that no map
    // knows.
    if (op.changes()) note_write(op);
    if (mode_ == Mode::kReplicating) {
      guest_logged_ += cost_of(op);
      log({op.kind, op.offset, op.bytes, op.kind == IoKind::kWrite ? op.data : nullptr});
    }
  }
  if (op.origin == OpOrigin::kApply) records_waiting_--;
  if (op.kind == IoKind::kFlush) flushes_under_way_++;
  window_.issue(slot);
  batch_.push_back({op.kind, op.offset, op.bytes, op.data, slot});
}

/// Looks through what the sync has read. The disk thread alone changes the window, so it may do
/// this without the lock.
void ReplicatedDisk::find_zeroes() {
  for (const IoDone& done : done_) {
    DiskOp& op = window_.op(static_cast<uint32_t>(done.id));
    if (op.origin == OpOrigin::kSync && done.error == 0 && op.data->all_zero()) op.data.reset();
  }
}

void ReplicatedDisk::settle(const IoDone& done, std::vector<DiskCompletion>& out, News& news) {
  DiskOp op = window_.leave(static_cast<uint32_t>(done.id));
  ended_++;
  if (op.kind == IoKind::kFlush) flushes_under_way_--;
  if (op.origin == OpOrigin::kSync) return settle_sync_read(std::move(op), done.error, news);
  if (done.error != 0) {
    settle_failed(op, done.error, news);
  } else if (op.kind == IoKind::kRead) {
    facts_.reads++;
    facts_.bytes_read += op.bytes;
  } else if (op.kind == IoKind::kWrite) {
    facts_.writes++;
    facts_.bytes_written += op.bytes;
  } else {
    (op.kind == IoKind::kFlush ? facts_.flushes : facts_.zeroes)++;
  }
  facts_.backlog_bytes -= backlog_of(op);
  uncount(op);
  try_retire();
  if (op.origin != OpOrigin::kDevice) return;
  device_under_way_--;
  out.push_back({op.cookie, done.error, op.kind == IoKind::kRead ? std::move(op.data) : nullptr});
}

void ReplicatedDisk::settle_failed(const DiskOp& op, int error, News& news) {
  facts_.errors++;
  if (op.changes()) map_.fail(op.offset, op.bytes);
  if (op.kind == IoKind::kFlush) {
    // Nobody knows which of the writes before it were lost.
    map_.forget_sync();
    distrusted_ = true;
  }
  if (op.origin != OpOrigin::kApply || apply_failure_) return;
  news.apply_failed = true;
  apply_failure_ = Error{
      "FT_ERR_DISK_IO", error,
      "The disk image " + image_.path() + " could not be " +
          (op.kind == IoKind::kFlush ? std::string("flushed")
                                     : "written at byte " + std::to_string(op.offset)) +
          ": " + std::strerror(error) +
          ". It is no copy of the primary's disk any more; make it writable, with room for all of "
          "it, and let it be synced again."};
}

bool ReplicatedDisk::run_scans(News& news) {
  const bool any = !scans_.empty();
  for (const uint32_t slot : scans_) {
    const DiskOp& op = window_.op(slot);
    const auto found = find_data(image_, op.offset, op.bytes);
    std::lock_guard lock(mutex_);
    settle_scan(slot, found, news);
  }
  scans_.clear();
  return any;
}

ReplicatedDisk::Facts ReplicatedDisk::facts() const {
  std::lock_guard lock(mutex_);
  Facts facts = facts_;
  facts.regions_marked = map_.marked();
  facts.sync_regions_left =
      (sync_.active() ? sync_.bytes_left() + map_.region_bytes() - 1 : 0) / map_.region_bytes();
  return facts;
}

std::string ReplicatedDisk::sync_id() const {
  std::lock_guard lock(mutex_);
  return image_.read_only() ? std::string() : map_.sync_id();
}

std::optional<Error> ReplicatedDisk::apply_failure() const {
  std::lock_guard lock(mutex_);
  return apply_failure_;
}

std::optional<Error> ReplicatedDisk::sync_failure() const {
  std::lock_guard lock(mutex_);
  return sync_failure_;
}

Status ReplicatedDisk::close() {
  end_replication();
  std::vector<DiskCompletion> ignored;
  for (;;) {
    pump(ignored);
    {
      std::lock_guard lock(mutex_);
      if (waiting_.empty() && window_.used() == 0) break;
    }
    pollfd event = {event_fd(), POLLIN, 0};
    ::poll(&event, 1, -1);
  }
  if (image_.read_only()) return Ok{};
  std::lock_guard lock(mutex_);
  flushes_under_way_++;
  const bool flushed = ::fsync(image_.fd()) == 0;
  flushes_under_way_--;
  ended_++;
  if (!flushed) {
    map_.forget_sync();
    return sys_error("FT_ERR_DISK_IO", "Cannot flush the disk image " + image_.path());
  }
  auto stamp = image_.stamp();
  if (!stamp) return stamp.error();
  return map_.close_clean(stamp.value());
}

}  // namespace ft

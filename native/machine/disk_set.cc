// The guest's disks on this host, as one.
#include "machine/disk_set.h"

#include <algorithm>

namespace ft {

Result<std::unique_ptr<DiskSet>> DiskSet::create(std::span<const DiskOptions> options,
                                                 Hooks hooks) {
  std::unique_ptr<DiskSet> set(new DiskSet(std::move(hooks)));
  for (const DiskOptions& disk : options) FT_TRY(set->add(disk));
  return set;
}

Status DiskSet::add(const DiskOptions& options) {
  DiskImage::Options wanted;
  wanted.path = options.path;
  wanted.read_only = options.read_only;
  auto image = DiskImage::open(wanted);
  if (!image.ok()) return image.error();
  Description description{image.value().bytes(), options.read_only, 0};
  if (options.read_only) {
    const auto print = image.value().fingerprint();
    if (!print.ok()) return print.error();
    description.fingerprint = print.value();
  }
  ReplicatedDisk::Hooks hooks;
  hooks.on_log_pressure = hooks_.on_log_pressure;
  hooks.on_sync_failed = hooks_.on_sync_failed;
  hooks.on_apply_failed = hooks_.on_apply_failed;
  hooks.on_synced = [this] {
    if (synced() && hooks_.on_synced) hooks_.on_synced();
  };
  std::unique_ptr<IoEngine> engine;
  if (options.make_engine) {
    engine = options.make_engine(image.value().fd());
  } else {
    auto made = IoEngine::create(image.value().fd());
    if (!made.ok()) return made.error();
    engine = made.take();
  }
  auto disk =
      ReplicatedDisk::create(image.take(), options.map_path, std::move(hooks), std::move(engine));
  if (!disk.ok()) return disk.error();
  disks_.push_back(disk.take());
  descriptions_.push_back(description);
  return Ok{};
}

void DiskSet::begin_replication(const Maps& peer_maps) {
  for (size_t i = 0; i < disks_.size(); i++) {
    if (!replicated(i)) continue;
    const bool known = i < peer_maps.size() && peer_maps[i].has_value();
    disks_[i]->begin_replication(known ? &*peer_maps[i] : nullptr);
  }
}

void DiskSet::end_replication() {
  for (size_t i = 0; i < disks_.size(); i++) {
    if (replicated(i)) disks_[i]->end_replication();
  }
}

void DiskSet::take_logs(uint64_t epoch, DiskLogs& logs) {
  logs.resize(disks_.size());
  for (size_t i = 0; i < disks_.size(); i++) {
    if (replicated(i)) disks_[i]->take_log(epoch, logs[i]);
  }
}

void DiskSet::acked(uint64_t epoch) {
  for (size_t i = 0; i < disks_.size(); i++) {
    if (replicated(i)) disks_[i]->acked(epoch);
  }
}

bool DiskSet::synced() const {
  for (size_t i = 0; i < disks_.size(); i++) {
    if (replicated(i) && !disks_[i]->synced()) return false;
  }
  return true;
}

double DiskSet::sync_progress() const {
  double least = 1;
  for (size_t i = 0; i < disks_.size(); i++) {
    if (replicated(i)) least = std::min(least, disks_[i]->sync_progress());
  }
  return least;
}

DiskSet::Maps DiskSet::begin_sync(std::span<const std::string> peer_sync_ids) {
  Maps maps(disks_.size());
  for (size_t i = 0; i < disks_.size(); i++) {
    if (!replicated(i)) continue;
    const std::string id = i < peer_sync_ids.size() ? peer_sync_ids[i] : std::string();
    auto map = disks_[i]->begin_sync(id);
    if (!map.empty()) maps[i] = std::move(map);
  }
  return maps;
}

std::vector<DiskTarget> DiskSet::targets() {
  std::vector<DiskTarget> list;
  for (size_t i = 0; i < disks_.size(); i++) {
    ReplicatedDisk* disk = disks_[i].get();
    DiskTarget target;
    target.bytes = descriptions_[i].bytes;
    target.read_only = descriptions_[i].read_only;
    target.promise = [disk](const DiskRecord& record) { disk->promise(record); };
    target.apply = [disk](DiskRecord record) { disk->apply(std::move(record)); };
    list.push_back(std::move(target));
  }
  return list;
}

uint64_t DiskSet::backlog_bytes() const {
  uint64_t bytes = 0;
  for (const auto& disk : disks_) bytes += disk->backlog_bytes();
  return bytes;
}

std::optional<Error> DiskSet::apply_failure() const {
  for (const auto& disk : disks_) {
    if (auto failure = disk->apply_failure()) return failure;
  }
  return std::nullopt;
}

std::optional<Error> DiskSet::sync_failure() const {
  for (const auto& disk : disks_) {
    if (auto failure = disk->sync_failure()) return failure;
  }
  return std::nullopt;
}

std::vector<std::string> DiskSet::sync_ids() const {
  std::vector<std::string> ids;
  for (const auto& disk : disks_) ids.push_back(disk->sync_id());
  return ids;
}

void DiskSet::in_step(const std::string& session) {
  for (size_t i = 0; i < disks_.size(); i++) {
    // With the disk's number, so that disks given in another order are not taken for each other.
    if (replicated(i)) disks_[i]->in_step(session + "." + std::to_string(i));
  }
}

ReplicatedDisk::Movement DiskSet::movement() const {
  ReplicatedDisk::Movement all;
  for (const auto& disk : disks_) {
    const auto one = disk->movement();
    all.ended += one.ended;
    all.flushing = all.flushing || one.flushing;
  }
  return all;
}

Status DiskSet::close() {
  Status first = Ok{};
  for (const auto& disk : disks_) {
    auto closed = disk->close();
    if (!closed.ok() && first.ok()) first = std::move(closed);
  }
  return first;
}

}  // namespace ft

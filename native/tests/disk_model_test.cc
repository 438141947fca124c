// Many seeds of the world in disk_model.h. A failing seed is named and replays alone:
//   FT_DISK_SEED=<n> native_tests -tc='disk model*'          FT_DISK_SEEDS=<n>: more of them
#include "disk_model.h"

#include <cstdlib>

namespace ft::test {

// ── the guest, and what is held at any moment ──

/// Most requests go to a few places, so that they overlap all the time and leave regions alone.
uint64_t DiskWorld::random_offset() {
  const uint64_t sectors = bytes_ / 512;
  if (dice_.one_in(50)) places_[dice_.below(places_.size())] = dice_.below(sectors);
  if (dice_.one_in(100)) return dice_.below(sectors) * 512;
  return (places_[dice_.below(places_.size())] + dice_.below(24)) % sectors * 512;
}

void DiskWorld::guest_asks() {
  if (unfinished_.size() >= 200) return;
  GuestRequest request = {};
  request.offset = random_offset();
  const uint64_t room = (bytes_ - request.offset) / 512;
  request.bytes = (1 + dice_.below(std::min<uint64_t>(room, dice_.one_in(16) ? 400 : 16))) * 512;
  const uint64_t kind = dice_.below(10);
  if (kind == 0) {
    request.kind = IoKind::kFlush;
    request.offset = request.bytes = 0;
  } else if (kind == 1) {
    request.kind = IoKind::kZero;
  } else if (kind <= 3) {
    request.kind = IoKind::kRead;
  } else {
    request.kind = IoKind::kWrite;
    request.data = std::make_shared<IoBuffer>(request.bytes);
    for (uint64_t at = 0; at < request.bytes; at += 512) {
      // Every sector says which write it is of; some writes are zeros.
      std::memset(request.data->data() + at, kind == 4 ? 0 : static_cast<int>(dice_.below(256)),
                  512);
      if (kind != 4) std::memcpy(request.data->data() + at, &next_cookie_, sizeof next_cookie_);
    }
  }
  submit(std::move(request));
}

void DiskWorld::submit(GuestRequest request) {
  const auto first = disk_.begin() + static_cast<ptrdiff_t>(request.offset);
  const auto last = first + static_cast<ptrdiff_t>(request.bytes);
  if (request.kind == IoKind::kWrite) {
    std::copy_n(request.data->data(), request.bytes, first);
  } else if (request.kind == IoKind::kZero) {
    std::fill(first, last, 0);
  } else if (request.kind == IoKind::kRead && request.expected.empty()) {
    // One that is done again after a failover sees what it was to see at first: no later write
    // that overlaps it was issued while it was unfinished.
    request.expected.assign(first, last);
  }
  active_->disk->submit(request.kind, request.offset, request.bytes, request.data, next_cookie_);
  unfinished_.emplace(next_cookie_++, std::move(request));
}

void DiskWorld::pump_active() {
  completions_.clear();
  active_->disk->pump(completions_);
  for (const DiskCompletion& done : completions_) {
    // A process that was fenced and promoted again may still end what its former guest asked.
    if (done.cookie < reign_cookie_) continue;
    const auto found = unfinished_.find(done.cookie);
    REQUIRE(found != unfinished_.end());
    REQUIRE(done.error == 0);
    if (found->second.kind == IoKind::kRead) {
      const Bytes& expected = found->second.expected;
      counts_.reads++;
      REQUIRE(std::equal(expected.begin(), expected.end(), done.data->data()));
    }
    unfinished_.erase(found);
  }
}

/// Until the guest has all its answers. Cuts go on, for the log may be full.
void DiskWorld::finish_guest() {
  for (int step = 0; !unfinished_.empty(); step++) {
    REQUIRE(step < 100'000);
    pump_active();
    active_->engine->carry_one_out();
  }
}

/// Two images with one syncId differ only where a map says so. Held for every pair of hosts, alive
/// or dead, at any moment: this is all that a partial sync relies on.
void DiskWorld::check_maps() {
  for (size_t a = 0; a < hosts_.size(); a++) {
    for (size_t b = a + 1; b < hosts_.size(); b++) {
      if (hosts_[a]->started && hosts_[b]->started) check_maps_of(*hosts_[a], *hosts_[b]);
    }
  }
}

void DiskWorld::check_maps_of(const Host& one, const Host& other) {
  const Bytes map_one = read_file(one.path + ".ftmap");
  const Bytes map_other = read_file(other.path + ".ftmap");
  // The syncId's length and bytes, as region_map.cc lays them out.
  const auto id_of = [](const Bytes& file) {
    return std::string(file.begin() + 92, file.begin() + 92 + file[88]);
  };
  if (id_of(map_one).empty() || id_of(map_one) != id_of(map_other)) return;
  const UniqueFd fd_one(::open(one.path.c_str(), O_RDONLY | O_CLOEXEC));
  const UniqueFd fd_other(::open(other.path.c_str(), O_RDONLY | O_CLOEXEC));
  region_one_.resize(kRegionBytesMin);
  region_other_.resize(kRegionBytesMin);
  for (uint64_t at = 0; at < bytes_; at += kRegionBytesMin) {
    const size_t region = at / kRegionBytesMin;
    const int marks = map_one[4096 + region / 8] | map_other[4096 + region / 8];
    counts_.regions_compared++;
    if ((marks >> (region % 8) & 1) != 0) {
      counts_.regions_excused++;
      continue;
    }
    const uint64_t length = std::min<uint64_t>(kRegionBytesMin, bytes_ - at);
    const auto want = static_cast<ssize_t>(length);
    const auto offset = static_cast<off_t>(at);
    REQUIRE(::pread(fd_one.get(), region_one_.data(), length, offset) == want);
    REQUIRE(::pread(fd_other.get(), region_other_.data(), length, offset) == want);
    INFO("region ", region, " differs and no map says so");
    REQUIRE(std::memcmp(region_one_.data(), region_other_.data(), length) == 0);
  }
}

// ── sessions ──

DiskWorld::DiskWorld(uint64_t seed)
    : dice_(seed), bytes_((16 + dice_.below(9)) * kRegionBytesMin + dice_.below(128) * 512) {
  for (const char* name : {"a", "b", "c"}) {
    hosts_.push_back(std::make_unique<Host>(dir_.file(name), bytes_));
  }
  // The first image has something in it, the others something else.
  for (size_t i = 0; i < hosts_.size(); i++) {
    UniqueFd fd(::open(hosts_[i]->path.c_str(), O_WRONLY | O_CLOEXEC));
    const Bytes content(40'960, static_cast<uint8_t>('a' + i));
    for (int piece = 0; piece < 6; piece++) {
      const uint64_t at = dice_.below((bytes_ - content.size()) / 512) * 512;
      REQUIRE(::pwrite(fd.get(), content.data(), content.size(), static_cast<off_t>(at)) > 0);
    }
  }
  active_ = hosts_[0].get();
  active_->start(dice_);
  disk_ = read_file(active_->path);
  places_ = {dice_.below(bytes_ / 512), dice_.below(bytes_ / 512), dice_.below(bytes_ / 512)};
}

void DiskWorld::run(int turns) {
  for (int turn = 0; turn < turns; turn++) {
    // Some work without a standby.
    for (uint64_t i = dice_.below(30); i > 0; i--) {
      guest_asks();
      pump_active();
      active_->engine->carry_one_out();
    }
    begin_session();
    const uint64_t steps = dice_.one_in(3) ? dice_.below(60) : 200 + dice_.below(600);
    for (uint64_t i = 0; i < steps; i++) session_step();
    check_maps();
    if (!base_acked_) counts_.broken_syncs++;
    if (dice_.one_in(3)) fall_behind();
    switch (dice_.below(8)) {
      case 0:
        lose_link();
        break;
      case 1:
        kill_standby();
        break;
      case 2:
        come_to_rest();
        restart_in_order();
        break;
      case 3:
        come_to_rest();
        kill_active();
        break;
      case 4:
        fence_active();
        break;
      case 5:
        start_another();
        break;
      default:
        kill_active();
    }
    check_maps();
  }
}

void DiskWorld::begin_session() {
  std::vector<Host*> others;
  for (const auto& host : hosts_) {
    if (host.get() != active_) others.push_back(host.get());
  }
  // Mostly the same one again.
  if (standby_ == nullptr || standby_ == active_ || dice_.one_in(5)) {
    Host* chosen = others[dice_.below(others.size())];
    if (standby_ != nullptr && standby_ != active_ && standby_ != chosen && standby_->disk) {
      standby_->kill();
    }
    standby_ = chosen;
  }
  if (!standby_->disk) standby_->start(dice_);
  session_ = "session " + std::to_string(++sessions_);
  base_cut_ = base_held_ = base_acked_ = false;
  wire_.clear();
  held_.clear();
  acks_.clear();
  resume_.reset();
  acked_ = 0;

  const std::string id = active_->disk->sync_id();
  const Bytes map = standby_->disk->begin_sync(id);
  CHECK((!map.empty()) == (!id.empty() && standby_->disk->sync_id() == id));
  (map.empty() ? counts_.full_syncs : counts_.partial_syncs)++;
  active_->disk->begin_replication(map.empty() ? nullptr : &map);
}

void DiskWorld::session_step() {
  switch (dice_.below(16)) {
    case 0:
    case 1:
    case 2:
      guest_asks();
      break;
    case 3:
    case 4:
    case 5:
      pump_active();
      break;
    case 6:
    case 7:
    case 8:
      active_->engine->carry_one_out();
      break;
    case 9:
      if (wire_.size() < 4) cut();
      break;
    case 10:
      deliver();
      break;
    case 11:
      apply_held();
      break;
    case 12:
      acknowledge();
      break;
    case 13:
      completions_.clear();
      standby_->disk->pump(completions_);
      break;
    default:
      standby_->engine->carry_one_out();
      if (dice_.one_in(60)) check_maps();
  }
}

/// The disk as the guest knows it, in memory that is used again once nobody looks at it.
std::shared_ptr<const Bytes> DiskWorld::state_now() {
  for (const auto& state : states_) {
    if (state.use_count() > 1) continue;
    *state = disk_;
    return state;
  }
  states_.push_back(std::make_shared<Bytes>(disk_));
  return states_.back();
}

void DiskWorld::cut() {
  WireEpoch epoch = {};
  epoch.number = next_epoch_++;
  if (active_->disk->synced() && !base_cut_) {
    epoch.base = base_cut_ = true;
    base_epoch_ = epoch.number;
  }
  epoch.state = state_now();
  for (const auto& [cookie, request] : unfinished_) epoch.unfinished.push_back(request);
  active_->disk->take_log(epoch.number, epoch.records);
  wire_.push_back(std::move(epoch));
  counts_.epochs++;
}

/// An epoch arrives, is verified and promised; the acknowledgement sets out at once or later.
void DiskWorld::deliver() {
  if (wire_.empty()) return;
  for (const DiskRecord& record : wire_.front().records) standby_->disk->promise(record);
  held_.push_back(std::move(wire_.front()));
  wire_.pop_front();
  WireEpoch& last = held_.back();
  if (last.base) {
    base_held_ = true;
    standby_->disk->in_step(session_);
    counts_.in_step++;
  }
  if (base_held_) {
    resume_ = WireEpoch{last.number, last.base, {}, last.state, last.unfinished};
  }
  acks_.push_back(last.number);
  if (dice_.one_in(2)) apply_held();
}

void DiskWorld::apply_held() {
  while (!held_.empty()) {
    for (DiskRecord& record : held_.front().records) standby_->disk->apply(std::move(record));
    held_.pop_front();
  }
}

void DiskWorld::acknowledge() {
  if (acks_.empty()) return;
  acked_ = acks_.front();
  acks_.pop_front();
  active_->disk->acked(acked_);
  if (base_cut_ && !base_acked_ && acked_ >= base_epoch_) {
    base_acked_ = true;
    active_->disk->in_step(session_);
  }
}

/// The guest asks nothing more, and everything under way arrives: the images are equal.
void DiskWorld::come_to_rest() {
  for (int step = 0;; step++) {
    REQUIRE(step < 100'000);
    pump_active();
    active_->engine->carry_one_out();
    completions_.clear();
    standby_->disk->pump(completions_);
    standby_->engine->carry_one_out();
    if (!unfinished_.empty() || !active_->disk->synced()) {
      if (wire_.size() < 4) cut();
    } else if (!base_acked_ && wire_.empty() && acks_.empty()) {
      cut();
    } else if (base_acked_ && wire_.empty() && held_.empty() && acks_.empty() &&
               active_->engine->idle() && standby_->engine->idle() &&
               active_->disk->facts().backlog_bytes + standby_->disk->facts().backlog_bytes == 0) {
      break;
    }
    deliver();
    apply_held();
    acknowledge();
  }
  // What was issued since the last cut.
  cut();
  deliver();
  apply_held();
  acknowledge();
  while (standby_->disk->facts().backlog_bytes > 0) {
    completions_.clear();
    standby_->disk->pump(completions_);
    standby_->engine->carry_one_out();
  }
  REQUIRE(read_file(active_->path) == disk_);
  REQUIRE(read_file(standby_->path) == disk_);
  check_maps();
  // One more epoch without writes, and nothing is marked any more.
  cut();
  deliver();
  acknowledge();
  CHECK(active_->disk->facts().regions_marked == 0);
  CHECK(standby_->disk->facts().regions_marked == 0);
}

void DiskWorld::lose_link() {
  // What has arrived is applied: those epochs are whole and may have been acknowledged.
  apply_held();
  active_->disk->end_replication();
}

void DiskWorld::kill_standby() {
  if (dice_.one_in(2)) apply_held();
  counts_.kills++;
  standby_->kill();
  active_->disk->end_replication();
}

void DiskWorld::kill_active() {
  counts_.kills++;
  active_->kill();
  unfinished_.clear();
  if (base_held_) return promote();
  // Nobody can take over: the host itself starts again, its guest with whatever is on the disk.
  apply_held();
  active_->start(dice_);
  disk_ = read_file(active_->path);
}

/// The guest writes much, and the standby's image gets none of it for a while.
void DiskWorld::fall_behind() {
  for (int i = 0; i < 400; i++) {
    guest_asks();
    pump_active();
    active_->engine->carry_one_out();
    active_->engine->carry_one_out();
    if (i % 20 == 0 && wire_.size() < 4) cut();
    if (i % 20 == 10) deliver();
  }
  apply_held();
}

/// Somebody starts a host that nobody promoted: what is on its disk counts from now on.
void DiskWorld::start_another() {
  apply_held();
  unfinished_.clear();
  for (const auto& host : hosts_) {
    if (host->disk) host->kill();
  }
  active_ = hosts_[dice_.below(hosts_.size())].get();
  active_->start(dice_);
  standby_ = nullptr;
  disk_ = read_file(active_->path);
}

/// The standby took over while the active side lived: its guest is gone, with requests still on
/// their way to the disk, and the same process is the next standby.
void DiskWorld::fence_active() {
  if (!base_held_) return lose_link();
  for (int i = 0; i < 40; i++) guest_asks();
  if (dice_.one_in(2)) pump_active();
  active_->disk->end_replication();
  if (dice_.one_in(2)) pump_active();
  unfinished_.clear();
  promote();
}

void DiskWorld::promote() {
  REQUIRE(resume_.has_value());
  REQUIRE(resume_->number >= acked_);
  apply_held();
  counts_.failovers++;
  std::swap(active_, standby_);
  reign_cookie_ = next_cookie_;
  // The guest runs at once: its unfinished requests first, in their order.
  disk_ = *resume_->state;
  for (GuestRequest& request : resume_->unfinished) submit(std::move(request));
  REQUIRE(disk_ == *resume_->state);
  if (dice_.one_in(2)) {
    finish_guest();
    // finish_guest ends with the guest's answers; records still to be applied end here.
    while (active_->disk->facts().backlog_bytes > 0) {
      pump_active();
      active_->engine->carry_one_out();
    }
    REQUIRE(read_file(active_->path) == disk_);
  }
}

/// Both processes end in order and start again; sometimes the other host is active then.
void DiskWorld::restart_in_order() {
  active_->disk->end_replication();
  for (Host* host : {active_, standby_}) {
    REQUIRE(host->disk->close().ok());
    host->disk.reset();
  }
  if (dice_.one_in(2)) std::swap(active_, standby_);
  active_->start(dice_);
}

}  // namespace ft::test

using ft::test::DiskWorld;

TEST_CASE("disk model: images, maps and reads hold whatever breaks off") {
  const char* one = std::getenv("FT_DISK_SEED");
  const char* many = std::getenv("FT_DISK_SEEDS");
  const uint64_t first = one != nullptr ? std::strtoull(one, nullptr, 10) : 1;
  const uint64_t count = one != nullptr    ? 1
                         : many != nullptr ? std::strtoull(many, nullptr, 10)
                                           : 30;
  DiskWorld::Counts total;
  for (uint64_t seed = first; seed < first + count; seed++) {
    CAPTURE(seed);
    DiskWorld world(seed);
    world.run(12);
    total.partial_syncs += world.counts().partial_syncs;
    total.full_syncs += world.counts().full_syncs;
    total.failovers += world.counts().failovers;
    total.in_step += world.counts().in_step;
    total.broken_syncs += world.counts().broken_syncs;
    total.regions_compared += world.counts().regions_compared;
    total.regions_excused += world.counts().regions_excused;
    total.reads += world.counts().reads;
  }
  MESSAGE("partial ", total.partial_syncs, ", full ", total.full_syncs, ", broken off ",
          total.broken_syncs, ", in step ", total.in_step, ", failovers ", total.failovers,
          ", reads ", total.reads, ", regions compared ", total.regions_compared, ", marked ",
          total.regions_excused);
  if (count < 20) return;
  // The dice do not leave anything out.
  CHECK(total.partial_syncs > count);
  CHECK(total.full_syncs > count);
  CHECK(total.broken_syncs > count);
  CHECK(total.failovers > count);
  CHECK(total.regions_compared > 2 * total.regions_excused);
}

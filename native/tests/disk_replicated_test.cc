// One disk and a pair of disks, with real engines and with one that holds operations back: order,
// bounds of the log, what a sync sends, and a pair that is driven by several threads.
#include <atomic>
#include <mutex>
#include <thread>

#include "disk_model.h"

using namespace ft;        // NOLINT: tests of this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr uint64_t kMiB = 1 << 20;

/// A disk whose operations end when the test says so.
struct HeldDisk {
  TempDir dir;
  Dice dice{1};
  Host host;
  std::vector<DiskCompletion> out;
  int pressure = 0;

  explicit HeldDisk(uint64_t bytes) : host(dir.file("image"), bytes) {
    ReplicatedDisk::Hooks hooks;
    hooks.on_log_pressure = [this] { pressure++; };
    host.start(dice, std::move(hooks));
  }
  ReplicatedDisk& disk() { return *host.disk; }
  size_t issued() {
    out.clear();
    disk().pump(out);
    return host.engine->under_way();
  }
  void end_all() {
    for (int i = 0; i < 1000; i++) {
      host.engine->carry_one_out();
      disk().pump(out);
    }
    REQUIRE(host.engine->idle());
  }
};

void move_log(ReplicatedDisk& from, ReplicatedDisk& to, uint64_t epoch) {
  std::vector<DiskRecord> log;
  from.take_log(epoch, log);
  for (const DiskRecord& record : log) to.promise(record);
  from.acked(epoch);
  for (DiskRecord& record : log) to.apply(std::move(record));
}

/// Cuts until the sync is through and the standby has written everything.
uint64_t sync_whole(ReplicatedDisk& from, ReplicatedDisk& to) {
  std::vector<DiskCompletion> out;
  uint64_t epoch = 0;
  pump_until(from, out, [&] {
    move_log(from, to, ++epoch);
    to.pump(out);
    return from.synced();
  });
  move_log(from, to, ++epoch);
  from.in_step("session");
  to.in_step("session");
  pump_until(to, out, [&] { return to.facts().backlog_bytes == 0; });
  return epoch;
}

void fill_file(const std::string& path, uint64_t offset, uint64_t bytes, uint8_t value) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  const std::vector<uint8_t> content(bytes, value);
  REQUIRE(::pwrite(fd.get(), content.data(), bytes, static_cast<off_t>(offset)) ==
          static_cast<ssize_t>(bytes));
}

}  // namespace

TEST_CASE("disk: requests do what they say, with both engines") {
  for (const bool uring : {false, true}) {
    TempDir dir;
    make_image(dir.file("image"), 8 * kMiB);
    auto disk = open_disk(dir.file("image"), {}, uring);
    CHECK(std::string(disk->engine_name()) == (uring ? "io_uring" : "threads"));
    CHECK(run(*disk, IoKind::kWrite, kMiB, 65536, filled(65536, 3)).error == 0);
    CHECK(run(*disk, IoKind::kZero, kMiB + 512, 1024).error == 0);
    CHECK(run(*disk, IoKind::kFlush, 0, 0).error == 0);
    const DiskCompletion read = run(*disk, IoKind::kRead, kMiB, 2048);
    REQUIRE(read.data != nullptr);
    CHECK(read.data->data()[511] == 3);
    CHECK(read.data->data()[512] == 0);
    CHECK(read.data->data()[1536] == 3);
    const auto facts = disk->facts();
    CHECK(facts.reads == 1);
    CHECK(facts.bytes_written == 65536);
    CHECK(facts.zeroes == 1);
    CHECK(facts.flushes == 1);
    CHECK(facts.backlog_bytes == 0);
    CHECK(facts.regions_marked == 1);
    REQUIRE(disk->close().ok());
  }
}

TEST_CASE("disk: what overlaps goes one after the other, a flush after the writes before it") {
  HeldDisk held(kMiB);
  held.disk().submit(IoKind::kWrite, 0, 4096, filled(4096, 1), 1);
  held.disk().submit(IoKind::kWrite, 3584, 1024, filled(1024, 2), 2);  // over the end of the first
  held.disk().submit(IoKind::kRead, 4096, 512, nullptr, 3);            // over the second
  held.disk().submit(IoKind::kFlush, 0, 0, nullptr, 4);
  held.disk().submit(IoKind::kWrite, 8192, 512, filled(512, 3), 5);  // a flush holds nothing off
  CHECK(held.issued() == 2);
  held.end_all();
  CHECK(held.host.engine->order() == std::vector<IoKind>{IoKind::kWrite, IoKind::kWrite,
                                                         IoKind::kWrite, IoKind::kRead,
                                                         IoKind::kFlush});
}

TEST_CASE("disk: on a standby nothing passes a flush") {
  HeldDisk held(kMiB);
  held.disk().begin_sync("");
  const DiskRecord first = {IoKind::kWrite, 0, 512, filled(512, 1)};
  const DiskRecord second = {IoKind::kWrite, 8192, 512, filled(512, 2)};
  held.disk().promise(first);
  held.disk().promise(second);
  held.disk().apply(first);
  held.disk().apply({IoKind::kFlush, 0, 0, nullptr});
  held.disk().apply(second);
  CHECK(held.issued() == 1);
  held.host.engine->carry_one_out();
  CHECK(held.issued() == 1);
  held.host.engine->carry_one_out();
  CHECK(held.host.engine->order().back() == IoKind::kFlush);
  CHECK(held.issued() == 1);
  held.end_all();
  CHECK(held.disk().facts().writes == 2);
}

TEST_CASE("disk: a full log holds writes back until the next cut, and nothing else") {
  HeldDisk held(64 * kMiB);
  held.disk().begin_replication(nullptr);
  held.end_all();
  REQUIRE(held.disk().synced());
  std::vector<DiskRecord> log;
  held.disk().take_log(1, log);
  CHECK(log.size() == 1);  // one hole
  CHECK(held.pressure == 0);

  for (uint64_t i = 0; i < 40; i++) {
    held.disk().submit(IoKind::kWrite, i * kMiB, kMiB, filled(kMiB, 1), i);
  }
  held.disk().submit(IoKind::kRead, 50 * kMiB, 512, nullptr, 99);
  const size_t fit = ReplicatedDisk::kLogBytesMax / (kMiB + ReplicatedDisk::kRecordBytes);
  CHECK(held.issued() == fit + 1);
  held.end_all();
  CHECK(held.issued() == 0);
  CHECK(held.pressure == 1);
  for (uint64_t epoch = 2; epoch < 5; epoch++) {
    log.clear();
    held.disk().take_log(epoch, log);
    CHECK(log.size() == (epoch < 4 ? fit : 40 - 2 * fit));
    held.end_all();
  }
  CHECK(held.disk().facts().writes == 40);

  // Without replication there is no log to be full.
  held.disk().end_replication();
  for (uint64_t i = 0; i < 40; i++) {
    held.disk().submit(IoKind::kWrite, i * kMiB, kMiB, filled(kMiB, 1), i);
  }
  CHECK(held.issued() == 40);
  held.end_all();
}

TEST_CASE("disk: a sync and the guest have one half of the log each") {
  HeldDisk held(64 * kMiB);
  fill_file(held.host.path, 0, 40 * kMiB, 5);
  held.disk().begin_replication(nullptr);
  for (uint64_t i = 0; i < 40; i++) {
    held.disk().submit(IoKind::kWrite, (44 + i % 20) * kMiB, kMiB, filled(kMiB, 1), i);
  }
  held.end_all();
  std::vector<DiskRecord> log;
  held.disk().take_log(1, log);
  uint64_t guest = 0, sync = 0;
  for (const DiskRecord& record : log) (record.bytes == kMiB ? guest : sync) += record.bytes;
  CHECK(guest == 7 * kMiB);
  CHECK(sync > 7 * kMiB);
  CHECK(sync <= 8 * kMiB);
  CHECK(held.pressure == 1);
}

TEST_CASE("disk: a full sync sends data once and holes as a few zeroes") {
  TempDir dir;
  make_image(dir.file("a"), 256 * kMiB);
  make_image(dir.file("b"), 256 * kMiB);
  fill_file(dir.file("a"), 3 * kMiB, 2 * kMiB, 7);
  fill_file(dir.file("a"), 100 * kMiB, kMiB, 0);  // zeros that take room
  fill_file(dir.file("a"), 256 * kMiB - 512, 512, 9);
  fill_file(dir.file("b"), 2 * kMiB, 2 * kMiB, 1);  // what the standby had before
  fill_file(dir.file("b"), 200 * kMiB, kMiB, 1);
  auto active = open_disk(dir.file("a"));
  auto standby = open_disk(dir.file("b"));
  CHECK(standby->begin_sync(active->sync_id()).empty());
  active->begin_replication(nullptr);
  CHECK_FALSE(active->synced());
  CHECK(active->sync_progress() == 0);
  sync_whole(*active, *standby);
  CHECK(active->sync_progress() == 1);
  CHECK(active->facts().sync_bytes == 256 * kMiB);
  const auto facts = standby->facts();
  CHECK(facts.bytes_written < 3 * kMiB);
  CHECK(facts.zeroes < 20);
  CHECK(read_file(dir.file("a")) == read_file(dir.file("b")));
  struct stat info = {};
  REQUIRE(::stat(dir.file("b").c_str(), &info) == 0);
  CHECK(static_cast<uint64_t>(info.st_blocks) * 512 < 4 * kMiB);

  // From here on both know what they share: a second sync is of what was written since.
  active->end_replication();
  CHECK(run(*active, IoKind::kWrite, 50 * kMiB, 4096, filled(4096, 8)).error == 0);
  CHECK(run(*active, IoKind::kZero, 3 * kMiB, 65536).error == 0);
  const auto map = standby->begin_sync(active->sync_id());
  CHECK(map.size() == 512);
  active->begin_replication(&map);
  sync_whole(*active, *standby);
  CHECK(active->facts().sync_bytes == 2 * kRegionBytesMin);
  CHECK(read_file(dir.file("a")) == read_file(dir.file("b")));

  // After both have ended in order and started again, nothing at all has to be sent.
  active->end_replication();
  for (auto* disk : {&active, &standby}) {
    REQUIRE((*disk)->close().ok());
    disk->reset();
  }
  active = open_disk(dir.file("b"));
  standby = open_disk(dir.file("a"));
  CHECK(active->sync_id() == "session");
  const auto again = standby->begin_sync(active->sync_id());
  REQUIRE_FALSE(again.empty());
  active->begin_replication(&again);
  sync_whole(*active, *standby);
  CHECK(active->facts().sync_bytes == 0);
}

TEST_CASE("disk: a map of another size, or that belongs to no syncId of ours, shortens nothing") {
  TempDir dir;
  make_image(dir.file("a"), 8 * kMiB);
  auto active = open_disk(dir.file("a"));
  const std::vector<uint8_t> wrong(5, 0);
  active->begin_replication(&wrong);
  CHECK(active->facts().sync_regions_left == 128);
  active->end_replication();
  const std::vector<uint8_t> right(16, 0);
  active->begin_replication(&right);
  CHECK(active->facts().sync_regions_left == 128);
}

TEST_CASE("disk: a read-only image is in sync without a byte") {
  TempDir dir;
  make_image(dir.file("a"), 8 * kMiB);
  auto image = DiskImage::open({dir.file("a"), true, 0});
  REQUIRE(image.ok());
  auto disk = ReplicatedDisk::create(image.take(), dir.file("a.ftmap"), {});
  REQUIRE(disk.ok());
  disk.value()->begin_replication(nullptr);
  std::vector<DiskCompletion> out;
  pump_until(*disk.value(), out, [&] { return disk.value()->synced(); });
  disk.value()->in_step("session");
  CHECK(disk.value()->sync_id().empty());
  CHECK(::access(dir.file("a.ftmap").c_str(), F_OK) != 0);
  REQUIRE(disk.value()->close().ok());
}

TEST_SUITE("threads") {
  // A guest, a disk thread a side, and an event loop that cuts and applies, all at once.
  TEST_CASE("disk: a pair under threads ends with equal images") {
    TempDir dir;
    make_image(dir.file("a"), 16 * kMiB);
    make_image(dir.file("b"), 16 * kMiB);
    fill_file(dir.file("a"), kMiB, 3 * kMiB, 5);
    std::atomic<int> synced{0};
    ReplicatedDisk::Hooks hooks;
    hooks.on_synced = [&] { synced++; };
    // A sanitizer of threads cannot see through the kernel's rings.
    auto active = open_disk(dir.file("a"), std::move(hooks), false);
    auto standby = open_disk(dir.file("b"), {}, false);
    std::atomic<bool> over{false};
    std::atomic<uint64_t> answers{0}, errors{0};
    const auto disk_thread = [&](ReplicatedDisk& disk) {
      std::vector<DiskCompletion> out;
      while (!over) {
        pollfd event = {disk.event_fd(), POLLIN, 0};
        ::poll(&event, 1, 10);
        out.clear();
        disk.pump(out);
        for (const auto& done : out) errors += done.error != 0;
        answers += out.size();
      }
    };
    constexpr uint64_t kRequests = 4000;
    standby->begin_sync("");
    active->begin_replication(nullptr);
    std::thread pump_active([&] { disk_thread(*active); });
    std::thread pump_standby([&] { disk_thread(*standby); });
    std::thread guest([&] {
      Dice dice(3);
      for (uint64_t i = 0; i < kRequests; i++) {
        const uint64_t offset = dice.below(4096) * (dice.one_in(2) ? 512 : 2048);
        const uint64_t bytes = (1 + dice.below(16)) * 512;
        const uint64_t kind = dice.below(8);
        if (kind == 0) {
          active->submit(IoKind::kZero, offset, bytes, nullptr, i);
        } else if (kind == 1) {
          active->submit(IoKind::kRead, offset, bytes, nullptr, i);
        } else {
          active->submit(IoKind::kWrite, offset, bytes, filled(bytes, uint8_t(i)), i);
        }
        while (i - answers > 256 && i > answers) std::this_thread::yield();
      }
    });
    bool in_step = false;
    for (uint64_t epoch = 1; !in_step || answers < kRequests; epoch++) {
      REQUIRE(epoch < 1'000'000);
      const bool base = active->synced() && !in_step;
      move_log(*active, *standby, epoch);
      if (base) {
        standby->in_step("session");
        active->in_step("session");
        in_step = true;
      }
      CHECK(active->sync_progress() <= 1);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    guest.join();
    move_log(*active, *standby, 2'000'000);
    for (int i = 0; standby->facts().backlog_bytes > 0 && i < 10'000; i++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    move_log(*active, *standby, 2'000'001);
    over = true;
    pump_active.join();
    pump_standby.join();
    CHECK(errors == 0);
    CHECK(synced == 1);
    CHECK(active->facts().regions_marked == 0);
    CHECK(standby->facts().regions_marked == 0);
    REQUIRE(active->close().ok());
    REQUIRE(standby->close().ok());
    CHECK(read_file(dir.file("a")) == read_file(dir.file("b")));
  }
}

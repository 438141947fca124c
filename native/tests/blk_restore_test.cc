// Requests that a cut finds under way: named in the state, done again on the other side, each
// answered once. First over an image in memory, then over the real disks of a pair.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include <random>
#include <set>

#include "blk_support.h"
#include "machine/disk_set.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr uint64_t kData = 0x40000;

VirtioBlkState state_in(const std::vector<uint8_t>& blob) {
  auto reader = StateReader::open(blob);
  REQUIRE(reader.ok());
  VirtioBlkState state;
  const auto bytes = reader.value().find(StateKind::kVirtioBlk, 0);
  REQUIRE(bytes.size() == sizeof(state));
  std::memcpy(&state, bytes.data(), sizeof(state));
  return state;
}

std::vector<uint8_t> with_state(const std::vector<uint8_t>& blob, const VirtioBlkState& state) {
  auto reader = StateReader::open(blob);
  REQUIRE(reader.ok());
  const auto at = reader.value().find(StateKind::kVirtioBlk, 0).data() - blob.data();
  std::vector<uint8_t> changed = blob;
  std::memcpy(changed.data() + at, &state, sizeof(state));
  return changed;
}

void restore(DriverRig& rig, const GuestMemory& memory, const std::vector<uint8_t>& blob) {
  std::copy_n(memory.host_base(), memory.size(), rig.memory.host_base());
  auto reader = StateReader::open(blob);
  REQUIRE(reader.ok());
  REQUIRE(rig.mmio.restore(reader.value()).ok());
}

}  // namespace

TEST_CASE("blk: the state names what was taken and not returned, oldest first") {
  BlkRig rig;
  rig.start();
  CHECK(state_in(rig.capture()).count == 0);
  rig.ask(2, kBlkTypeIn, 0, kData, 512);
  rig.ask(0, kBlkTypeOut, 8, kData, 512);
  rig.ask(1, kBlkTypeFlush, 0, 0, 0);
  CHECK(state_in(rig.capture()).count == 0);  // offered, not taken: the ring says so
  rig.serve();
  VirtioBlkState state = state_in(rig.capture());
  CHECK(state.count == 3);
  CHECK(state.sectors == 2048);
  CHECK(state.heads[0] == 8);
  CHECK(state.heads[1] == 0);
  CHECK(state.heads[2] == 4);
  rig.finish(1);
  state = state_in(rig.capture());
  CHECK(state.count == 2);
  CHECK(state.heads[1] == 4);
  CHECK(state.heads[2] == 0);
}

TEST_CASE("blk: unfinished requests are done again, in their order, before new ones") {
  BlkRig rig;
  rig.start();
  rig.fill(kData, 4096, 9);
  rig.ask(0, kBlkTypeOut, 16, kData, 4096);
  rig.ask(1, kBlkTypeIn, 0, kData + 0x2000, 512);
  rig.ask(2, kBlkTypeOut, 3, kData, 512);
  rig.serve();
  rig.finish(2);                                    // the guest has its answer
  rig.ask(3, kBlkTypeIn, 1, kData + 0x3000, 1024);  // offered, not taken
  const auto blob = rig.capture();

  BlkRig other;
  std::copy(rig.disk.image.begin(), rig.disk.image.end(), other.disk.image.begin());
  restore(other, rig.memory, blob);
  CHECK(other.capture() == blob);
  const uint32_t wakes = other.wakes;
  other.mmio.kick_all();
  CHECK(other.wakes > wakes);
  other.serve();
  REQUIRE(other.disk.waiting.size() == 3);
  CHECK(other.disk.waiting[0].kind == IoKind::kWrite);
  CHECK(other.disk.waiting[0].offset == 16 * 512);
  CHECK(other.disk.waiting[1].kind == IoKind::kRead);
  CHECK(other.disk.waiting[2].bytes == 1024);
  CHECK(other.blk.facts().redone == 2);
  other.run_all();
  CHECK(other.used_idx(0) == 4);
  std::set<uint32_t> heads;
  for (uint32_t i = 0; i < 4; i++) heads.insert(other.used(0, i).id);
  CHECK(heads == std::set<uint32_t>{0, 4, 8, 12});
  for (uint16_t i = 0; i < 4; i++) CHECK(other.answer(i) == kBlkStatusOk);
  CHECK(other.same(kData, 16 * 512, 4096));
  CHECK(other.same(kData + 0x2000, 0, 512));
  CHECK(state_in(other.capture()).count == 0);
}

TEST_CASE("blk: a state captured before the restored requests were begun names them again") {
  BlkRig rig;
  rig.start();
  for (uint16_t i = 0; i < 3; i++) rig.ask(i, kBlkTypeOut, 8u * i, kData, 512);
  rig.serve();
  BlkRig second;
  restore(second, rig.memory, rig.capture());
  second.blk.serve(1);  // the first of them only
  CHECK(state_in(second.capture()).count == 3);
  BlkRig third;
  restore(third, second.memory, second.capture());
  third.mmio.kick_all();
  third.run_all();
  CHECK(third.used_idx(0) == 3);
}

TEST_CASE("blk: a driver that resets a restored device is not answered for what was before") {
  BlkRig rig;
  rig.start();
  rig.ask(0, kBlkTypeOut, 0, kData, 512);
  rig.serve();
  BlkRig other;
  restore(other, rig.memory, rig.capture());
  other.start();
  other.serve();
  CHECK(other.disk.waiting.empty());
  CHECK(other.used_idx(0) == 0);
}

TEST_CASE("blk: a restored chain that the guest spoiled breaks the queue and nothing else") {
  BlkRig rig;
  rig.start();
  rig.ask(0, kBlkTypeOut, 0, kData, 512);
  rig.serve();
  const auto blob = rig.capture();
  rig.desc(0, 0, {~0ull, 16, kNext, 1});
  BlkRig other;
  restore(other, rig.memory, blob);
  other.mmio.kick_all();
  other.serve();
  CHECK(other.needs_reset());
  CHECK(other.disk.waiting.empty());
}

TEST_CASE("blk: a state that no disk here could have is refused and changes nothing") {
  BlkRig rig;
  rig.start();
  rig.ask(0, kBlkTypeOut, 0, kData, 512);
  rig.serve();
  const auto blob = rig.capture();
  const auto refused = [&](const auto& change) {
    VirtioBlkState state = state_in(blob);
    change(state);
    const auto bad = with_state(blob, state);
    auto reader = StateReader::open(bad);
    REQUIRE(reader.ok());
    const auto status = rig.mmio.restore(reader.value());
    return !status.ok() && std::string(status.error().code) == "FT_ERR_STATE_FORMAT" &&
           rig.capture() == blob;
  };
  CHECK(refused([](VirtioBlkState& s) { s.version = 2; }));
  CHECK(refused([](VirtioBlkState& s) { s.sectors++; }));
  CHECK(refused([](VirtioBlkState& s) { s.count = kQueueSizeMax + 1; }));
  CHECK(refused([](VirtioBlkState& s) { s.count = ~0u; }));
  CHECK(refused([](VirtioBlkState& s) { s.count = 2; }));  // head 0 twice
  CHECK(refused([](VirtioBlkState& s) { s.heads[0] = kQueueSizeMax; }));
  CHECK(refused([](VirtioBlkState& s) { s.heads[1] = 1; }));
  CHECK(refused([](VirtioBlkState& s) { s.count = 0, s.heads[0] = 3; }));
  rig.finish();
  CHECK(rig.answer(0) == kBlkStatusOk);
}

namespace {

// A file for an image, gone with the object.
struct TempImage {
  std::string path;
  explicit TempImage(uint64_t bytes) {
    char name[] = "/tmp/ft-blk-XXXXXX";
    const int fd = ::mkstemp(name);
    REQUIRE(fd >= 0);
    REQUIRE(::ftruncate(fd, static_cast<off_t>(bytes)) == 0);
    ::close(fd);
    path = name;
  }
  ~TempImage() {
    ::unlink(path.c_str());
    ::unlink((path + ".ftmap").c_str());
  }
  std::vector<uint8_t> bytes() const {
    std::vector<uint8_t> all;
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0);
    uint8_t block[65536];
    for (ssize_t n; (n = ::read(fd, block, sizeof(block))) > 0;) {
      all.insert(all.end(), block, block + n);
    }
    ::close(fd);
    return all;
  }
};

// One side of a pair: an image, its replicated disk and the device over it, pumped by hand.
struct Side {
  TempImage file;
  std::unique_ptr<DiskSet> disks;
  std::unique_ptr<VirtioBlk> blk;
  std::unique_ptr<DriverRig> rig;
  std::vector<DiskCompletion> done;

  explicit Side(uint64_t bytes) : file(bytes) {
    const std::vector<DiskOptions> options = {{file.path, false, file.path + ".ftmap"}};
    auto made = DiskSet::create(options, {});
    REQUIRE(made.ok());
    disks = made.take();
    blk = std::make_unique<VirtioBlk>(
        BlkParts::options(bytes, false),
        [this](IoOp op) {
          disks->disk(0).submit(op.kind, op.offset, op.bytes, std::move(op.data), op.id);
        },
        [] {});
    rig = std::make_unique<DriverRig>(*blk);
  }
  // Pumps once; the device hears of what ended.
  void pump() {
    disks->disk(0).pump(done);
    for (const DiskCompletion& completion : done) blk->complete(completion);
    done.clear();
    blk->serve(kServeAll);
    disks->disk(0).pump(done);
  }
  void settle() {
    for (int i = 0; i < 10000; i++) {
      pump();
      if (blk->unfinished() == 0 && disks->backlog_bytes() == 0 && done.empty()) return;
      pollfd event = {disks->disk(0).event_fd(), POLLIN, 0};
      ::poll(&event, 1, 10);
    }
    FAIL("the disk does not settle");
  }
};

// Writes of random lengths to random places, as a driver posts them; bytes tell them apart.
void ask_writes(DriverRig& rig, std::mt19937_64& random, uint64_t sectors) {
  for (uint16_t i = 0; i < 16; i++) {
    const auto bytes = static_cast<uint32_t>(512 * (1 + random() % 64));
    const uint64_t gpa = 0x40000 + 0x8000u * i;
    for (uint32_t b = 0; b < bytes; b += 8) rig.poke<uint64_t>(gpa + b, random());
    rig.poke(kHeaders + 32u * i, BlkHeader{kBlkTypeOut, 0, random() % (sectors - bytes / 512)});
    rig.poke(kStatuses + i, kNoStatus);
    const auto d = static_cast<uint16_t>(4 * i);
    rig.desc(0, d, {kHeaders + 32u * i, 16, kNext, static_cast<uint16_t>(d + 1)});
    rig.desc(0, static_cast<uint16_t>(d + 1), {gpa, bytes, kNext, static_cast<uint16_t>(d + 2)});
    rig.desc(0, static_cast<uint16_t>(d + 2), {kStatuses + i, 1, kWrite, 0});
    rig.offer(0, d);
  }
}

// What a cut takes at one moment: memory, state and log; the log goes to the standby as an epoch's
// does.
struct Snapshot {
  GuestMemory memory = make_memory();
  std::vector<uint8_t> blob;
  DiskLogs logs;
};

void cut(Side& primary, uint64_t epoch, Snapshot& into) {
  std::copy_n(primary.rig->memory.host_base(), primary.rig->memory.size(), into.memory.host_base());
  StateWriter writer;
  writer.begin();
  primary.rig->mmio.capture(writer);
  const auto blob = writer.finish();
  into.blob.assign(blob.begin(), blob.end());
  for (auto& log : into.logs) log.clear();
  primary.disks->take_logs(epoch, into.logs);
}

void ship(const DiskLogs& logs, Side& standby) {
  DiskRecordWriter writer;
  std::vector<uint8_t> piece(40'000);
  const auto targets = standby.disks->targets();
  while (!writer.done(logs)) {
    const size_t bytes = writer.write(logs, piece);
    REQUIRE((bytes > 0 || writer.done(logs)));
    const std::span<const uint8_t> section(piece.data(), bytes);
    REQUIRE(verify_disk_records(section, targets).ok());
    promise_disk_records(section, targets);
    apply_disk_records(section, targets);
  }
}

}  // namespace

TEST_CASE("blk: requests under way at the last cut are done again on the standby's image") {
  constexpr uint64_t kBytes = 4 << 20;
  for (uint64_t seed = 1; seed <= 6; seed++) {
    CAPTURE(seed);
    std::mt19937_64 random{seed};
    Side primary(kBytes);
    Side standby(kBytes);
    primary.disks->begin_replication(standby.disks->begin_sync(primary.disks->sync_ids()));
    primary.rig->start(64);
    uint64_t epoch = 0;
    Snapshot snapshot;
    while (!primary.disks->synced()) {
      primary.pump();
      cut(primary, ++epoch, snapshot);
      ship(snapshot.logs, standby);
      standby.pump();
    }
    primary.disks->in_step("a session");
    standby.disks->in_step("a session");
    // A driver that posts, and cuts that come when they come.
    for (int round = 0; round < 10; round++) {
      ask_writes(*primary.rig, random, kBytes / 512);
      const uint64_t pumps = random() % 4;
      for (uint64_t i = 0; i < pumps; i++) primary.pump();
      cut(primary, ++epoch, snapshot);
      ship(snapshot.logs, standby);
      if (round == 9) break;  // the primary dies here
      primary.disks->acked(epoch);
      primary.settle();
      standby.pump();
    }
    const uint32_t unanswered = static_cast<uint16_t>(
        160 - static_cast<uint16_t>([&] {
          uint16_t used;
          std::memcpy(&used, snapshot.memory.host_base() + DriverRig::used_gpa(0) + 2, 2);
          return used;
        }()));
    CHECK(unanswered <= 16);

    restore(*standby.rig, snapshot.memory, snapshot.blob);
    standby.rig->mmio.kick_all();
    standby.settle();
    CHECK(standby.rig->used_idx(0) == 160);
    for (uint16_t i = 0; i < 16; i++) {
      CHECK(standby.rig->peek<uint8_t>(kStatuses + i) == kBlkStatusOk);
    }
    // The primary, had it lived, would have ended with the same image.
    primary.settle();
    CHECK(primary.rig->used_idx(0) == 160);
    CHECK(primary.disks->close().ok());
    CHECK(standby.disks->close().ok());
    CHECK(primary.file.bytes() == standby.file.bytes());
  }
}

// The disk thread between a driver that posts as fast as it can and cuts that come at any moment:
// every request is answered once, a cut is never kept waiting for more than a batch, and what the
// logs of the cuts hold, applied in order, is the image.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "machine/disk_set.h"
#include "machine/disk_thread.h"
#include "virtio_support.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr uint64_t kDiskBytes = 2 << 20;
constexpr uint64_t kHeaders = 0x20000;
constexpr uint64_t kStatuses = 0x24000;
constexpr uint32_t kQueue = 64;
constexpr uint16_t kRequests = 16;

// A machine's disk and device without a machine: an image that is unlinked at once, one lock.
struct World {
  std::string path;
  std::mutex machine_lock;
  std::atomic<bool> frozen{false};
  std::atomic<bool> cut_waits{false};
  UniqueFd queue_event{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  std::unique_ptr<DiskSet> disks;
  std::unique_ptr<DiskThread> thread;
  VirtioBlk blk;
  DriverRig rig;

  World()
      : blk(
            {.bytes = kDiskBytes, .read_only = false, .id = "romulus-0"},
            [this](IoOp op) {
              disks->disk(0).submit(op.kind, op.offset, op.bytes, std::move(op.data), op.id);
            },
            [this] {
              if (thread) thread->wake();
            }),
        rig(blk) {
    char name[] = "/tmp/ft-blk-XXXXXX";
    const int fd = ::mkstemp(name);
    REQUIRE(fd >= 0);
    REQUIRE(::ftruncate(fd, kDiskBytes) == 0);
    ::close(fd);
    path = name;
    const std::vector<DiskOptions> options = {{path, false, ""}};
    auto made = DiskSet::create(options, {});
    REQUIRE(made.ok());
    disks = made.take();
    auto served = DiskThread::create({
        .disks = {{.disk = disks->disk(0), .device = blk, .queue_event_fd = queue_event.get()}},
        .machine_lock = machine_lock,
        .frozen = [this] { return frozen.load(); },
        .cut_waits = [this] { return cut_waits.load(); },
    });
    REQUIRE(served.ok());
    thread = served.take();
  }
  ~World() {
    thread->stop();
    ::unlink(path.c_str());
  }
  std::vector<uint8_t> image() const {
    std::vector<uint8_t> bytes(kDiskBytes);
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    REQUIRE(::pread(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(kDiskBytes));
    return bytes;
  }

  // The driver's own words, which another thread reads: as a vCPU would say them.
  uint16_t* word(uint64_t gpa) { return reinterpret_cast<uint16_t*>(rig.memory.host_base() + gpa); }
  void post(uint16_t i, uint32_t type, uint64_t sector, uint64_t gpa, uint32_t bytes) {
    struct {
      uint32_t type, zero;
      uint64_t sector;
    } const header = {type, 0, sector};
    rig.poke(kHeaders + 32u * i, header);
    const auto d = static_cast<uint16_t>(3 * i);
    const uint16_t in = type == kBlkTypeIn ? kWrite : 0;
    const auto next = static_cast<uint16_t>(bytes == 0 ? d + 2 : d + 1);
    rig.desc(0, d, {kHeaders + 32u * i, 16, kNext, next});
    rig.desc(0, static_cast<uint16_t>(d + 1),
             {gpa, bytes, static_cast<uint16_t>(kNext | in), static_cast<uint16_t>(d + 2)});
    rig.desc(0, static_cast<uint16_t>(d + 2), {kStatuses + i, 1, kWrite, 0});
    const uint16_t idx = posted++;
    rig.poke<uint16_t>(DriverRig::avail_gpa(0) + 4 + 2u * (idx % kQueue), d);
    __atomic_store_n(word(DriverRig::avail_gpa(0) + 2), posted, __ATOMIC_RELEASE);
    const uint64_t one = 1;
    REQUIRE(::write(queue_event.get(), &one, sizeof(one)) == sizeof(one));
  }
  uint16_t answered() {
    return __atomic_load_n(word(DriverRig::used_gpa(0) + 2), __ATOMIC_ACQUIRE);
  }
  bool wait_for(uint16_t count) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (answered() != count) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  uint16_t posted = 0;
};

void replay(const DiskLogs& logs, std::vector<uint8_t>& image) {
  for (const DiskRecord& record : logs[0]) {
    uint8_t* at = image.data() + record.offset;
    if (record.kind == IoKind::kWrite) std::memcpy(at, record.data->data(), record.bytes);
    if (record.kind == IoKind::kZero) std::memset(at, 0, record.bytes);
  }
}

}  // namespace

TEST_SUITE("threads") {
  TEST_CASE("blk: a driver at full speed and cuts at any moment") {
    World world;
    world.rig.start(kQueue);
    world.disks->begin_replication({});
    world.thread->start();

    std::atomic<bool> over{false};
    std::vector<uint8_t> copy(kDiskBytes, 0xff);
    uint64_t cuts = 0;
    std::thread cutter([&] {
      DiskLogs logs;
      StateWriter writer;
      while (true) {
        const bool last = over.load();
        world.cut_waits.store(true);
        {
          const std::lock_guard lock(world.machine_lock);
          world.cut_waits.store(false);
          writer.begin();
          world.rig.mmio.capture(writer);
          world.disks->take_logs(++cuts, logs);
        }
        replay(logs, copy);
        for (auto& log : logs) log.clear();
        world.disks->acked(cuts);
        if (last && world.disks->synced()) break;
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
    });

    std::mt19937_64 random{11};
    std::vector<uint8_t> expected(kDiskBytes, 0);
    constexpr int kRounds = 30;
    for (int round = 0; round < kRounds; round++) {
      for (uint16_t i = 0; i < kRequests; i++) {
        const uint64_t gpa = 0x40000 + 0x8000u * i;
        const auto bytes = static_cast<uint32_t>(512 * (1 + random() % 64));
        const uint64_t sector = random() % ((kDiskBytes - bytes) / 512);
        if (i == 7) {
          world.post(i, kBlkTypeFlush, 0, 0, 0);
        } else if (i % 4 == 3) {
          world.post(i, kBlkTypeIn, sector, gpa, bytes);
        } else {
          for (uint32_t b = 0; b < bytes; b += 8) world.rig.poke<uint64_t>(gpa + b, random());
          std::copy_n(world.rig.memory.host_base() + gpa, bytes,
                      expected.begin() + static_cast<long>(sector * 512));
          world.post(i, kBlkTypeOut, sector, gpa, bytes);
        }
      }
      REQUIRE(world.wait_for(world.posted));
      for (uint16_t i = 0; i < kRequests; i++) {
        CHECK(world.rig.peek<uint8_t>(kStatuses + i) == kBlkStatusOk);
      }
    }
    over.store(true);
    cutter.join();
    world.thread->stop();
    CHECK(cuts > 1);
    CHECK(world.disks->close().ok());
    CHECK(world.image() == expected);
    CHECK(copy == expected);
  }

  TEST_CASE("blk: nothing touches guest memory while it is frozen, and all goes on afterwards") {
    World world;
    world.rig.start(kQueue);
    world.thread->start();
    world.post(0, kBlkTypeIn, 0, 0x40000, 4096);
    REQUIRE(world.wait_for(1));
    {
      const std::lock_guard lock(world.machine_lock);
      world.frozen.store(true);
      world.rig.memory.clear_dirty();
    }
    world.post(1, kBlkTypeIn, 0, 0x40000, 4096);
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
    {
      const std::lock_guard lock(world.machine_lock);
      CHECK(world.rig.memory.dirty_gfns().empty());
      CHECK(world.answered() == 1);
      world.frozen.store(false);
    }
    world.thread->wake();
    REQUIRE(world.wait_for(2));
  }
}

// Times the queue of a replicated disk: 4 KiB writes at random places and 1 MiB writes one behind
// the other, through io_uring and through threads, alone and with a standby whose image is on the
// same file system (so that every byte is written twice). Also how long a cut waits for the log.
// Usage: disk_bench [directory] [seconds]. Not a test: it asserts nothing about time.
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "disk/replicated_disk.h"

namespace {

using namespace ft;  // NOLINT: one short programme about this namespace
using Clock = std::chrono::steady_clock;

constexpr uint64_t kImageBytes = 256ull << 20;

double us_since(Clock::time_point from) {
  return std::chrono::duration<double, std::micro>(Clock::now() - from).count();
}

std::unique_ptr<ReplicatedDisk> open_disk(const std::string& path, bool uring) {
  const UniqueFd made(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  // Room that is there and written once, or the file system's allocation would be measured.
  FT_CHECK(made.valid() && ::posix_fallocate(made.get(), 0, kImageBytes) == 0, "no image");
  const std::vector<uint8_t> piece(1 << 20, 1);
  for (uint64_t at = 0; at < kImageBytes; at += piece.size()) {
    FT_CHECK(::pwrite(made.get(), piece.data(), piece.size(), static_cast<off_t>(at)) ==
                 static_cast<ssize_t>(piece.size()),
             "no image");
  }
  FT_CHECK(::fsync(made.get()) == 0, "no image");
  auto image = DiskImage::open({path, false, 5000});
  FT_CHECK(image.ok(), "no image");
  auto engine = IoEngine::create(image.value().fd(), uring);
  FT_CHECK(engine.ok(), "no engine");
  auto disk = ReplicatedDisk::create(image.take(), path + ".ftmap", {}, engine.take());
  FT_CHECK(disk.ok(), "no disk");
  return disk.take();
}

struct Pair {
  Pair(ReplicatedDisk* a, ReplicatedDisk* s, uint64_t last) : active(a), standby(s), epoch(last) {}

  ReplicatedDisk* active;
  ReplicatedDisk* standby;  // null: alone
  uint64_t epoch;
  std::vector<DiskRecord> log;
  std::vector<double> cuts_us;
  Clock::time_point last_cut = Clock::now();

  /// A cut a millisecond, unless the standby is behind.
  void replicate() {
    std::vector<DiskCompletion> ignored;
    standby->pump(ignored);
    if (us_since(last_cut) < 1000 || standby->facts().backlog_bytes > ReplicatedDisk::kLogBytesMax)
      return;
    last_cut = Clock::now();
    log.clear();
    active->take_log(++epoch, log);
    cuts_us.push_back(us_since(last_cut));
    for (const DiskRecord& record : log) standby->promise(record);
    active->acked(epoch);
    for (DiskRecord& record : log) standby->apply(std::move(record));
  }
  void wait() const {
    pollfd events[2] = {{active->event_fd(), POLLIN, 0}, {-1, POLLIN, 0}};
    if (standby != nullptr) events[1].fd = standby->event_fd();
    ::poll(events, 2, 1);
  }
};

struct Load {
  const char* name;
  uint64_t bytes;
  uint64_t depth;
  bool random;
};

void measure(const Load& load, Pair& pair, const char* engine, double seconds) {
  std::mt19937_64 dice(1);
  auto data = std::make_shared<IoBuffer>(load.bytes);
  std::fill_n(data->data(), load.bytes, uint8_t{7});
  std::vector<DiskCompletion> done;
  const uint64_t places = kImageBytes / load.bytes;
  uint64_t asked = 0, ended = 0;
  const auto from = Clock::now();
  while (us_since(from) < seconds * 1e6) {
    for (; asked - ended < load.depth; asked++) {
      const uint64_t place = load.random ? dice() % places : asked % places;
      pair.active->submit(IoKind::kWrite, place * load.bytes, load.bytes, data, asked);
    }
    done.clear();
    pair.active->pump(done);
    ended += done.size();
    if (pair.standby != nullptr) pair.replicate();
    if (done.empty()) pair.wait();
  }
  const double took = us_since(from) / 1e6;
  std::printf("%-22s %-9s %-11s %9.0f/s %9.1f MB/s", load.name, engine,
              pair.standby == nullptr ? "alone" : "replicated", static_cast<double>(ended) / took,
              static_cast<double>(ended * load.bytes) / took / 1e6);
  if (!pair.cuts_us.empty()) {
    std::sort(pair.cuts_us.begin(), pair.cuts_us.end());
    std::printf("   cut p50 %.1f µs, p99 %.1f µs", pair.cuts_us[pair.cuts_us.size() / 2],
                pair.cuts_us[pair.cuts_us.size() * 99 / 100]);
  }
  std::printf("\n");
  while (ended < asked) {
    done.clear();
    pair.active->pump(done);
    ended += done.size();
    if (pair.standby != nullptr) pair.replicate();
    if (done.empty()) pair.wait();
  }
}

void run_engine(const std::string& directory, bool uring, double seconds) {
  const std::string a = directory + "/disk-bench-a", b = directory + "/disk-bench-b";
  {
    auto active = open_disk(a, uring);
    auto standby = open_disk(b, uring);
    const Load loads[] = {{"4 KiB random, 32 deep", 4096, 32, true},
                          {"1 MiB in a row, 8 deep", 1 << 20, 8, false}};
    for (const Load& load : loads) {
      Pair alone(active.get(), nullptr, 0);
      measure(load, alone, active->engine_name(), seconds);
    }
    standby->begin_sync("");
    active->begin_replication(nullptr);
    Pair both(active.get(), standby.get(), 0);
    const auto from = Clock::now();
    std::vector<DiskCompletion> none;
    while (!active->synced()) {
      active->pump(none);
      both.replicate();
      both.wait();
    }
    std::printf("%-22s %-9s %-11s %24.1f MB/s\n", "full sync", active->engine_name(), "replicated",
                kImageBytes / us_since(from));
    for (const Load& load : loads) {
      Pair pair(active.get(), standby.get(), both.epoch);
      measure(load, pair, active->engine_name(), seconds);
      both.epoch = pair.epoch;
    }
    active->end_replication();
  }
  for (const auto& path : {a, b}) {
    ::unlink(path.c_str());
    ::unlink((path + ".ftmap").c_str());
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string directory = argc > 1 ? argv[1] : "/tmp";
  const double seconds = argc > 2 ? std::strtod(argv[2], nullptr) : 2;
  for (const bool uring : {true, false}) run_engine(directory, uring, seconds);
  return 0;
}

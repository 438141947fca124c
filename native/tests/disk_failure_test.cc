// Disks that fail: images that cannot be opened, are full, in use, or become shorter, and processes
// that are killed in the middle of their writes.
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include <thread>

#include "disk_support.h"

using namespace ft;        // NOLINT: tests of this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr uint64_t kMiB = 1 << 20;

std::string code_of(const std::string& path, bool read_only = false) {
  const auto image = DiskImage::open({path, read_only, 0});
  return image.ok() ? "" : image.error().code;
}

/// Runs `body` in a process of its own; what it returns is 0 or the line that found something.
int in_child(const std::function<int()>& body) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) ::_exit(body());
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

// An exit status has eight bits.
#define CHILD_CHECK(expr)                                                           \
  do {                                                                              \
    if (!(expr)) {                                                                  \
      std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #expr); \
      return 1;                                                                     \
    }                                                                               \
  } while (0)

/// A file system of one MiB at `path`, for this process alone.
bool mount_small(const std::string& path) {
  if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return false;
  return ::mkdir(path.c_str(), 0700) == 0 &&
         ::mount("small", path.c_str(), "tmpfs", 0, "size=1m") == 0;
}

void pump_for(ReplicatedDisk& disk, std::vector<DiskCompletion>& out, size_t count) {
  for (int i = 0; i < 10'000 && out.size() < count; i++) {
    disk.pump(out);
    pollfd event = {disk.event_fd(), POLLIN, 0};
    ::poll(&event, 1, 1);
  }
}

int full_disk(const std::string& small, bool uring) {
  CHILD_CHECK(mount_small(small));
  const std::string path = small + "/image";
  {
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    CHILD_CHECK(fd.valid() && ::ftruncate(fd.get(), 4 * kMiB) == 0);
  }
  auto image = DiskImage::open({path, false, 0});
  CHILD_CHECK(image.ok());
  auto engine = IoEngine::create(image.value().fd(), uring);
  CHILD_CHECK(engine.ok());
  int told = 0;
  ReplicatedDisk::Hooks hooks;
  hooks.on_apply_failed = [&] { told++; };
  auto made =
      ReplicatedDisk::create(image.take(), path + ".ftmap", std::move(hooks), engine.take());
  CHILD_CHECK(made.ok());
  ReplicatedDisk& disk = *made.value();

  // The guest's own writes: the error is the guest's, and the disk goes on.
  std::vector<DiskCompletion> out;
  for (uint64_t i = 0; i < 8; i++) {
    disk.submit(IoKind::kWrite, i * 262144, 262144, filled(262144, 1), i);
  }
  pump_for(disk, out, 8);
  int full = 0;
  for (const auto& done : out) {
    CHILD_CHECK(done.error == 0 || done.error == ENOSPC);
    full += done.error == ENOSPC;
  }
  CHILD_CHECK(full >= 4 && full < 8 && told == 0);
  out.clear();
  disk.submit(IoKind::kZero, 0, 2 * kMiB, nullptr, 1);
  disk.submit(IoKind::kWrite, 0, 4096, filled(4096, 2), 2);
  pump_for(disk, out, 2);
  CHILD_CHECK(out.size() == 2 && out[0].error == 0 && out[1].error == 0);

  // A standby's: this image is no copy any more, which is said once; what is missing stays marked.
  disk.begin_sync("");
  disk.in_step("session");
  CHILD_CHECK(disk.facts().regions_marked == 0);
  for (uint64_t i = 0; i < 8; i++) {
    const DiskRecord record = {IoKind::kWrite, i * 262144, 262144, filled(262144, 3)};
    disk.promise(record);
    disk.apply(record);
  }
  for (int i = 0; i < 10'000 && disk.facts().backlog_bytes > 0; i++) {
    disk.pump(out);
    pollfd event = {disk.event_fd(), POLLIN, 0};
    ::poll(&event, 1, 1);
  }
  CHILD_CHECK(told == 1 && disk.apply_failure());
  const Error why = *disk.apply_failure();
  CHILD_CHECK(std::string(why.code) == "FT_ERR_DISK_IO" && why.sys_errno == ENOSPC);
  CHILD_CHECK(why.message.find("No space left") != std::string::npos);
  const uint64_t marked = disk.facts().regions_marked;
  CHILD_CHECK(marked >= 16 && marked < 32 && marked % 4 == 0);
  CHILD_CHECK(disk.facts().errors >= 8);
  // The next session is not to blame, whenever that is heard of.
  disk.begin_sync("");
  CHILD_CHECK(!disk.apply_failure());
  return 0;
}

}  // namespace

TEST_CASE("disk image: what cannot be a disk is refused with the reason") {
  TempDir dir;
  CHECK(code_of(dir.file("missing")) == "FT_ERR_DISK_OPEN");
  CHECK(code_of("/dev/shm") == "FT_ERR_DISK_OPEN");
  CHECK(code_of("/dev/null") == "FT_ERR_DISK_OPEN");
  make_image(dir.file("empty"), 0);
  CHECK(code_of(dir.file("empty")) == "FT_ERR_DISK_SIZE");
  make_image(dir.file("odd"), 513);
  CHECK(code_of(dir.file("odd")) == "FT_ERR_DISK_SIZE");
  make_image(dir.file("least"), 512);
  CHECK(code_of(dir.file("least")).empty());
  const UniqueFd huge(::open(dir.file("huge").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (::ftruncate(huge.get(), off_t{1} << 49) == 0) {
    CHECK(code_of(dir.file("huge")) == "FT_ERR_DISK_SIZE");
  }
}

TEST_CASE("disk image: one user at a time, or many that only read") {
  TempDir dir;
  const std::string path = dir.file("image");
  make_image(path, kMiB);
  {
    const DiskImage mine = open_image(path);
    CHECK(mine.bytes() == kMiB);
    CHECK(code_of(path) == "FT_ERR_DISK_BUSY");
    CHECK(code_of(path, true) == "FT_ERR_DISK_BUSY");
    CHECK(in_child([&] { return code_of(path) == "FT_ERR_DISK_BUSY" ? 0 : 1; }) == 0);
  }
  {
    auto reader = DiskImage::open({path, true, 0});
    REQUIRE(reader.ok());
    CHECK(code_of(path, true).empty());
    CHECK(code_of(path) == "FT_ERR_DISK_BUSY");
  }
  // One that is given up within the time one is ready to wait.
  auto mine = std::make_unique<DiskImage>(open_image(path));
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    mine.reset();
  });
  CHECK(DiskImage::open({path, false, 5000}).ok());
  later.join();
}

TEST_CASE("disk image: the fingerprint sees a changed block") {
  TempDir dir;
  const std::string path = dir.file("image");
  make_image(path, kMiB + 512);
  const auto taken = [&] { return DiskImage::open({path, true, 0}).value().fingerprint().value(); };
  const uint32_t before = taken();
  CHECK(taken() == before);
  for (const off_t at : {off_t{0}, off_t{500'000}, static_cast<off_t>(kMiB + 511)}) {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    REQUIRE(::pwrite(fd.get(), "x", 1, at) == 1);
    const uint32_t changed = taken();
    CHECK(changed != before);
    REQUIRE(::pwrite(fd.get(), "", 1, at) == 1);
    CHECK(taken() == before);
  }
}

TEST_CASE("disk: a full file system is the guest's error, and the end of a standby's copy") {
  TempDir dir;
  CHECK(in_child([&] { return full_disk(dir.file("small"), false); }) == 0);
  CHECK(in_child([&] { return full_disk(dir.file("small2"), true); }) == 0);
}

TEST_CASE("disk: an image that becomes shorter fails reads and syncs, not the process") {
  TempDir dir;
  const std::string path = dir.file("image");
  make_image(path, 8 * kMiB);
  int told = 0;
  ReplicatedDisk::Hooks hooks;
  hooks.on_sync_failed = [&] { told++; };
  auto disk = open_disk(path, std::move(hooks));
  CHECK(run(*disk, IoKind::kWrite, 0, kMiB, filled(kMiB, 1)).error == 0);
  REQUIRE(::truncate(path.c_str(), 65536) == 0);
  CHECK(run(*disk, IoKind::kRead, kMiB, 4096).error == EIO);
  std::vector<DiskCompletion> out;
  disk->begin_replication(nullptr);
  pump_until(*disk, out, [&] { return told > 0; });
  REQUIRE(disk->sync_failure());
  CHECK(disk->sync_failure()->message.find(path) != std::string::npos);
  CHECK_FALSE(disk->synced());
  // Guests may go on, and once the image is whole again, so may a sync.
  CHECK(run(*disk, IoKind::kWrite, 0, 4096, filled(4096, 2)).error == 0);
  CHECK_FALSE(disk->synced());
  disk->end_replication();
  REQUIRE(::truncate(path.c_str(), 8 * kMiB) == 0);
  disk->begin_replication(nullptr);
  CHECK_FALSE(disk->sync_failure());
  pump_until(*disk, out, [&] { return disk->synced(); });
  CHECK(told == 1);
}

TEST_CASE("disk: a process killed in the middle of its writes leaves a map that covers them") {
  TempDir dir("/tmp");  // a file system with real transfers
  const std::string path = dir.file("image");
  make_image(path, 32 * kMiB);
  for (int round = 0; round < 6; round++) {
    const auto before = read_file(path);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto image = DiskImage::open({path, false, 5000});
      if (!image.ok()) ::_exit(1);
      auto made = ReplicatedDisk::create(image.take(), path + ".ftmap", {});
      if (!made.ok()) ::_exit(1);
      ReplicatedDisk& disk = *made.value();
      disk.begin_sync("");
      disk.in_step(
          "session");  // from here on the image was as it is now, and every write is marked
      std::mt19937_64 dice(static_cast<uint64_t>(round));
      std::vector<DiskCompletion> out;
      for (uint64_t i = 0;; i++) {
        const uint64_t region = dice() % 500;
        const uint64_t bytes = 512 * (1 + dice() % 128);
        disk.submit(IoKind::kWrite, region * kRegionBytesMin, bytes, filled(bytes, 1 + i % 255), i);
        if (i % 8 == 0) disk.pump(out);
        if (i == 40) ::kill(::getpid(), SIGKILL);
      }
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    // The lock is free again when the last transfer has ended.
    auto image = DiskImage::open({path, false, 5000});
    REQUIRE(image.ok());
    const auto after = read_file(path);
    const auto map = RegionMap::open(path + ".ftmap", 32 * kMiB, image.value().stamp().value());
    REQUIRE(map.ok());
    CHECK(map.value().sync_id() == "session");
    const auto bits = map.value().snapshot();
    uint64_t changed = 0;
    for (size_t region = 0; region < 512; region++) {
      const size_t at = region * kRegionBytesMin;
      if (std::memcmp(before.data() + at, after.data() + at, kRegionBytesMin) == 0) continue;
      changed++;
      CHECK((bits[region / 8] >> (region % 8) & 1) == 1);
    }
    CHECK(changed > 0);
    CHECK(map.value().marked() < 42);
  }
}

// The region map: what its file says after every kind of end, and what is not believed.
#include <sys/wait.h>

#include <fstream>

#include "core/crc32c.h"
#include "disk_support.h"

using namespace ft;        // NOLINT: tests of this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr uint64_t kImageBytes = 100 * kRegionBytesMin + 512;
constexpr size_t kBootIdAt = 48, kCleanAt = 40, kSyncIdAt = 92, kBitsAt = 4096;
constexpr ImageStamp kStamp = {7, 1234};

RegionMap open_map(const std::string& path, uint64_t bytes = kImageBytes,
                   ImageStamp stamp = kStamp) {
  auto map = RegionMap::open(path, bytes, stamp);
  if (!map) FAIL(map.error().message);
  return map.take();
}

/// Leaves a map behind as a killed process does: in step with "one", regions 3 and 100 marked.
void leave_behind(const std::string& path, bool clean = false) {
  RegionMap map = open_map(path);
  map.in_step("one");
  map.mark(3 * kRegionBytesMin, 512);
  map.mark(100 * kRegionBytesMin, 512);
  if (clean) REQUIRE(map.close_clean(kStamp).ok());
}

void poke(const std::string& path, size_t at, uint8_t flip) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(at));
  const int before = file.get();
  file.seekp(static_cast<std::streamoff>(at));
  file.put(static_cast<char>(before ^ flip));
  REQUIRE(file.good());
}

bool believed(const std::string& path, uint64_t bytes = kImageBytes, ImageStamp stamp = kStamp) {
  const RegionMap map = open_map(path, bytes, stamp);
  const bool marked = map.marked() == 2;
  CHECK((marked || map.marked() == 0));
  CHECK(map.sync_id() == (marked ? "one" : ""));
  return marked;
}

}  // namespace

TEST_CASE("region map: regions grow with the disk, so that a map stays small") {
  CHECK(RegionMap::region_bytes_for(512) == kRegionBytesMin);
  const uint64_t largest = kRegionsMax * kRegionBytesMin;
  CHECK(RegionMap::region_bytes_for(largest) == kRegionBytesMin);
  CHECK(RegionMap::region_bytes_for(largest + 512) == 2 * kRegionBytesMin);
  CHECK(RegionMap::region_bytes_for(kImageBytesMax) == 1u << 30);
  const auto map = RegionMap::open("", kImageBytesMax);
  REQUIRE(map.ok());
  CHECK(map.value().snapshot().size() == 32768);
}

TEST_CASE("region map: marks move from newer to older and out, and wait for in_step") {
  RegionMap map = open_map("");
  CHECK(map.regions() == 101);
  map.mark(kRegionBytesMin - 512, 1024);
  CHECK(map.marked() == 2);
  map.rotate();
  map.retire();
  CHECK(map.marked() == 2);  // never in step: nothing is forgotten
  map.in_step("one");
  CHECK(map.marked() == 0);
  CHECK(map.sync_id() == "one");

  map.mark(0, 512);
  map.rotate();
  CHECK_FALSE(map.older_empty());
  map.mark(0, 512);
  map.mark(5 * kRegionBytesMin, 512);
  map.retire();
  CHECK(map.marked() == 2);  // region 0 was marked again meanwhile
  CHECK(map.snapshot()[0] == 0x21);
  map.rotate();
  map.retire();
  CHECK(map.marked() == 0);

  map.fail(9 * kRegionBytesMin, 512);
  map.mark(9 * kRegionBytesMin, 512);
  map.rotate();
  map.retire();
  CHECK(map.marked() == 1);  // a write failed there
  map.collect();
  map.rotate();
  map.retire();
  CHECK(map.marked() == 1);
  map.in_step("two");
  CHECK(map.marked() == 0);
  map.in_step(std::string(65, 'x'));
  CHECK(map.sync_id().empty());
  CHECK(open_map("").sync_id().empty());
}

TEST_CASE("region map: a killed process leaves a map that is believed") {
  TempDir dir;
  const std::string path = dir.file("map");
  leave_behind(path);
  CHECK(believed(path));
  CHECK(believed(path));
  // In a process of its own, which ends without any destructor.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    auto map = RegionMap::open(path, kImageBytes, kStamp);
    if (!map.ok()) ::_exit(1);
    map.value().mark(50 * kRegionBytesMin, 512);
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(status == 0);
  CHECK(open_map(path).marked() == 3);
}

TEST_CASE("region map: another run of the host is believed after a clean end only") {
  TempDir dir;
  const std::string path = dir.file("map");
  leave_behind(path);
  auto content = read_file(path);
  // The same header, with another boot id and a crc that is right.
  const auto reboot = [&] {
    content = read_file(path);
    content[kBootIdAt] = content[kBootIdAt] == 'x' ? 'y' : 'x';
    const uint32_t crc = crc32c({content.data(), 156});
    std::memcpy(content.data() + 156, &crc, 4);
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()),
               static_cast<std::streamsize>(content.size()));
  };
  reboot();
  CHECK_FALSE(believed(path));
  leave_behind(path, true);
  CHECK(content[kCleanAt] == 0);
  reboot();
  CHECK(content[kCleanAt] == 1);
  CHECK(believed(path));
  // Opening it has made it "not closed in order" again.
  reboot();
  CHECK(content[kCleanAt] == 0);
  CHECK_FALSE(believed(path));
}

TEST_CASE("region map: an image that was changed or replaced is begun anew") {
  TempDir dir;
  const std::string path = dir.file("map");
  leave_behind(path, true);
  CHECK_FALSE(believed(path, kImageBytes, {7, 1235}));
  leave_behind(path);
  CHECK_FALSE(believed(path, kImageBytes, {8, 1234}));
  leave_behind(path);
  CHECK_FALSE(believed(path, kImageBytes + 512));
  leave_behind(path);
  CHECK_FALSE(believed(path, kImageBytes + 64 * kRegionBytesMin));
}

TEST_CASE("region map: a damaged or shortened file is begun anew") {
  TempDir dir;
  const std::string path = dir.file("map");
  for (const size_t at : {0u, 8u, 12u, 16u, 24u, 32u, 40u, 44u, 48u, 88u, 92u, 155u, 156u}) {
    CAPTURE(at);
    leave_behind(path);
    CHECK(believed(path));
    poke(path, at, 0x10);
    CHECK_FALSE(believed(path));
  }
  // The bits are covered by the crc of a clean end; past the last region they are never believed.
  leave_behind(path, true);
  poke(path, kBitsAt + 2, 1);
  CHECK_FALSE(believed(path));
  leave_behind(path);
  poke(path, kBitsAt + 13, 0x80);
  CHECK_FALSE(believed(path));
  leave_behind(path);
  const auto size = static_cast<off_t>(read_file(path).size());
  for (const off_t shorter : {off_t{0}, off_t{1}, off_t{100}, off_t{4096}, size - 1, size + 1}) {
    leave_behind(path);
    REQUIRE(::truncate(path.c_str(), shorter) == 0);
    CHECK_FALSE(believed(path));
  }
}

TEST_CASE("region map: a file in use, a directory, no room: an error that says so") {
  TempDir dir;
  const std::string path = dir.file("map");
  const RegionMap map = open_map(path);
  const auto second = RegionMap::open(path, kImageBytes, kStamp);
  REQUIRE_FALSE(second.ok());
  CHECK(std::string(second.error().code) == "FT_ERR_DISK_MAP");
  CHECK(second.error().message.find(path) != std::string::npos);
  for (const char* bad : {"/dev/shm", "/dev/full", "/nonexistent/map"}) {
    const auto refused = RegionMap::open(bad, kImageBytes, kStamp);
    REQUIRE_FALSE(refused.ok());
    CHECK(std::string(refused.error().code) == "FT_ERR_DISK_MAP");
  }
  CHECK(kSyncIdAt + kSyncIdBytesMax == 156);
}

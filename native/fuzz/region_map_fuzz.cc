// libFuzzer target: a region map's file made of fuzzer bytes, opened, used, and opened again.
//
// Three kinds of file: the bytes as they are; the bytes behind a header with a right crc, so that
// the fuzzer gets past it; and the file that a map left behind, changed in one place.
// Held: whatever the file says, a map opens; its syncId is bounded; it has no marks beyond the
// disk; a mark made is a mark found again; a map without a syncId has no marks from the file.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>

#include "core/crc32c.h"
#include "disk/region_map.h"
#include "fuzz_input.h"

namespace {

using namespace ft;  // NOLINT: one short programme about this namespace
using ft::fuzz::Input;

constexpr size_t kHeaderCrcAt = 156;  // as region_map.cc lays it out

// 70 regions: two words of bits, the last of them with room to spare.
constexpr uint64_t kImageBytes = 70 * kRegionBytesMin - 512;
constexpr ImageStamp kStamp = {3, 5};

int file() {
  static const int kFd = ::memfd_create("region-map", MFD_CLOEXEC);
  return kFd;
}

RegionMap open_map() {
  auto map = RegionMap::open("/proc/self/fd/" + std::to_string(file()), kImageBytes, kStamp);
  FT_CHECK(map.ok(), "a map did not open");
  return map.take();
}

void check(const RegionMap& map) {
  FT_CHECK(map.sync_id().size() <= kSyncIdBytesMax, "a syncId is too long");
  FT_CHECK(map.marked() <= map.regions(), "marks beyond the disk");
  const auto bits = map.snapshot();
  FT_CHECK(bits.size() == 9 && (bits[8] & 0xc0) == 0, "a mark beyond the disk");
}

void write_at(size_t at, std::span<const uint8_t> bytes) {
  FT_CHECK(::pwrite(file(), bytes.data(), bytes.size(), static_cast<off_t>(at)) ==
               static_cast<ssize_t>(bytes.size()),
           "memory file");
}

/// Makes the crc of the header right, so that only what it says can be wrong.
void seal_header() {
  std::array<uint8_t, kHeaderCrcAt> header = {};
  FT_CHECK(::pread(file(), header.data(), header.size(), 0) >= 0, "memory file");
  const uint32_t crc = crc32c(header);
  write_at(kHeaderCrcAt, {reinterpret_cast<const uint8_t*>(&crc), sizeof crc});
}

void use(RegionMap& map, Input& in) {
  while (!in.empty()) {
    const uint64_t sector = in.number<uint16_t>() % (kImageBytes / 512);
    const uint64_t bytes =
        std::min<uint64_t>((1 + in.number<uint8_t>()) * 512, kImageBytes - sector * 512);
    switch (in.number<uint8_t>() % 8) {
      case 0:
        if (map.older_empty()) map.rotate();
        break;
      case 1:
        map.retire();
        break;
      case 2:
        map.collect();
        break;
      case 3:
        map.in_step(std::string(in.number<uint8_t>(), 'i'));
        break;
      case 4:
        map.forget_sync();
        break;
      case 5:
        map.fail(sector * 512, bytes);
        break;
      default: {
        map.mark(sector * 512, bytes);
        const uint64_t region = sector * 512 / kRegionBytesMin;
        FT_CHECK((map.snapshot()[region / 8] >> (region % 8) & 1) == 1, "a mark got lost");
      }
    }
    check(map);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  Input in(data, bytes);
  const uint8_t kind = in.number<uint8_t>() % 3;
  FT_CHECK(::ftruncate(file(), 0) == 0, "memory file");
  if (kind == 0) {
    write_at(0, in.slice(in.number<uint16_t>()));
  } else {
    {
      RegionMap map = open_map();
      map.in_step("before");
      map.mark(in.number<uint8_t>() * 512ull, 512);
      if ((kind & 1) != 0) FT_CHECK(map.close_clean(kStamp).ok(), "a map did not close");
    }
    const size_t at = in.number<uint16_t>() % (4096 + 16);
    const auto change = in.slice(std::min<size_t>(in.number<uint8_t>(), 4096 + 16 - at));
    write_at(at, change);
    if ((in.number<uint8_t>() & 1) != 0) seal_header();
    if ((in.number<uint8_t>() & 15) == 0) {
      FT_CHECK(::ftruncate(file(), in.number<uint16_t>() % 5000) == 0, "memory file");
    }
  }
  std::vector<uint8_t> left;
  {
    RegionMap map = open_map();
    check(map);
    FT_CHECK(!map.sync_id().empty() || kind != 0 || map.marked() == 0, "marks out of nothing");
    use(map, in);
    left = map.snapshot();
  }
  // As after the end of the process: everything marked is still marked.
  const RegionMap again = open_map();
  check(again);
  FT_CHECK(again.snapshot() == left, "a mark got lost on the way through the file");
  return 0;
}

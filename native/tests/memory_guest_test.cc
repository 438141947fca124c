// Guest memory: size limits, bounds of every access, and exactly which pages are marked.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "forbid_call.h"
#include "machine/guest_memory.h"

using ft::GuestMemory;

namespace {

constexpr uint64_t kMiB = 1ull << 20;

GuestMemory make(uint64_t bytes = kMiB) {
  auto memory = GuestMemory::create(bytes);
  REQUIRE(memory.ok());
  return memory.take();
}

std::vector<uint32_t> dirty(const GuestMemory& memory) {
  return {memory.dirty_gfns().begin(), memory.dirty_gfns().end()};
}

}  // namespace

TEST_CASE("memory: sizes that cannot be are refused with the reason") {
  struct Case {
    uint64_t bytes;
    const char* says;
  };
  const Case cases[] = {
      {0, "at least 1 MiB"},
      {1, "multiple of 4096"},
      {kMiB + 1, "multiple of 4096"},
      {kMiB - 4096, "the least is 1 MiB"},
      {ft::kMemoryBytesMax + 4096, "at most 3 GiB"},
      {1ull << 62, "at most 3 GiB"},
      {std::numeric_limits<uint64_t>::max() - 4095, "at most 3 GiB"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.bytes);
    const auto memory = GuestMemory::create(c.bytes);
    REQUIRE_FALSE(memory.ok());
    CHECK(std::string(memory.error().code) == "FT_ERR_MEMORY_SIZE");
    CHECK(memory.error().message.find(c.says) != std::string::npos);
  }
}

TEST_CASE("memory: the least size works, reads as zero, and its size is sealed") {
  GuestMemory memory = make();
  CHECK(memory.size() == kMiB);
  CHECK(memory.page_count() == 256);
  std::vector<uint8_t> bytes(kMiB, 0xff);
  REQUIRE(memory.read(0, bytes));
  CHECK(std::accumulate(bytes.begin(), bytes.end(), 0u) == 0);
  CHECK(::ftruncate(memory.fd(), 4096) != 0);
  CHECK(::ftruncate(memory.fd(), 2 * kMiB) != 0);
  CHECK((::fcntl(memory.fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("memory: an access is inside guest memory or does nothing") {
  GuestMemory memory = make();
  memory.set_tracking(true);
  struct Case {
    uint64_t gpa;
    size_t bytes;
    bool inside;
  };
  const uint64_t top = std::numeric_limits<uint64_t>::max();
  const Case cases[] = {
      {0, 8, true},     {kMiB - 8, 8, true},  {kMiB - 7, 8, false},   {kMiB, 0, true},
      {kMiB, 1, false}, {kMiB + 1, 0, false}, {top, 1, false},        {top - 3, 8, false},
      {top, 0, false},  {kMiB - 1, 1, true},  {1ull << 63, 8, false},
  };
  for (const Case& c : cases) {
    CAPTURE(c.gpa);
    CAPTURE(c.bytes);
    memory.clear_dirty();
    std::vector<uint8_t> bytes(c.bytes, 0xab);
    CHECK(memory.contains(c.gpa, c.bytes) == c.inside);
    CHECK(memory.read(c.gpa, bytes) == c.inside);
    CHECK(memory.write(c.gpa, bytes) == c.inside);
    CHECK(memory.view(c.gpa, c.bytes).size() == (c.inside ? c.bytes : 0));
    CHECK(memory.writable_view(c.gpa, c.bytes).size() == (c.inside ? c.bytes : 0));
    CHECK(memory.dirty_gfns().size() == (c.inside && c.bytes != 0 ? 1 : 0));
  }
}

TEST_CASE("memory: every page that a write touches is marked once, in order of first marking") {
  GuestMemory memory = make();
  memory.set_tracking(true);
  const std::array<uint8_t, 2> two = {1, 2};
  REQUIRE(memory.write(7 * 4096 + 4095, two));  // crosses from page 7 to 8
  REQUIRE(memory.write(3 * 4096, two));
  REQUIRE(memory.write(7 * 4096, two));
  REQUIRE(memory.write_value<uint64_t>(255 * 4096, 9));
  CHECK(memory.writable_view(9 * 4096 + 1, 2 * 4096).size() == 2 * 4096);  // pages 9, 10, 11
  CHECK(dirty(memory) == std::vector<uint32_t>{7, 8, 3, 255, 9, 10, 11});

  memory.clear_dirty();
  CHECK(memory.dirty_gfns().empty());
  REQUIRE(memory.write(7 * 4096, two));
  memory.mark_dirty(64);
  memory.mark_dirty(63);
  memory.mark_dirty(64);
  CHECK(dirty(memory) == std::vector<uint32_t>{7, 64, 63});

  uint16_t word = 0;
  REQUIRE(memory.store_release(20 * 4096 + 2, 0x1234));
  REQUIRE(memory.load_acquire(20 * 4096 + 2, &word));
  CHECK(word == 0x1234);
  CHECK(dirty(memory).back() == 20);
}

TEST_CASE("memory: reads mark nothing, and nothing is marked while tracking is off") {
  GuestMemory memory = make();
  const std::array<uint8_t, 4> bytes = {1, 2, 3, 4};
  REQUIRE(memory.write(0, bytes));
  memory.mark_dirty(5);
  CHECK(memory.dirty_gfns().empty());
  memory.set_tracking(true);
  CHECK(memory.dirty_gfns().empty());
  std::array<uint8_t, 4> out;
  REQUIRE(memory.read(0, out));
  CHECK(out == bytes);
  CHECK(memory.view(0, 4096).size() == 4096);
  CHECK(memory.dirty_gfns().empty());
  REQUIRE(memory.write(0, bytes));
  memory.set_tracking(false);
  CHECK(memory.dirty_gfns().empty());
  memory.set_tracking(true);
  REQUIRE(memory.write(0, bytes));  // the old mark must not hide the new one
  CHECK(dirty(memory) == std::vector<uint32_t>{0});
}

TEST_CASE("memory: tracking that is switched on again forgets no mark") {
  GuestMemory memory = make();
  memory.set_tracking(true);
  memory.mark_dirty(5);
  memory.set_tracking(true);
  memory.mark_dirty(6);
  memory.mark_dirty(5);
  CHECK(dirty(memory) == std::vector<uint32_t>{5, 6});
}

TEST_CASE("memory: ring words must be even and inside") {
  GuestMemory memory = make();
  uint16_t word = 0;
  CHECK_FALSE(memory.load_acquire(1, &word));
  CHECK_FALSE(memory.load_acquire(kMiB, &word));
  CHECK_FALSE(memory.store_release(kMiB - 1, 1));
  CHECK_FALSE(memory.store_release(std::numeric_limits<uint64_t>::max() - 1, 1));
  CHECK(memory.store_release(kMiB - 2, 1));
}

TEST_CASE("memory: marking all of it never needs more room than was reserved") {
  GuestMemory memory = make(4 * kMiB);
  memory.set_tracking(true);
  memory.mark_dirty(0);
  const uint32_t* first = memory.dirty_gfns().data();
  CHECK(memory.writable_view(0, 4 * kMiB).size() == 4 * kMiB);
  CHECK(memory.dirty_gfns().size() == 1024);
  CHECK(memory.dirty_gfns().data() == first);
}

TEST_CASE("memory: cleared, it is zero and empty, whether pages were mapped or written by a call") {
  // The least clears in place, the other one gets a new file.
  for (const uint64_t bytes : {kMiB, 64 * kMiB}) {
    CAPTURE(bytes);
    GuestMemory memory = make(bytes);
    const uint8_t* const base = memory.host_base();
    memory.set_tracking(true);
    for (int round = 0; round < 3; round++) {
      const uint8_t mark = static_cast<uint8_t>(0x51 + round);
      REQUIRE(memory.write_value(bytes - 4096, mark));
      REQUIRE(memory.write_value(4096, mark));
      const std::vector<uint8_t> page(4096, mark);
      REQUIRE(::pwrite(memory.fd(), page.data(), page.size(), 8 * 4096) == 4096);
      REQUIRE(memory.host_base()[8 * 4096] == mark);

      REQUIRE(memory.clear().ok());
      CHECK(memory.host_base() == base);
      CHECK(memory.size() == bytes);
      CHECK(::lseek(memory.fd(), 0, SEEK_DATA) < 0);
      for (const uint64_t at : {uint64_t{4096}, uint64_t{8 * 4096}, bytes - 4096}) {
        CHECK(memory.host_base()[at] == 0);
      }
      // File and mapping are still of one memory, which cannot shrink.
      REQUIRE(::pwrite(memory.fd(), page.data(), page.size(), 16 * 4096) == 4096);
      CHECK(memory.host_base()[16 * 4096] == mark);
      CHECK(::ftruncate(memory.fd(), 4096) < 0);
    }
    CHECK(dirty(memory) == std::vector<uint32_t>{static_cast<uint32_t>(bytes / 4096 - 1), 1});
  }
}

TEST_CASE("memory: it is cleared where mappings cannot be moved, or no thread be made") {
  struct Case {
    std::vector<uint32_t> calls;
    uint32_t error;
  };
  const Case cases[] = {{{SYS_mremap}, EINVAL}, {{SYS_clone, SYS_clone3}, EAGAIN}};
  for (const Case& c : cases) {
    CAPTURE(c.calls[0]);
    const int result = ft::test::in_child([&] {
      for (const uint32_t call : c.calls) {
        if (!ft::test::forbid_call(call, c.error)) return 2;
      }
      auto made = GuestMemory::create(64 * kMiB);
      if (!made.ok()) return 3;
      GuestMemory memory = made.take();
      for (uint64_t at = 0; at < memory.size(); at += 4096) memory.host_base()[at] = 1;
      if (!memory.clear().ok()) return 4;
      for (uint64_t at = 0; at < memory.size(); at += 4096) {
        if (memory.host_base()[at] != 0) return 5;
      }
      // File and mapping are still of one memory.
      memory.host_base()[4096] = 7;
      uint8_t byte = 0;
      return ::pread(memory.fd(), &byte, 1, 4096) == 1 && byte == 7 ? 0 : 6;
    });
    CHECK(result == 0);
  }
}

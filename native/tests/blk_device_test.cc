// The disk device over an image in memory: what it tells a driver, what requests do, in how many
// pieces, and what is left of them after a reset.
#include <doctest/doctest.h>

#include <cerrno>

#include "blk_support.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr uint64_t kData = 0x40000;

}  // namespace

TEST_CASE("blk: it is a disk of so many sectors, with the features of its kind") {
  BlkRig rig;
  CHECK(rig.reg(0x08) == 2);
  CHECK(rig.reg_features() ==
        (kVirtioFVersion1 | kBlkFSegMax | kBlkFBlockSize | kBlkFFlush | kBlkFDiscard));
  CHECK(rig.reg(0x100) == (1 << 20) / 512);
  CHECK(rig.reg(0x104) == 0);
  CHECK(rig.reg(0x100 + 12) == kBlkSegmentsMax);
  CHECK(rig.reg(0x100 + 20) == 512);
  CHECK(rig.reg(0x100 + 36) == kBlkDiscardSectorsMax);
  CHECK(rig.reg(0x100 + 40) == kBlkDiscardSegmentsMax);
  CHECK(rig.reg(0x100 + 44) == 8);
  CHECK(rig.reg(0x100 + 48) == 0);
  BlkRig read_only(4096, true);
  CHECK(read_only.reg_features() ==
        (kVirtioFVersion1 | kBlkFSegMax | kBlkFBlockSize | kBlkFFlush | kBlkFReadOnly));
}

TEST_CASE("blk: a notification wakes the thread that serves, and does no work itself") {
  BlkRig rig;
  rig.start();
  const uint32_t before = rig.wakes;
  rig.ask(0, kBlkTypeIn, 0, kData, 512);
  rig.notify(0);
  CHECK(rig.wakes == before + 1);
  CHECK(rig.disk.waiting.empty());
}

TEST_CASE("blk: what is written is read back, marked and answered with one interrupt") {
  BlkRig rig;
  rig.start();
  rig.fill(kData, 8192, 17);
  rig.ask(0, kBlkTypeOut, 40, kData, 8192);
  rig.ask(1, kBlkTypeIn, 40, kData + 0x4000, 8192);
  rig.run_all();
  CHECK(rig.answer(0) == kBlkStatusOk);
  CHECK(rig.answer(1) == kBlkStatusOk);
  CHECK(rig.same(kData, 40 * 512, 8192));
  CHECK(rig.same(kData + 0x4000, 40 * 512, 8192));
  CHECK(rig.used_idx(0) == 2);
  CHECK(rig.used(0, 0).len == 1);
  CHECK(rig.used(0, 1).len == 8193);
  CHECK(rig.interrupts == 1);
  CHECK(rig.marked(kData + 0x4000));
  CHECK(rig.marked(kData + 0x5000));
  CHECK(rig.marked(kStatuses));
  CHECK_FALSE(rig.marked(kData));
}

TEST_CASE("blk: header, data and status may lie in pieces of any size") {
  BlkRig rig;
  rig.start();
  rig.fill(kData, 1024, 3);
  rig.header(0, kBlkTypeOut, 9);
  // Header in 3 + 13 (of a buffer that goes on with data) bytes, data in 500 and 524.
  std::copy_n(rig.memory.host_base() + kHeaders, 16, rig.memory.host_base() + kData + 0x2000);
  std::copy_n(rig.memory.host_base() + kData, 500, rig.memory.host_base() + kData + 0x2010);
  rig.desc(0, 0, {kData + 0x2000, 3, kNext, 1});
  rig.desc(0, 1, {kData + 0x2003, 13 + 500, kNext, 2});
  rig.desc(0, 2, {kData + 500, 524, kNext, 3});
  rig.desc(0, 3, {kStatuses, 1, kWrite, 0});
  rig.offer(0, 0);
  rig.run_all();
  CHECK(rig.answer(0) == kBlkStatusOk);
  CHECK(rig.same(kData, 9 * 512, 1024));
  // A read whose last buffer holds data and status.
  rig.header(1, kBlkTypeIn, 9);
  rig.desc(0, 4, {kHeaders + 32, 16, kNext, 5});
  rig.desc(0, 5, {kData + 0x4000, 1, kNext | kWrite, 6});
  rig.desc(0, 6, {kData + 0x4001, 512, kWrite, 0});
  rig.offer(0, 4);
  rig.run_all();
  CHECK(rig.same(kData + 0x4000, 9 * 512, 512));
  CHECK(rig.peek<uint8_t>(kData + 0x4200) == kBlkStatusOk);
  CHECK(rig.used(0, 1).len == 513);
}

TEST_CASE("blk: a large request goes in bounded pieces that may end in any order") {
  BlkRig rig;
  rig.start();
  constexpr uint32_t kBytes = 3 * kBlkPieceBytes + 512;
  rig.ask(0, kBlkTypeIn, 1, kData, kBytes);
  rig.ask(1, kBlkTypeFlush, 0, 0, 0);
  CHECK(rig.blk.serve(1));  // a single piece exceeds that budget
  CHECK(rig.disk.waiting.size() == 1);
  CHECK(rig.disk.waiting[0].bytes == kBlkPieceBytes);
  rig.finish();  // ended before its request was started whole
  CHECK(rig.used_idx(0) == 0);
  rig.serve();
  REQUIRE(rig.disk.waiting.size() == 4);
  CHECK(rig.disk.waiting[2].bytes == 512);
  rig.finish(2);
  rig.finish(1);
  CHECK(rig.used_idx(0) == 0);
  CHECK(rig.blk.unfinished() == 2);
  rig.finish(0);
  CHECK(rig.used_idx(0) == 1);
  CHECK(rig.answer(0) == kBlkStatusOk);
  CHECK(rig.same(kData, 512, kBytes));
  rig.finish();
  CHECK(rig.answer(1) == kBlkStatusOk);
  CHECK(rig.used(0, 1).id == 4);
  CHECK(rig.disk.flushes == 1);
}

TEST_CASE("blk: one serve copies about as much as it was told, and says that there is more") {
  BlkRig rig;
  rig.start(64);
  for (uint16_t i = 0; i < 16; i++) rig.ask(i, kBlkTypeOut, 64u * i, kData, 32768);
  CHECK(rig.blk.serve(128 * 1024));
  CHECK(rig.disk.waiting.size() == 4);
  CHECK(rig.blk.serve(128 * 1024));
  CHECK(rig.disk.waiting.size() == 8);
  while (rig.blk.serve(128 * 1024)) {
  }
  CHECK(rig.disk.waiting.size() == 16);
}

TEST_CASE("blk: never more operations than places for them, however much is asked for") {
  BlkRig rig(16 << 20);
  rig.start(256);
  // One buffer of half a megabyte, over and over: 20 MiB, beyond the end of the disk, then 10.
  rig.header(0, kBlkTypeIn, 0);
  rig.desc(0, 0, {kHeaders, 16, kNext, 1});
  for (uint16_t i = 1; i <= 40; i++) {
    rig.desc(0, i, {0x80000, 0x80000, kNext | kWrite, static_cast<uint16_t>(i + 1)});
  }
  rig.desc(0, 41, {kStatuses, 1, kWrite, 0});
  rig.offer(0, 0);
  rig.run_all();
  CHECK(rig.answer(0) == kBlkStatusIoError);
  CHECK(rig.disk.most_waiting == 0);
  rig.desc(0, 20, {0x80000, 0x80000, kNext | kWrite, 41});
  rig.offer(0, 0);
  rig.run_all();
  CHECK(rig.answer(0) == kBlkStatusOk);
  CHECK(rig.used(0, 1).len == 20 * 0x80000 + 1);
  CHECK(rig.disk.most_waiting == 64);
}

TEST_CASE("blk: bad bounds, odd lengths and writes to a read-only disk are I/O errors") {
  struct {
    uint32_t type;
    uint64_t sector;
    uint32_t bytes;
  } const bad[] = {
      {kBlkTypeIn, 2048, 512},
      {kBlkTypeIn, 2047, 1024},
      {kBlkTypeIn, 1ull << 55, 512},
      {kBlkTypeIn, (1ull << 55) + 1, 512},
      {kBlkTypeIn, ~0ull, 512},
      {kBlkTypeIn, ~0ull - 1, 1024},
      {kBlkTypeIn, 0, 511},
      {kBlkTypeIn, 0, 513},
      {kBlkTypeIn, 0, 0},
      {kBlkTypeOut, 2048, 512},
      {kBlkTypeOut, 1ull << 55, 512},
      {kBlkTypeOut, 0, 100},
      {kBlkTypeOut, 0, 0},
  };
  BlkRig rig;
  rig.start();
  for (const auto& b : bad) {
    CAPTURE(b.sector);
    CAPTURE(b.bytes);
    rig.ask(0, b.type, b.sector, kData, b.bytes);
    rig.run_all();
    CHECK(rig.answer(0) == kBlkStatusIoError);
    CHECK(rig.disk.most_waiting == 0);
  }
  CHECK(rig.blk.facts().errors == std::size(bad));
  CHECK_FALSE(rig.needs_reset());
  // Data was not written, so no more than the status counts where it lies behind data.
  CHECK(rig.used(0, 0).len == 0);

  BlkRig read_only(1 << 20, true);
  read_only.start();
  read_only.ask(0, kBlkTypeOut, 0, kData, 512);
  read_only.ask(1, kBlkTypeDiscard, 0, kData, 16);
  read_only.ask(2, kBlkTypeIn, 0, kData, 512);
  read_only.run_all();
  CHECK(read_only.answer(0) == kBlkStatusIoError);
  CHECK(read_only.answer(1) == kBlkStatusIoError);
  CHECK(read_only.answer(2) == kBlkStatusOk);
}

TEST_CASE("blk: what fails in the image is an I/O error, also when only one piece of it fails") {
  BlkRig rig;
  rig.start();
  rig.fill(kData, 512, 1);
  rig.ask(0, kBlkTypeOut, 0, kData, 512);
  rig.ask(1, kBlkTypeIn, 0, kData, 2 * kBlkPieceBytes);
  rig.ask(2, kBlkTypeFlush, 0, 0, 0);
  rig.serve();
  rig.finish(0, EIO);
  rig.finish(1, ENOSPC);
  rig.finish(0);
  rig.finish(0, EIO);
  for (uint16_t i = 0; i < 3; i++) CHECK(rig.answer(i) == kBlkStatusIoError);
  // A request that failed before all of it was started is not started further.
  rig.ask(3, kBlkTypeIn, 0, kData, 3 * kBlkPieceBytes);
  rig.blk.serve(1);
  rig.finish(0, EIO);
  CHECK(rig.answer(3) == kBlkStatusIoError);
  rig.serve();
  CHECK(rig.disk.waiting.empty());
  rig.ask(0, kBlkTypeIn, 0, kData, 512);
  rig.run_all();
  CHECK(rig.answer(0) == kBlkStatusOk);
}

TEST_CASE("blk: the name, and types that are none") {
  BlkRig rig;
  rig.start();
  rig.fill(kData, 32, 200);
  rig.ask(0, kBlkTypeGetId, 0, kData, 20);
  rig.ask(1, kBlkTypeGetId, 0, kData + 0x100, 4);
  rig.ask(2, 13, 0, kData, 512);
  rig.ask(3, 0x80000000, 0, kData, 512);
  rig.run_all();
  CHECK(std::string(reinterpret_cast<char*>(rig.memory.host_base() + kData)) == "romulus-0");
  CHECK(rig.peek<uint8_t>(kData + 19) == 0);
  CHECK(rig.peek<uint32_t>(kData + 0x100) == rig.peek<uint32_t>(kData));
  CHECK(rig.used(0, 0).len == 21);
  CHECK(rig.answer(0) == kBlkStatusOk);
  CHECK(rig.answer(1) == kBlkStatusOk);
  CHECK(rig.answer(2) == kBlkStatusUnsupported);
  CHECK(rig.answer(3) == kBlkStatusUnsupported);
  CHECK(rig.disk.most_waiting == 0);
}

TEST_CASE("blk: a discard empties its ranges; malformed ones change nothing") {
  BlkRig rig;
  rig.start();
  const auto discard = [&](std::vector<DiscardRange> ranges, uint32_t bytes = 0) {
    for (size_t i = 0; i < ranges.size(); i++) rig.poke(kData + 16 * i, ranges[i]);
    rig.ask(0, kBlkTypeDiscard, 0, kData, bytes != 0 ? bytes : 16u * ranges.size());
    rig.run_all();
    return rig.answer(0);
  };
  CHECK(discard({{8, 8, 0}, {100, 1, 0}}) == kBlkStatusOk);
  const auto zero = [&](size_t from, size_t to) {
    return std::all_of(rig.disk.image.begin() + static_cast<long>(from * 512),
                       rig.disk.image.begin() + static_cast<long>(to * 512),
                       [](uint8_t b) { return b == 0; });
  };
  CHECK(zero(8, 16));
  CHECK(zero(100, 101));
  CHECK_FALSE(zero(7, 8));
  CHECK_FALSE(zero(16, 17));
  const auto before = rig.disk.image;
  CHECK(discard({{0, 8, 1}}) == kBlkStatusUnsupported);             // unmap is no flag of it
  CHECK(discard({{0, 8, 0}, {0, 1, 2}}) == kBlkStatusUnsupported);  //
  CHECK(discard({{0, 0, 0}}) == kBlkStatusIoError);                 // nothing
  CHECK(discard({{2047, 2, 0}}) == kBlkStatusIoError);              // beyond the end
  CHECK(discard({{1ull << 55, 1, 0}}) == kBlkStatusIoError);        //
  CHECK(discard({{~0ull, 1, 0}}) == kBlkStatusIoError);             //
  CHECK(discard({{0, 0xffffffff, 0}}) == kBlkStatusIoError);        // larger than allowed
  CHECK(discard({{0, 1, 0}, {2048, 1, 0}}) == kBlkStatusIoError);   // the first is good
  CHECK(discard({{0, 1, 0}}, 15) == kBlkStatusIoError);             // no whole range
  CHECK(discard({{0, 1, 0}}, 17) == kBlkStatusIoError);             //
  CHECK(discard(std::vector<DiscardRange>(17, {0, 1, 0})) == kBlkStatusIoError);
  CHECK(rig.disk.image == before);
  CHECK(discard(std::vector<DiscardRange>(16, {3, 1, 0})) == kBlkStatusOk);
  CHECK_FALSE(rig.needs_reset());
}

TEST_CASE("blk: chains that are no request need a reset, then the device works on") {
  const auto start = [](BlkRig& rig, uint32_t type) {
    rig.start();
    rig.header(0, type, 0);
  };
  const Desc header = {kHeaders, 16, kNext, 1};
  const Desc status = {kStatuses, 1, kWrite, 0};
  struct {
    uint32_t type;
    Desc chain[3];
  } const bad[] = {
      {kBlkTypeIn, {{kHeaders, 16, 0, 0}}},                                 // no status
      {kBlkTypeOut, {header, {kData, 512, 0, 0}}},                          // not writable
      {kBlkTypeIn, {{kHeaders, 15, kNext, 1}, status}},                     // half a header
      {kBlkTypeIn, {{kHeaders, 16, kWrite, 0}}},                            // a writable one
      {kBlkTypeIn, {header, {kData, 512, kNext, 2}, status}},               // reads into readable
      {kBlkTypeOut, {header, {kData, 512, kNext | kWrite, 2}, status}},     // writes from writable
      {kBlkTypeDiscard, {header, {kData, 16, kNext | kWrite, 2}, status}},  //
      {kBlkTypeIn, {header, {kData, 0xffffffff, kNext | kWrite, 2}, status}},
      {kBlkTypeIn, {header, {~0ull - 100, 512, kNext | kWrite, 2}, status}},
      {kBlkTypeIn, {header, {(1 << 20) - 256, 512, kNext | kWrite, 2}, status}},
      {kBlkTypeIn, {header, {kData, 512, kNext | kWrite, 1}, status}},  // loops
      {kBlkTypeIn, {header, {kData, 512, kNext | kWrite | kIndirect, 2}, status}},
      {kBlkTypeIn, {header, {kData, 0, kNext | kWrite, 2}, status}},
  };
  for (size_t n = 0; n < std::size(bad); n++) {
    CAPTURE(n);
    BlkRig rig;
    start(rig, bad[n].type);
    for (uint16_t i = 0; i < 3; i++) rig.desc(0, i, bad[n].chain[i]);
    rig.offer(0, 0);
    rig.run_all();
    CHECK(rig.needs_reset());
    CHECK(rig.used_idx(0) == 0);
    CHECK(rig.disk.most_waiting == 0);
    CHECK(rig.blk.unfinished() == 0);
    rig.start();
    rig.ask(0, kBlkTypeIn, 1, kData, 512);
    rig.run_all();
    CHECK(rig.answer(0) == kBlkStatusOk);
  }
}

TEST_CASE("blk: a request offered again while it is under way breaks the queue") {
  BlkRig rig;
  rig.start();
  rig.ask(0, kBlkTypeIn, 0, kData, 512);
  rig.serve();
  rig.offer(0, 0);
  rig.serve();
  CHECK(rig.needs_reset());
  rig.finish();
  CHECK(rig.used_idx(0) == 0);
}

TEST_CASE("blk: without an agreed flush a write is durable before it is answered") {
  BlkRig rig;
  rig.start();
  rig.accept_features(kVirtioFVersion1 | kBlkFSegMax);
  rig.place_queue(0, 16, rig.desc_gpa(0), rig.avail_gpa(0), rig.used_gpa(0));
  rig.set(0x70, rig.status() | kVirtioStatusDriverOk);
  rig.ask(0, kBlkTypeOut, 0, kData, 512);
  rig.ask(1, kBlkTypeIn, 0, kData, 512);
  rig.serve();
  rig.finish(0);
  CHECK(rig.answer(0) == kNoStatus);
  rig.finish(0);
  CHECK(rig.answer(1) == kBlkStatusOk);
  REQUIRE(rig.disk.waiting.size() == 1);
  CHECK(rig.disk.waiting[0].kind == IoKind::kFlush);
  rig.finish();
  CHECK(rig.answer(0) == kBlkStatusOk);
}

TEST_CASE("blk: what a reset leaves under way ends without touching the rings of the new life") {
  BlkRig rig;
  rig.start();
  rig.ask(0, kBlkTypeIn, 0, kData, 512);
  rig.ask(1, kBlkTypeOut, 5, kData, 512);
  rig.ask(2, kBlkTypeIn, 0, kData, 3 * kBlkPieceBytes);
  rig.blk.serve(4096 * 5 + 512);  // the third in part
  const size_t under_way = rig.disk.waiting.size();
  REQUIRE(under_way > 2);
  rig.start();
  CHECK(rig.blk.unfinished() == 0);
  rig.ask(0, kBlkTypeIn, 7, kData + 0x8000, 512);
  rig.memory.clear_dirty();
  rig.serve();
  REQUIRE(rig.disk.waiting.size() == under_way + 1);
  for (size_t i = 0; i < under_way; i++) rig.finish(0);
  rig.blk.signal();
  CHECK(rig.used_idx(0) == 0);
  CHECK(rig.memory.dirty_gfns().empty());
  CHECK(rig.answer(0) == kNoStatus);
  CHECK(rig.blk.facts().dropped == 3);
  rig.finish();
  CHECK(rig.used_idx(0) == 1);
  CHECK(rig.same(kData + 0x8000, 7 * 512, 512));
}

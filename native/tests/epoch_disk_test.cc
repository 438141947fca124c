// The disk section of an epoch: whatever the log held arrives whole and in order, however small the
// pieces it travels in; and no section from outside names a place that it must not.
#include <doctest/doctest.h>

#include <cstring>
#include <random>

#include "machine/epoch_codec.h"

using namespace ft;

namespace {

constexpr uint64_t kMemoryBytes = 1 << 20;
constexpr uint64_t kDiskBytes = 8 << 20;

DiskRecord record(IoKind kind, uint64_t offset = 0, uint64_t bytes = 0, uint8_t fill = 0) {
  DiskRecord r;
  r.kind = kind;
  r.offset = offset;
  r.bytes = bytes;
  if (kind != IoKind::kWrite) return r;
  r.data = std::make_shared<IoBuffer>(bytes);
  for (size_t i = 0; i < bytes; i++) r.data->data()[i] = static_cast<uint8_t>(fill + i / 512);
  return r;
}

// An image as the standby would have it, and what it was told.
struct Image {
  std::vector<uint8_t> bytes = std::vector<uint8_t>(kDiskBytes, 0xee);
  std::vector<IoKind> applied;
  uint64_t promised = 0;
  uint64_t promises = 0;

  DiskTarget target(uint64_t size = kDiskBytes, bool read_only = false) {
    DiskTarget t;
    t.bytes = size;
    t.read_only = read_only;
    t.promise = [this](const DiskRecord& r) {
      promised += r.bytes;
      promises++;
      CHECK(r.data == nullptr);
    };
    t.apply = [this](DiskRecord r) { apply(r); };
    return t;
  }
  void apply(const DiskRecord& r) {
    applied.push_back(r.kind);
    if (r.bytes > bytes.size()) return;  // a target larger than what is kept here
    if (r.kind == IoKind::kZero) std::memset(bytes.data() + r.offset, 0, r.bytes);
    if (r.kind != IoKind::kWrite) return;
    REQUIRE(r.data->bytes() == r.bytes);
    std::memcpy(bytes.data() + r.offset, r.data->data(), r.bytes);
  }
};

struct Bench {
  GuestMemory source = GuestMemory::create(kMemoryBytes).take();
  GuestMemory memory = GuestMemory::create(kMemoryBytes).take();
  std::unique_ptr<EpochEncoder> encoder = EpochEncoder::create(source).take();
  Image one, two;
  ImageApplier applier;
  std::unique_ptr<SlotPool> slots = SlotPool::create(2, source.page_count()).take();
  std::vector<uint8_t> out = std::vector<uint8_t>(EpochEncoder::kChunkRoomMin);
  std::vector<uint32_t> mismatches;

  Bench() : applier(memory, targets()) {
    encoder->begin();
    REQUIRE(applier.begin().ok());
  }
  std::vector<DiskTarget> targets() {
    std::vector<DiskTarget> list;
    list.push_back(one.target());
    list.push_back(two.target(kDiskBytes, true));
    list.push_back(two.target());
    return list;
  }
  void cut(DiskLogs logs, std::vector<uint32_t> gfns = {}) {
    EpochSlot* slot = slots->take();
    slot->gfns = std::move(gfns);
    for (size_t i = 0; i < slot->gfns.size(); i++) {
      std::memcpy(slot->pages.data() + i * 4096, source.host_base() + slot->gfns[i] * 4096, 4096);
    }
    slot->disks = std::move(logs);
    slot->state_writer.begin();
    *slot->state_writer.add_struct<uint64_t>(StateKind::kRegs, 0) = 7;
    slot->state = slot->state_writer.finish();
    slots->publish(slot);
  }
  size_t ship() {
    EncodedBody body;
    size_t pieces = 0;
    do {
      body = encoder->encode_slot(*slots->front(), out);
      const std::vector<uint8_t> exact(out.begin(), out.begin() + static_cast<long>(body.bytes));
      REQUIRE(applier.verify(exact).ok());
      REQUIRE(applier.apply(exact, &mismatches).ok());
      pieces++;
    } while (!body.last);
    slots->retire();
    return pieces;
  }
};

// A body of a disk section alone.
std::vector<uint8_t> body_of(const std::vector<uint8_t>& section) {
  std::vector<uint8_t> body(16);
  const auto bytes = static_cast<uint32_t>(section.size());
  std::memcpy(body.data() + 12, &bytes, sizeof(bytes));
  body.insert(body.end(), section.begin(), section.end());
  return body;
}

std::vector<uint8_t> raw(uint8_t disk, uint8_t kind, uint16_t zero, uint32_t bytes, uint64_t offset,
                         size_t data) {
  std::vector<uint8_t> section(16 + data, 0x5a);
  section[0] = disk;
  section[1] = kind;
  std::memcpy(section.data() + 2, &zero, 2);
  std::memcpy(section.data() + 4, &bytes, 4);
  std::memcpy(section.data() + 8, &offset, 8);
  return section;
}

}  // namespace

TEST_SUITE("epoch disks") {
  TEST_CASE("what the log held arrives in order, behind the pages, in as many pieces as it takes") {
    Bench bench;
    std::mt19937_64 random{7};
    std::vector<uint8_t> expected = bench.one.bytes;
    for (int epoch = 0; epoch < 20; epoch++) {
      DiskLogs logs(3);
      std::vector<uint32_t> gfns;
      for (uint32_t gfn = 0; gfn < 80; gfn++) {
        for (size_t i = 0; i < 4096; i++) {
          bench.source.host_base()[gfn * 4096 + i] = static_cast<uint8_t>(random());
        }
        gfns.push_back(gfn);
      }
      for (int i = 0; i < 12; i++) {
        const uint64_t bytes = 512 * (1 + random() % 700);
        const uint64_t offset = 512 * (random() % ((kDiskBytes - bytes) / 512));
        const bool zero = i % 4 == 3;
        logs[0].push_back(record(zero ? IoKind::kZero : IoKind::kWrite, offset, bytes,
                                 static_cast<uint8_t>(random())));
        if (zero) {
          std::memset(expected.data() + offset, 0, bytes);
        } else {
          std::memcpy(expected.data() + offset, logs[0].back().data->data(), bytes);
        }
      }
      logs[2].push_back(record(IoKind::kFlush));
      logs[2].push_back(record(IoKind::kWrite, 512, 512, 9));
      bench.cut(std::move(logs), gfns);
      CHECK(bench.ship() > 3);
      REQUIRE(bench.one.bytes == expected);
      REQUIRE(std::memcmp(bench.memory.host_base(), bench.source.host_base(), kMemoryBytes) == 0);
    }
    CHECK(bench.two.applied.size() == 40);
    CHECK(bench.two.applied[0] == IoKind::kFlush);
    CHECK(bench.two.applied[1] == IoKind::kWrite);
    CHECK(bench.one.promises == bench.one.applied.size());
    CHECK(bench.slots->take()->disks.size() <= 3);
  }

  TEST_CASE("a slot forgets its records when it is retired, and keeps no buffer alive") {
    Bench bench;
    DiskLogs logs(1);
    logs[0].push_back(record(IoKind::kWrite, 0, 4096));
    const std::weak_ptr<IoBuffer> buffer = logs[0][0].data;
    bench.cut(std::move(logs));
    bench.ship();
    CHECK(buffer.expired());
  }

  TEST_CASE("zeroes beyond 32 bits become several records") {
    DiskLogs logs(1);
    logs[0].push_back(record(IoKind::kZero, 1 << 20, 10ull << 30));
    DiskRecordWriter writer;
    std::vector<uint8_t> out(200);
    const size_t bytes = writer.write(logs, out);
    CHECK(writer.done(logs));
    CHECK(bytes == 3 * kDiskRecordHeaderBytes);
    uint64_t total = 0, at = 1 << 20;
    DiskTarget target;
    target.bytes = 1ull << 40;
    target.apply = [&](const DiskRecord& r) {
      CHECK(r.kind == IoKind::kZero);
      CHECK(r.offset == at);
      total += r.bytes;
      at += r.bytes;
    };
    const std::vector<DiskTarget> targets = {target};
    REQUIRE(verify_disk_records({out.data(), bytes}, targets).ok());
    apply_disk_records({out.data(), bytes}, targets);
    CHECK(total == 10ull << 30);
  }

  TEST_CASE("a writer given little room writes sectors, or waits for more") {
    DiskLogs logs(2);
    logs[1].push_back(record(IoKind::kWrite, 4096, 3 * 512, 40));
    logs[1].push_back(record(IoKind::kFlush));
    DiskRecordWriter writer;
    std::vector<uint8_t> out(16 + 512 + 511);
    CHECK(writer.write(logs, std::span(out).first(527)) == 0);
    CHECK_FALSE(writer.done(logs));
    for (int piece = 0; piece < 3; piece++) CHECK(writer.write(logs, out) >= 528);
    CHECK(writer.done(logs));
    writer.rewind();
    CHECK_FALSE(writer.done(logs));
  }

  TEST_CASE("a disk section with any field out of bounds is refused, and promises nothing") {
    Bench bench;
    constexpr uint64_t kLast = kDiskBytes - 512;
    const std::vector<std::vector<uint8_t>> bad = {
        raw(3, 2, 0, 512, 0, 512),         // no such disk
        raw(255, 4, 0, 0, 0, 0),           //
        raw(1, 2, 0, 512, 0, 512),         // read-only
        raw(1, 4, 0, 0, 0, 0),             //
        raw(0, 0, 0, 512, 0, 512),         // kinds that are none
        raw(0, 1, 0, 512, 0, 512),         //
        raw(0, 5, 0, 512, 0, 512),         //
        raw(0, 2, 1, 512, 0, 512),         // reserved bytes
        raw(0, 2, 0, 0, 0, 0),             // nothing
        raw(0, 3, 0, 0, 512, 0),           //
        raw(0, 2, 0, 511, 0, 511),         // no sectors
        raw(0, 2, 0, 512, 1, 512),         //
        raw(0, 2, 0, 1024, kLast, 1024),   // beyond the end
        raw(0, 3, 0, 512, kDiskBytes, 0),  //
        raw(0, 3, 0, 512, ~0ull << 9, 0),  // offset + bytes wraps
        raw(0, 3, 0, 0xfffffe00, 0, 0),    //
        raw(0, 2, 0, 1024, 0, 512),        // data cut short
        raw(0, 2, 0, 0xfffffe00, 0, 512),  //
        raw(0, 4, 0, 512, 0, 0),           // a flush of something
        raw(0, 4, 0, 0, 512, 0),           //
        raw(0, 3, 0, 512, 0, 8),           // half a header behind it
        std::vector<uint8_t>(15),          //
    };
    for (size_t i = 0; i < bad.size(); i++) {
      CAPTURE(i);
      // In front of it a sound record, which must not be promised either.
      auto section = raw(0, 2, 0, 512, 0, 512);
      section.insert(section.end(), bad[i].begin(), bad[i].end());
      const auto verdict = bench.applier.verify(body_of(section));
      REQUIRE_FALSE(verdict.ok());
      CHECK(std::string(verdict.error().code) == "FT_ERR_BODY");
    }
    CHECK(bench.one.promises == 0);
    CHECK(bench.applier.verify(body_of(raw(0, 2, 0, 512, kLast, 512))).ok());
    CHECK(bench.one.promises == 1);
    ImageApplier without(bench.memory);
    CHECK_FALSE(without.verify(body_of(raw(0, 4, 0, 0, 0, 0))).ok());
  }

  TEST_CASE(
      "an epoch with disk records cut short at any byte, or with a bit flipped, does no harm") {
    Bench bench;
    DiskLogs logs(3);
    logs[0] = {record(IoKind::kWrite, 1024, 1024, 3), record(IoKind::kZero, 0, 4096),
               record(IoKind::kFlush)};
    logs[2] = {record(IoKind::kWrite, kDiskBytes - 512, 512, 1)};
    bench.cut(std::move(logs), {3});
    const EncodedBody body = bench.encoder->encode_slot(*bench.slots->front(), bench.out);
    REQUIRE(body.last);
    for (size_t bytes = 0; bytes < body.bytes; bytes++) {
      const std::vector<uint8_t> cut_short(bench.out.begin(),
                                           bench.out.begin() + static_cast<long>(bytes));
      CHECK_FALSE(bench.applier.verify(cut_short).ok());
    }
    CHECK(bench.one.promises + bench.two.promises == 0);
    const auto shared = std::make_unique<Bench>();
    for (size_t bit = 0; bit < body.bytes * 8; bit++) {
      if (bit >= 64 * 8 && bit % 5 != 0 && bit / 8 < body.bytes - 64) continue;
      std::vector<uint8_t> flipped(bench.out.begin(),
                                   bench.out.begin() + static_cast<long>(body.bytes));
      flipped[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
      REQUIRE(shared->applier.begin().ok());
      if (!shared->applier.verify(flipped).ok()) continue;
      (void)shared->applier.apply(flipped, &shared->mismatches);
    }
  }
}

// Sessions that break off and are caught up with: whatever was lost on the way, the standby's
// memory equals the primary's afterwards, and only what may differ is sent. No map from outside
// does harm.
#include <doctest/doctest.h>

#include <cstring>
#include <deque>
#include <random>
#include <string>

#include "core/crc32c.h"
#include "machine/epoch_codec.h"

using namespace ft;

namespace {

constexpr uint64_t kMemoryBytes = 4 << 20;
constexpr auto kPages = static_cast<uint32_t>(kMemoryBytes / 4096);

/// A primary without a vCPU and its standby; bodies wait on the wire until they are delivered.
struct World {
  GuestMemory source = GuestMemory::create(kMemoryBytes).take();
  GuestMemory image = GuestMemory::create(kMemoryBytes).take();
  std::unique_ptr<EpochEncoder> encoder = EpochEncoder::create(source).take();
  ImageApplier applier{image};
  std::unique_ptr<SlotPool> slots = SlotPool::create(16, kPages).take();
  std::vector<uint8_t> out = std::vector<uint8_t>(EpochEncoder::kChunkRoomMin);
  std::mt19937_64 random;
  std::vector<uint32_t> mismatches;
  struct Body {
    uint64_t epoch;
    bool last;
    std::vector<uint8_t> bytes;
  };
  std::deque<Body> wire;
  PageBits open{kPages};  // written since the last cut
  uint64_t epoch = 0;
  uint64_t held = 0;
  uint64_t acked = 0;
  uint64_t pages_scanned = 0;

  explicit World(uint64_t seed) : random(seed) {
    encoder->begin();
    REQUIRE(applier.begin().ok());
  }
  uint64_t below(uint64_t limit) { return random() % limit; }

  void write() {
    const uint64_t gfn = below(3) == 0 ? below(kPages) : below(24);
    uint8_t* page = source.host_base() + gfn * 4096;
    if (below(9) == 0) {
      std::memset(page, 0, 4096);
    } else {
      for (uint64_t i = 1 + below(200); i > 0; i--) page[below(4096)] = uint8_t(random());
    }
    open.set(gfn);
  }
  void cut() {
    EpochSlot* slot = slots->take();
    if (slot == nullptr) return;
    slot->facts.epoch = ++epoch;
    open.for_each([&](uint64_t gfn) { slot->gfns.push_back(static_cast<uint32_t>(gfn)); });
    open.clear_all();
    for (size_t i = 0; i < slot->gfns.size(); i++) {
      std::memcpy(slot->pages.data() + i * 4096, source.host_base() + slot->gfns[i] * 4096ull,
                  4096);
    }
    slot->state_writer.begin();
    *slot->state_writer.add_struct<uint64_t>(StateKind::kRegs, 0) = epoch;
    slot->state = slot->state_writer.finish();
    const auto gfn = static_cast<uint32_t>(below(kPages));
    slot->audit.push_back({gfn, crc32c({source.host_base() + gfn * 4096ull, 4096})});
    slots->publish(slot);
  }
  /// One piece of the oldest cut. False when none waits.
  bool encode() {
    const EpochSlot* slot = slots->front();
    if (slot == nullptr) return false;
    const uint64_t of = slot->facts.epoch;
    const EncodedBody body = encoder->encode_slot(*slot, out);
    wire.push_back({of, body.last, {out.begin(), out.begin() + long(body.bytes)}});
    if (body.last) slots->retire();
    return true;
  }
  void scan() {
    bool last = false;
    while (!last) {
      const EncodedBody body = encoder->scan(out);
      pages_scanned += body.raw_bytes / 4096;
      wire.push_back({0, false, {out.begin(), out.begin() + long(body.bytes)}});
      last = body.last;
    }
  }
  void deliver(size_t count) {
    for (; count > 0 && !wire.empty(); count--) {
      const Body& body = wire.front();
      REQUIRE(applier.verify(body.bytes).ok());
      REQUIRE(applier.apply(body.bytes, &mismatches).ok());
      if (body.last) held = body.epoch;
      wire.pop_front();
    }
  }
  void ack(uint64_t upto) {
    acked = upto;
    encoder->acked(upto);
  }
  void drain() {
    while (encode()) {
    }
    deliver(wire.size());
    ack(held);
  }
  /// What is on the wire still comes, or does not.
  void lose() {
    if (below(2) == 0) deliver(wire.size());
    wire.clear();
  }
  PageBits changes() {
    PageBits pages(kPages);
    encoder->unacked().collect(pages);
    slots->each_waiting([&](const EpochSlot& slot) {
      for (const uint32_t gfn : slot.gfns) pages.set(gfn);
    });
    pages.add_all(open);
    slots->clear();
    return pages;
  }
  void catch_up(PageBits pages) {
    pages.add_all(open);
    open.clear_all();
    std::vector<uint8_t> map(PageBits::bytes_for(kPages));
    pages.write(map);
    REQUIRE(applier.begin(true).ok());
    REQUIRE(applier.clear_pages(map).ok());
    encoder->begin_catch_up(pages);
    epoch = held = acked = 0;
  }
  bool equal() { return std::memcmp(source.host_base(), image.host_base(), kMemoryBytes) == 0; }
};

}  // namespace

TEST_SUITE("catch-up") {
  TEST_CASE(
      "a map of pages goes there and back; one that does not fit is refused and does nothing") {
    PageBits bits(77);
    for (const uint64_t gfn : {0, 7, 8, 63, 64, 76}) bits.set(gfn);
    std::vector<uint8_t> bytes(PageBits::bytes_for(77));
    REQUIRE(bytes.size() == 10);
    bits.write(bytes);
    PageBits back(77);
    REQUIRE(back.read(bytes));
    CHECK(back.count() == 6);
    std::vector<uint64_t> gfns;
    back.for_each([&](uint64_t gfn) { gfns.push_back(gfn); });
    CHECK(gfns == std::vector<uint64_t>{0, 7, 8, 63, 64, 76});
    bytes[9] |= 0x20;
    CHECK_FALSE(back.read(bytes));
    bits.set_all();
    CHECK(bits.count() == 77);

    World world(1);
    for (int i = 0; i < 40; i++) world.write();
    world.scan();
    world.drain();
    REQUIRE(world.equal());
    for (const size_t size : {size_t{0}, size_t{127}, size_t{129}, size_t{1} << 20}) {
      const auto refused = world.applier.clear_pages(std::vector<uint8_t>(size, 0xff));
      REQUIRE_FALSE(refused.ok());
      CHECK(std::string(refused.error().code) == "FT_ERR_PAGE_MAP");
    }
    CHECK(world.equal());
  }

  TEST_CASE("what was not acknowledged is known, whatever was acknowledged in between") {
    std::mt19937_64 random(7);
    UnackedPages unacked(4096);
    unacked.begin();
    uint64_t newest = 0;
    uint64_t acked = 0;
    for (int step = 0; step < 20'000; step++) {
      if (random() % 3 != 0 || newest == 0) {
        unacked.in_epoch(++newest);
        unacked.add(newest % 4096);
        // The rest of an epoch that is encoded in pieces, an ack having come in between.
        if (random() % 4 == 0) {
          acked = std::max(acked, newest - std::min<uint64_t>(newest, 1 + random() % 40));
          unacked.acked(acked);
          unacked.in_epoch(newest);
          unacked.add(newest % 4096);
        }
      } else {
        acked = std::max(acked, newest - std::min<uint64_t>(newest, random() % 60));
        unacked.acked(acked);
      }
      REQUIRE(unacked.since() <= acked);
      PageBits pages(4096);
      unacked.collect(pages);
      for (uint64_t epoch = unacked.since() + 1; epoch <= newest; epoch++) {
        REQUIRE(pages.has(epoch % 4096));
      }
      // And not much more than that: three turns and what is in flight.
      REQUIRE(pages.count() <= newest - acked + 3 * UnackedPages::kTurnEpochs + 64);
    }
  }

  TEST_CASE("sessions that break off at any moment are caught up with") {
    uint64_t scanned = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
      World world(seed);
      for (int i = 0; i < 300; i++) world.write();
      world.cut();
      world.scan();
      world.drain();
      REQUIRE(world.equal());
      for (int round = 0; round < 6; round++) {
        for (uint64_t steps = world.below(120); steps > 0; steps--) {
          world.write();
          if (world.below(2) == 0) world.cut();
          if (world.below(2) == 0) world.encode();
          if (world.below(3) == 0) world.deliver(world.below(4));
          if (world.below(3) == 0 && world.held > world.acked) world.ack(world.held);
        }
        // The link breaks: epochs are cut, encoded in part, under way, held and not acknowledged.
        world.lose();
        REQUIRE(world.encoder->unacked().since() <= world.held);
        PageBits pages = world.changes();
        for (uint64_t alone = world.below(40); alone > 0; alone--) world.write();
        world.pages_scanned = 0;
        world.catch_up(pages);
        for (int i = 0; i < 5; i++) world.write();
        world.cut();
        world.scan();
        world.write();
        world.cut();
        world.drain();
        REQUIRE(world.equal());
        scanned += world.pages_scanned;
      }
      REQUIRE(world.mismatches.empty());
    }
    // A full scan visits every page.
    CHECK(scanned < uint64_t{60} * 6 * kPages / 3);
  }

  TEST_CASE("pages that were not cleared keep their deltas: an epoch costs what it did before") {
    World world(3);
    for (uint64_t gfn = 0; gfn < 64; gfn++) {
      for (int i = 0; i < 4096; i++)
        world.source.host_base()[gfn * 4096 + uint64_t(i)] = uint8_t(i * 7);
      world.open.set(gfn);
    }
    world.cut();
    world.drain();
    PageBits pages(kPages);
    pages.set(5);
    world.catch_up(pages);
    world.source.host_base()[9 * 4096 + 17] ^= 1;
    world.open.set(9);
    world.cut();
    REQUIRE(world.encode());
    CHECK(world.wire.back().bytes.size() < 512);
    world.scan();
    world.deliver(world.wire.size());
    CHECK(world.equal());
    CHECK(world.pages_scanned == 1);
  }
}

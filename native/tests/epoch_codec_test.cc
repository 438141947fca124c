// Holds the epoch codec to its invariant: whatever mix of scan and epochs was encoded, the
// standby's memory equals the primary's at the last cut; and no body from outside can do harm.
#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <thread>

#include "core/crc32c.h"
#include "machine/epoch_codec.h"

using namespace ft;

namespace {

constexpr uint64_t kMemoryBytes = 4 << 20;

struct Bench {
  GuestMemory source = GuestMemory::create(kMemoryBytes).take();
  GuestMemory image = GuestMemory::create(kMemoryBytes).take();
  std::unique_ptr<EpochEncoder> encoder = EpochEncoder::create(source).take();
  ImageApplier applier{image};
  std::unique_ptr<SlotPool> slots = SlotPool::create(2, source.page_count()).take();
  std::vector<uint8_t> out = std::vector<uint8_t>(EpochEncoder::kChunkRoomMin);
  std::mt19937_64 random{42};
  std::vector<uint32_t> mismatches;

  Bench() {
    encoder->begin();
    REQUIRE(applier.begin().ok());
  }
  uint8_t* page(uint32_t gfn) { return source.host_base() + size_t{gfn} * 4096; }

  void scribble(uint32_t gfn, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) page(gfn)[random() % 4096] = static_cast<uint8_t>(random());
  }
  // What a cut does, without a vCPU: copies the pages and a state blob into a slot.
  EpochSlot* cut(std::span<const uint32_t> gfns, uint64_t epoch) {
    EpochSlot* slot = slots->take();
    REQUIRE(slot != nullptr);
    slot->facts.epoch = epoch;
    slot->gfns.assign(gfns.begin(), gfns.end());
    for (size_t i = 0; i < gfns.size(); i++) {
      std::memcpy(slot->pages.data() + i * 4096, page(gfns[i]), 4096);
    }
    slot->state_writer.begin();
    *slot->state_writer.add_struct<uint64_t>(StateKind::kRegs, 0) = epoch;
    slot->state = slot->state_writer.finish();
    slot->audit.push_back({7, crc32c({page(7), 4096})});
    slots->publish(slot);
    return slot;
  }
  int apply(const EncodedBody& body) {
    const std::span<const uint8_t> bytes{out.data(), body.bytes};
    REQUIRE(applier.verify(bytes).ok());
    const auto applied = applier.apply(bytes, &mismatches);
    REQUIRE(applied.ok());
    return static_cast<int>(applied.value());
  }
  void ship_front() {
    EncodedBody body;
    do {
      body = encoder->encode_slot(*slots->front(), out);
      apply(body);
    } while (!body.last);
    slots->retire();
  }
  bool equal() { return std::memcmp(source.host_base(), image.host_base(), kMemoryBytes) == 0; }
};

}  // namespace

TEST_SUITE("epoch codec") {
  TEST_CASE("epochs make the image equal, in one piece or in many") {
    Bench bench;
    for (uint64_t epoch = 1; epoch <= 40; epoch++) {
      std::vector<uint32_t> gfns;
      const uint32_t pages = epoch % 5 == 0 ? 400 : 3;
      for (uint32_t i = 0; i < pages; i++) {
        const uint32_t gfn = static_cast<uint32_t>((epoch * 37 + i) % bench.source.page_count());
        bench.scribble(gfn, epoch % 3 == 0 ? 4096 : 9);
        gfns.push_back(gfn);
      }
      bench.cut(gfns, epoch);
      bench.ship_front();
      REQUIRE(bench.equal());
      REQUIRE(bench.mismatches.empty());
    }
    const auto reader = StateReader::open(bench.applier.state());
    REQUIRE(reader.ok());
    uint64_t epoch = 0;
    std::memcpy(&epoch, reader.value().find(StateKind::kRegs, 0).data(), sizeof(epoch));
    CHECK(epoch == 40);
  }

  TEST_CASE("a scan in the middle of epochs converges to equality, older cuts encoded after it") {
    Bench bench;
    for (uint32_t gfn = 0; gfn < bench.source.page_count(); gfn += 3) bench.scribble(gfn, 100);
    uint64_t epoch = 1;
    bool last = false;
    while (!last) {
      // The cut copies its page, the guest changes it again, the scan may send the newer content
      // first and the older cut's copy after it; the newer write belongs to the next epoch.
      const uint32_t gfn = static_cast<uint32_t>(bench.random() % bench.source.page_count());
      bench.scribble(gfn, 20);
      const uint32_t gfns[] = {gfn};
      bench.cut(gfns, epoch++);
      bench.scribble(gfn, 20);
      const EncodedBody body = bench.encoder->scan(bench.out);
      bench.apply(body);
      last = body.last;
      bench.ship_front();
      bench.cut(gfns, epoch++);
      bench.ship_front();
    }
    CHECK(bench.equal());
    CHECK(bench.encoder->scan_progress() == doctest::Approx(1.0));
  }

  TEST_CASE(
      "a page that the scan sent goes raw with its first epoch, and as a delta from then on") {
    Bench bench;
    bench.scribble(5, 6000);
    REQUIRE(bench.apply(bench.encoder->scan(bench.out)) == 1);
    const uint32_t five[] = {5};
    size_t bytes[3];
    for (uint64_t epoch = 1; epoch <= 3; epoch++) {
      bench.page(5)[100] ^= 1;
      bench.cut(five, epoch);
      const EncodedBody body = bench.encoder->encode_slot(*bench.slots->front(), bench.out);
      bytes[epoch - 1] = body.bytes;
      bench.apply(body);
      bench.slots->retire();
      CHECK(bench.equal());
    }
    CHECK(bytes[0] > 4096);
    CHECK(bytes[1] < 256);
    CHECK(bytes[2] < 256);
  }

  TEST_CASE("a page that became zero behind the scan is zero on the standby as well") {
    Bench bench;
    for (const uint32_t gfn : {5u, 6u}) bench.scribble(gfn, 6000);
    bench.apply(bench.encoder->scan(bench.out));
    for (const uint32_t gfn : {5u, 6u}) std::memset(bench.page(gfn), 0, 4096);
    const uint32_t five[] = {5};
    bench.cut(five, 1);
    bench.ship_front();
    // Nobody named the other page: only a walk over all of memory finds it.
    CHECK_FALSE(bench.equal());
    bench.cut({}, 2)->facts.overrun = true;
    bench.ship_front();
    CHECK(bench.equal());
  }

  TEST_CASE("long rows of pages, new ones and such as were there, arrive whole") {
    Bench bench;
    const auto pages = static_cast<uint32_t>(bench.source.page_count());
    for (uint32_t gfn = 0; gfn < pages; gfn++) {
      // Rows of every length, parted by pages that are zero or nearly so.
      if (gfn % 97 == 96 || (gfn > 500 && gfn % 3 == 0))
        bench.page(gfn)[9] = gfn % 2;
      else
        bench.scribble(gfn, 6000);
    }
    // Some are there before the scan comes by.
    const uint32_t early[] = {40, 41, 300};
    bench.cut(early, 1);
    bench.ship_front();
    EncodedBody body;
    do {
      body = bench.encoder->scan(bench.out);
      bench.apply(body);
    } while (!body.last);
    CHECK(bench.equal());
    // The same once more over an image that was cleared.
    REQUIRE(bench.applier.begin().ok());
    bench.encoder->begin();
    do {
      body = bench.encoder->scan(bench.out);
      bench.apply(body);
    } while (!body.last);
    CHECK(bench.equal());
  }

  TEST_CASE("an overrun epoch sends whatever differs, named or not") {
    Bench bench;
    while (!bench.encoder->scan(bench.out).last) {
    }
    for (uint32_t gfn = 0; gfn < bench.source.page_count(); gfn += 2) bench.scribble(gfn, 50);
    bench.cut({}, 1)->facts.overrun = true;
    bench.ship_front();
    CHECK(bench.equal());
  }

  TEST_CASE("a hidden page write is found by the audit and healed by a raw record") {
    Bench bench;
    bench.scribble(7, 100);
    const uint32_t seven[] = {7};
    bench.cut(seven, 1);
    bench.ship_front();
    bench.image.host_base()[7 * 4096 + 5] ^= 1;  // what the standby holds went astray
    bench.cut({}, 2);
    bench.ship_front();
    REQUIRE(bench.mismatches == std::vector<uint32_t>{7});
    bench.mismatches.clear();
    bench.encoder->force_raw(7);
    bench.cut(seven, 3);
    bench.ship_front();
    CHECK(bench.equal());
    CHECK(bench.mismatches.empty());
    CHECK(bench.encoder->pages_healed() == 1);
  }

  TEST_CASE("a body cut short at any byte, or with any bit flipped, is refused or stays inside") {
    Bench bench;
    bench.scribble(3, 12);
    bench.scribble(9, 4096);
    const uint32_t gfns[] = {3, 9};
    bench.cut(gfns, 1);
    const EncodedBody body = bench.encoder->encode_slot(*bench.slots->front(), bench.out);
    REQUIRE(body.last);
    for (size_t bytes = 0; bytes < body.bytes; bytes++) {
      // A buffer of exactly that size, so that the sanitizer sees a read past its end.
      const std::vector<uint8_t> cut_short(bench.out.begin(), bench.out.begin() + bytes);
      CHECK_FALSE(bench.applier.verify(cut_short).ok());
    }
    for (size_t bit = 0; bit < body.bytes * 8; bit += 7) {
      std::vector<uint8_t> flipped(bench.out.begin(), bench.out.begin() + body.bytes);
      flipped[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
      Bench other;
      if (!other.applier.verify(flipped).ok()) continue;
      // Verified means: applying it can neither crash nor leave the image.
      (void)other.applier.apply(flipped, &other.mismatches);
    }
  }
}

TEST_CASE("idle staging slots keep room for what comes again, and a bounded amount of it") {
  constexpr size_t kMiB = 1 << 20;
  auto pool = SlotPool::create(4, 16'384).take();
  const auto use = [&](std::initializer_list<size_t> pages) {
    for (const size_t count : pages) {
      EpochSlot* slot = pool->take();
      REQUIRE(slot != nullptr);
      slot->gfns.resize(count);
      pool->publish(slot);
    }
    for (size_t i = 0; i < pages.size(); i++) pool->retire();
  };
  use({4097});
  CHECK(pool->idle_bytes() == 4097 * kPageBytes);
  use({4097});
  use({1});
  CHECK(pool->idle_bytes() == 4097 * kPageBytes);
  use({4096, 4096, 4096});
  CHECK(pool->idle_bytes() <= 64 * kMiB);
  CHECK(pool->idle_bytes() >= 3 * 4096 * kPageBytes);
  use({16'384, 16'384, 5000, 5000});
  CHECK(pool->idle_bytes() <= 64 * kMiB);
  use({16'384});
  CHECK(pool->idle_bytes() <= 64 * kMiB);
}

TEST_SUITE("threads") {
  TEST_CASE("staging slots pass from the cutting thread to the event loop and back") {
    auto pool = SlotPool::create(3, 16).take();
    constexpr uint64_t kEpochs = 5000;
    std::thread cutter([&] {
      for (uint64_t epoch = 1; epoch <= kEpochs;) {
        EpochSlot* slot = pool->take();
        if (slot == nullptr) {
          std::this_thread::yield();
          continue;
        }
        slot->facts.epoch = epoch;
        slot->pages.data()[0] = static_cast<uint8_t>(epoch);
        pool->publish(slot);
        epoch++;
      }
    });
    for (uint64_t epoch = 1; epoch <= kEpochs;) {
      const EpochSlot* slot = pool->front();
      if (slot == nullptr) {
        std::this_thread::yield();
        continue;
      }
      REQUIRE(slot->facts.epoch == epoch);
      REQUIRE(slot->pages.data()[0] == static_cast<uint8_t>(epoch));
      pool->retire();
      epoch++;
    }
    cutter.join();
    CHECK(pool->has_free());
  }
}

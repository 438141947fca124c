// The entropy device: what it fills, how much at once, and that a hostile driver gets no further
// than a reset.
#include <doctest/doctest.h>

#include "machine/virtio_rng.h"
#include "virtio_support.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

// A source that counts up, so that every byte can be told from every other.
struct RngParts {
  uint8_t next = 1;
  VirtioRng rng{[this](std::span<uint8_t> out) {
    for (uint8_t& byte : out) byte = next++;
  }};
};

struct RngRig : RngParts, DriverRig {
  RngRig() : DriverRig(rng) {}

  void ask(uint32_t bytes, uint16_t index = 0, uint64_t gpa = kBuffers) {
    desc(0, index, {gpa, bytes, kWrite, 0});
    offer(0, index);
  }
};

bool marked(const RngRig& rig, uint64_t gpa) {
  const auto gfns = rig.memory.dirty_gfns();
  return std::find(gfns.begin(), gfns.end(), gpa / 4096) != gfns.end();
}

}  // namespace

TEST_CASE("rng: it is an entropy device with one queue and no features of its own") {
  RngRig rig;
  CHECK(rig.reg(0x08) == 4);
  CHECK(rig.reg_features() == kVirtioFVersion1);
  rig.set(0x30, 0);
  CHECK(rig.reg(0x34) == kRngQueueSizeMax);
  rig.set(0x30, 1);
  CHECK(rig.reg(0x34) == 0);
  CHECK(rig.reg(0x100) == 0);  // no configuration space
}

TEST_CASE("rng: a request is filled across its pieces, marked and answered with one interrupt") {
  RngRig rig;
  rig.start();
  rig.desc(0, 3, {kBuffers + 4090, 10, kNext | kWrite, 5});
  rig.desc(0, 5, {kBuffers + 0x3000, 20, kWrite, 0});
  rig.offer(0, 3);
  rig.notify(0);
  CHECK(rig.used_idx(0) == 1);
  CHECK(rig.used(0, 0).id == 3);
  CHECK(rig.used(0, 0).len == 30);
  for (uint8_t i = 0; i < 10; i++) CHECK(rig.peek<uint8_t>(kBuffers + 4090 + i) == i + 1);
  for (uint8_t i = 0; i < 20; i++) CHECK(rig.peek<uint8_t>(kBuffers + 0x3000 + i) == i + 11);
  CHECK(rig.peek<uint8_t>(kBuffers + 0x3000 + 20) == 0);
  for (const uint64_t gpa : {kBuffers, kBuffers + 4096, kBuffers + 0x3000, RngRig::used_gpa(0)}) {
    CAPTURE(gpa);
    CHECK(marked(rig, gpa));
  }
  CHECK(rig.interrupts == 1);
  CHECK(rig.rng.facts().bytes == 30);
}

TEST_CASE("rng: a large request gets a bounded answer and the driver is told how much") {
  RngRig rig;
  rig.start();
  rig.ask(100'000);
  rig.notify(0);
  CHECK(rig.used(0, 0).len == kRngRequestBytesMax);
  CHECK(rig.peek<uint8_t>(kBuffers + kRngRequestBytesMax) == 0);
  CHECK_FALSE(rig.needs_reset());
}

TEST_CASE("rng: one notification is worth one round of the ring, answered with one interrupt") {
  RngRig rig;
  rig.start(kRngQueueSizeMax);
  for (uint16_t i = 0; i < kRngQueueSizeMax; i++) rig.ask(8, i, kBuffers + 64u * i);
  rig.notify(0);
  CHECK(rig.used_idx(0) == kRngQueueSizeMax);
  CHECK(rig.interrupts == 1);
  rig.notify(0);
  CHECK(rig.interrupts == 1);
  CHECK(rig.rng.facts().requests == kRngQueueSizeMax);
}

TEST_CASE("rng: the host's generator fills whole spans, never twice alike") {
  std::array<uint8_t, 1000> one = {};
  std::array<uint8_t, 1000> other = {};
  VirtioRng::host_entropy(one);
  VirtioRng::host_entropy(other);
  CHECK(one != other);
  CHECK(std::count(one.end() - 64, one.end(), 0) < 32);  // filled to the end
}

TEST_CASE("rng: a readable buffer, a loop or an address outside needs a reset, then it works on") {
  const Desc bad[] = {
      {kBuffers, 16, 0, 0},                                        // readable
      {kBuffers, 16, kNext | kWrite, 2},                           // loops to itself
      {0xfffffffffffff000, 16, kWrite, 0},                         // outside memory
      {(1 << 20) - 8, 16, kWrite, 0},                              // across its end
      {kBuffers, 0, kWrite, 0},                                    // empty
      {kBuffers, 0xffffffff, kWrite, 0},                           // larger than memory
      {kBuffers, 16, kWrite | kIndirect, 0},                       // not negotiated
      {kBuffers, 16, static_cast<uint16_t>(kNext | kWrite), 999},  // beyond the table
  };
  for (const Desc& desc : bad) {
    CAPTURE(desc.addr);
    CAPTURE(desc.flags);
    RngRig rig;
    rig.start();
    rig.desc(0, 2, desc);
    rig.offer(0, 2);
    rig.notify(0);
    CHECK(rig.needs_reset());
    CHECK(rig.used_idx(0) == 0);
    CHECK(rig.rng.facts().bytes == 0);
    rig.start();
    rig.ask(8);
    rig.notify(0);
    CHECK(rig.used(0, 0).len == 8);
  }
}

TEST_CASE("rng: a request not answered at the cut is answered after a restore") {
  RngRig rig;
  rig.start();
  rig.ask(8);
  StateWriter writer;
  writer.begin();
  rig.mmio.capture(writer);
  const auto blob = writer.finish();

  RngRig other;
  std::copy_n(rig.memory.host_base(), rig.memory.size(), other.memory.host_base());
  auto reader = StateReader::open(blob);
  REQUIRE(reader.ok());
  REQUIRE(other.mmio.restore(reader.value()).ok());
  CHECK(other.used_idx(0) == 0);
  other.mmio.kick_all();
  CHECK(other.used_idx(0) == 1);
  CHECK(other.used(0, 0).len == 8);
  CHECK(other.interrupts > 0);
}

// The split ring against a hostile driver: every way to break a queue is found, leads to
// DEVICE_NEEDS_RESET with a configuration interrupt, and lets nothing out.
#include <doctest/doctest.h>

#include <functional>
#include <limits>
#include <string>

#include "virtio_support.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

struct Hostile {
  const char* name;
  const char* reason;  // part of what broken_reason() says
  std::function<void(Rig&)> prepare;
};

constexpr uint32_t kTx = kNetQueueTx;
constexpr uint32_t kRx = kNetQueueRx;

const Hostile kHostileTransmit[] = {
    {"available index far ahead", "ran ahead",
     [](Rig& r) { r.poke<uint16_t>(Rig::avail_gpa(kTx) + 2, 17); }},
    {"available index behind", "ran ahead",
     [](Rig& r) { r.poke<uint16_t>(Rig::avail_gpa(kTx) + 2, 0xffff); }},
    {"head beyond the table", "beyond the table", [](Rig& r) { r.offer(kTx, 16); }},
    {"head at the far end", "beyond the table", [](Rig& r) { r.offer(kTx, 0xffff); }},
    {"next beyond the table", "beyond the table",
     [](Rig& r) {
       r.desc(kTx, 0, {kBuffers, 64, kNext, 16});
       r.offer(kTx, 0);
     }},
    {"chain that points to itself", "loops",
     [](Rig& r) {
       r.desc(kTx, 3, {kBuffers, 64, kNext, 3});
       r.offer(kTx, 3);
     }},
    {"chain that goes round the whole table", "loops",
     [](Rig& r) {
       for (uint16_t i = 0; i < 16; i++) {
         r.desc(kTx, i, {kBuffers, 64, kNext, static_cast<uint16_t>((i + 1) % 16)});
       }
       r.offer(kTx, 0);
     }},
    {"indirect descriptor", "indirect",
     [](Rig& r) {
       r.desc(kTx, 0, {kBuffers, 64, kIndirect, 0});
       r.offer(kTx, 0);
     }},
    {"length zero", "length zero",
     [](Rig& r) {
       r.desc(kTx, 0, {kBuffers, 0, 0, 0});
       r.offer(kTx, 0);
     }},
    {"buffer starts beyond memory", "outside guest memory",
     [](Rig& r) {
       r.desc(kTx, 0, {1 << 20, 64, 0, 0});
       r.offer(kTx, 0);
     }},
    {"buffer ends beyond memory", "outside guest memory",
     [](Rig& r) {
       r.desc(kTx, 0, {(1 << 20) - 63, 64, 0, 0});
       r.offer(kTx, 0);
     }},
    {"buffer wraps around the address space", "outside guest memory",
     [](Rig& r) {
       r.desc(kTx, 0, {std::numeric_limits<uint64_t>::max() - 8, 64, 0, 0});
       r.offer(kTx, 0);
     }},
    {"longest length", "outside guest memory",
     [](Rig& r) {
       r.desc(kTx, 0, {kBuffers, 0xffffffff, 0, 0});
       r.offer(kTx, 0);
     }},
    {"second buffer beyond memory", "outside guest memory",
     [](Rig& r) {
       r.desc(kTx, 0, {kBuffers, 64, kNext, 1});
       r.desc(kTx, 1, {~0ull, 1, 0, 0});
       r.offer(kTx, 0);
     }},
    {"readable after writable", "readable buffer after",
     [](Rig& r) {
       r.desc(kTx, 0, {kBuffers, 64, kNext | kWrite, 1});
       r.desc(kTx, 1, {kBuffers, 64, 0, 0});
       r.offer(kTx, 0);
     }},
    {"no whole header", "no whole header",
     [](Rig& r) {
       r.desc(kTx, 0, {kBuffers, 11, 0, 0});
       r.offer(kTx, 0);
     }},
    {"only writable", "no whole header",
     [](Rig& r) {
       r.desc(kTx, 0, {kBuffers, 64, kWrite, 0});
       r.offer(kTx, 0);
     }},
};

const Hostile kHostileReceive[] = {
    {"readable receive buffer", "not writable",
     [](Rig& r) {
       r.desc(kRx, 0, {kBuffers, 2048, 0, 0});
       r.offer(kRx, 0);
     }},
    {"readable, then writable", "not writable",
     [](Rig& r) {
       r.desc(kRx, 0, {kBuffers, 12, kNext, 1});
       r.desc(kRx, 1, {kBuffers, 2048, kWrite, 0});
       r.offer(kRx, 0);
     }},
    {"writable buffer beyond memory", "outside guest memory",
     [](Rig& r) {
       r.desc(kRx, 0, {(1 << 20) - 100, 2048, kWrite, 0});
       r.offer(kRx, 0);
     }},
    {"available index far ahead", "ran ahead",
     [](Rig& r) { r.poke<uint16_t>(Rig::avail_gpa(kRx) + 2, 1000); }},
};

void expect_broken(Rig& rig, const Hostile& hostile) {
  CHECK(rig.needs_reset());
  CHECK((rig.reg(0x60) & kVirtioIsrConfig) != 0);
  CHECK(rig.interrupts == 1);
  CHECK_FALSE(rig.mmio.active());
  CHECK(std::string(rig.mmio.broken_reason()).find(hostile.reason) != std::string::npos);
  CHECK(rig.sent.empty());
  // Nothing more happens, whatever comes, until the driver resets the device.
  rig.transmit(make_frame(60), 5);
  rig.notify(kTx);
  rig.mmio.kick_all();
  CHECK(rig.net.process_tx(100) == 0);
  CHECK_FALSE(rig.net.rx_ready());
  CHECK(rig.net.deliver(make_frame(60)) == VirtioNet::Delivery::kDropped);
  CHECK(rig.sent.empty());
}

}  // namespace

TEST_CASE("virtqueue: what a hostile driver offers for transmission breaks the queue, not us") {
  for (const Hostile& hostile : kHostileTransmit) {
    CAPTURE(std::string(hostile.name));
    Rig rig;
    rig.start();
    hostile.prepare(rig);
    rig.notify(kTx);
    expect_broken(rig, hostile);
    // The reset brings it back to work.
    rig.interrupts = 0;
    rig.start();
    rig.transmit(make_frame(60));
    rig.notify(kTx);
    CHECK(rig.sent.size() == 1);
    CHECK(rig.used_idx(kTx) == 1);
  }
}

TEST_CASE("virtqueue: what a hostile driver offers for receiving breaks the queue, not us") {
  for (const Hostile& hostile : kHostileReceive) {
    CAPTURE(std::string(hostile.name));
    Rig rig;
    rig.start();
    hostile.prepare(rig);
    CHECK(rig.net.rx_ready());
    CHECK(rig.net.deliver(make_frame(60)) == VirtioNet::Delivery::kDropped);
    CHECK(rig.used_idx(kRx) == 0);
    expect_broken(rig, hostile);
  }
}

TEST_CASE("virtqueue: frames before the bad chain leave, it and what follows do not") {
  Rig rig;
  rig.start();
  rig.transmit(make_frame(60), 0);
  rig.transmit(make_frame(61), 1, kBuffers + 0x1000);
  rig.offer(kTx, 99);
  rig.transmit(make_frame(62), 2, kBuffers + 0x2000);
  rig.notify(kTx);
  CHECK(rig.sent.size() == 2);
  CHECK(rig.used_idx(kTx) == 2);
  CHECK(rig.needs_reset());
}

TEST_CASE("virtqueue: setting a queue up wrongly is refused and told at DRIVER_OK") {
  struct Case {
    const char* name;
    uint32_t size;
    uint64_t desc, avail, used;
    const char* reason;
  };
  const uint64_t d = 0x10000, a = 0x12000, u = 0x13000, end = 1 << 20;
  const Case cases[] = {
      {"size zero", 0, d, a, u, "zero or above"},
      {"size above the maximum", 512, d, a, u, "zero or above"},
      {"size that would be truncated", 0x10010, d, a, u, "zero or above"},
      {"size no power of two", 24, d, a, u, "power of two"},
      {"table unaligned", 16, d + 8, a, u, "aligned to 16"},
      {"available ring unaligned", 16, d, a + 1, u, "aligned to 2"},
      {"used ring unaligned", 16, d, a, u + 2, "aligned to 4"},
      {"table beyond memory", 16, end, a, u, "outside"},
      {"table ends beyond memory", 256, end - 4080, a, u, "outside"},
      {"available ring ends beyond memory", 16, d, end - 34, u, "outside"},
      {"used ring ends beyond memory", 16, d, a, end - 128, "outside"},
      {"used ring wraps", 16, d, a, ~0ull - 3, "outside"},
      {"table at the top of the address space", 16, ~0xfull, a, u, "outside"},
      {"used ring on the table", 16, d, a, d + 64, "overlaps"},
      {"used ring on the available ring", 16, d, a, a + 32, "overlaps"},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.name));
    Rig rig;
    rig.accept_features(rig.reg_features());
    rig.place_queue(kRx, 16, 0x20000, 0x22000, 0x23000);
    rig.place_queue(kTx, c.size, c.desc, c.avail, c.used);
    CHECK(rig.reg(0x44) == 0);
    CHECK(rig.needs_reset());
    CHECK(rig.interrupts == 0);  // not before the driver is ready for it
    CHECK(std::string(rig.mmio.broken_reason()).find(c.reason) != std::string::npos);
    rig.set(0x70, rig.status() | kVirtioStatusDriverOk);
    CHECK_FALSE(rig.mmio.active());
    CHECK(rig.interrupts == 1);
    rig.notify(kTx);
    CHECK(rig.sent.empty());
    rig.set(0x70, 0);
    CHECK(rig.status() == 0);
  }
}

TEST_CASE("virtqueue: the rings wrap around at their size and at 65536") {
  Rig rig;
  rig.start(4);
  for (uint32_t i = 0; i < 70000; i++) {
    rig.transmit(make_frame(60 + i % 40), static_cast<uint16_t>(i % 4));
    rig.mmio.notify_queue(kTx);
    rig.sent.clear();
    const Used used = rig.used(kTx, i % 4);
    REQUIRE(used.id == i % 4);
    REQUIRE(used.len == 0);
    REQUIRE(rig.used_idx(kTx) == static_cast<uint16_t>(i + 1));
  }
  CHECK(rig.net.facts().tx_frames == 70000);
}

TEST_CASE("virtqueue: a full ring of the largest size and the longest chain are taken") {
  Rig rig;
  rig.start(256);
  // One chain of 256 descriptors: 12 bytes of header a byte each, then 244 bytes of frame.
  for (uint16_t i = 0; i < 256; i++) {
    rig.poke<uint8_t>(kBuffers + i, static_cast<uint8_t>(i));
    const uint16_t flags = i < 255 ? kNext : 0;
    rig.desc(kTx, i, {kBuffers + i, 1, flags, static_cast<uint16_t>(i + 1)});
  }
  rig.offer(kTx, 0);
  rig.notify(kTx);
  REQUIRE(rig.sent.size() == 1);
  REQUIRE(rig.sent[0].size() == 244);
  for (size_t i = 0; i < 244; i++) REQUIRE(rig.sent[0][i] == i + 12);

  for (uint16_t i = 0; i < 256; i++) rig.transmit(make_frame(60), i);
  rig.notify(kTx);
  CHECK(rig.sent.size() == 257);
  CHECK_FALSE(rig.needs_reset());
}

TEST_CASE("virtqueue: the driver is interrupted unless it asked not to be") {
  Rig rig;
  rig.start();
  rig.transmit(make_frame(60));
  rig.notify(kTx);
  CHECK(rig.interrupts == 1);
  CHECK(rig.reg(0x60) == kVirtioIsrUsed);
  rig.poke<uint16_t>(Rig::avail_gpa(kTx), 1);  // NO_INTERRUPT
  rig.transmit(make_frame(60));
  rig.notify(kTx);
  CHECK(rig.interrupts == 1);
  CHECK(rig.sent.size() == 2);
  rig.notify(kTx);  // nothing new: nothing to say
  rig.poke<uint16_t>(Rig::avail_gpa(kTx), 0);
  rig.notify(kTx);
  CHECK(rig.interrupts == 1);
}

TEST_CASE("virtqueue: every page that the device writes is marked, and no other") {
  Rig rig;
  rig.start();
  rig.transmit(make_frame(60));
  rig.notify(kTx);
  const auto pages = [&] {
    return std::vector<uint32_t>(rig.memory.dirty_gfns().begin(), rig.memory.dirty_gfns().end());
  };
  CHECK(pages() == std::vector<uint32_t>{static_cast<uint32_t>(Rig::used_gpa(kTx) / 4096)});
  rig.memory.clear_dirty();
  rig.offer_receive(2048, 0, kBuffers + 4096 - 40);  // header and frame over two pages
  CHECK(rig.net.deliver(make_frame(60)) == VirtioNet::Delivery::kDelivered);
  CHECK(pages() == std::vector<uint32_t>{static_cast<uint32_t>(kBuffers / 4096),
                                         static_cast<uint32_t>(kBuffers / 4096 + 1),
                                         static_cast<uint32_t>(Rig::used_gpa(kRx) / 4096)});
}

// The network device: frames in and out, sizes, batches, hearing the guest's address, and that held
// output stays held.
#include <doctest/doctest.h>

#include "virtio_support.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr uint32_t kTx = kNetQueueTx;
constexpr uint32_t kRx = kNetQueueRx;

std::vector<uint8_t> make_arp(const MacAddress& mac, const Ipv4Address& ip) {
  std::vector<uint8_t> frame = make_frame(42, 0x0806, mac);
  const uint8_t head[] = {0, 1, 8, 0, 6, 4, 0, 1};
  std::copy(std::begin(head), std::end(head), frame.begin() + 14);
  std::copy(mac.begin(), mac.end(), frame.begin() + 22);
  std::copy(ip.begin(), ip.end(), frame.begin() + 28);
  return frame;
}

std::vector<uint8_t> make_ipv4(const MacAddress& mac, const Ipv4Address& ip) {
  std::vector<uint8_t> frame = make_frame(60, 0x0800, mac);
  frame[14] = 0x45;
  std::copy(ip.begin(), ip.end(), frame.begin() + 26);
  return frame;
}

void say(Rig& rig, const std::vector<uint8_t>& frame) {
  rig.transmit(frame);
  rig.notify(kTx);
}

}  // namespace

TEST_CASE("net: a transmitted frame leaves without its header, whatever its pieces") {
  const std::vector<uint8_t> frame = make_frame(300);
  const uint32_t splits[] = {1, 5, 11, 12, 13, 26, 100, 311};
  for (const uint32_t split : splits) {
    CAPTURE(split);
    Rig rig;
    rig.start();
    std::vector<uint8_t> bytes(12);
    bytes.insert(bytes.end(), frame.begin(), frame.end());
    std::memcpy(rig.memory.host_base() + kBuffers, bytes.data(), split);
    std::memcpy(rig.memory.host_base() + kBuffers + 0x1000, bytes.data() + split, 312 - split);
    rig.desc(kTx, 0, {kBuffers, split, kNext, 7});
    rig.desc(kTx, 7, {kBuffers + 0x1000, 312 - split, 0, 0});
    rig.offer(kTx, 0);
    rig.notify(kTx);
    REQUIRE(rig.sent.size() == 1);
    CHECK(rig.sent[0] == frame);
    CHECK(rig.used(kTx, 0).id == 0);
  }
}

TEST_CASE("net: frames too short or too long are dropped, their buffers given back") {
  Rig rig;
  rig.start();
  const size_t sizes[] = {0, 13, 14, kFrameBytesMax, kFrameBytesMax + 1};
  for (const size_t size : sizes) say(rig, make_frame(size));
  REQUIRE(rig.sent.size() == 2);
  CHECK(rig.sent[0].size() == 14);
  CHECK(rig.sent[1].size() == kFrameBytesMax);
  CHECK(rig.net.facts().tx_dropped == 3);
  CHECK(rig.used_idx(kTx) == 5);
  CHECK_FALSE(rig.needs_reset());
}

TEST_CASE("net: a budget bounds one round, and the rest waits for the next") {
  Rig rig;
  rig.start();
  for (uint16_t i = 0; i < 10; i++) rig.transmit(make_frame(60), i);
  CHECK(rig.net.process_tx(4) == 4);
  CHECK(rig.sent.size() == 4);
  CHECK(rig.interrupts == 1);
  CHECK(rig.net.process_tx(100) == 6);
  CHECK(rig.net.process_tx(100) == 0);
  CHECK(rig.sent.size() == 10);
  CHECK(rig.interrupts == 2);
}

TEST_CASE("net: while output is held nothing leaves until its epoch is released") {
  Rig rig;
  rig.start();
  rig.outbox.hold();
  say(rig, make_frame(60));
  CHECK(rig.outbox.output_waiting());
  rig.outbox.seal(1);
  say(rig, make_frame(61));
  CHECK(rig.sent.empty());
  rig.outbox.release(1);
  REQUIRE(rig.sent.size() == 1);
  CHECK(rig.sent[0].size() == 60);
}

TEST_CASE("net: a received frame stands behind its header in the guest's buffer") {
  Rig rig;
  rig.start();
  CHECK_FALSE(rig.net.rx_ready());
  CHECK(rig.net.deliver(make_frame(60)) == VirtioNet::Delivery::kNoBuffer);
  // Pieces that cut through the header and the frame.
  rig.desc(kRx, 2, {kBuffers, 5, kNext | kWrite, 3});
  rig.desc(kRx, 3, {kBuffers + 0x100, 20, kNext | kWrite, 4});
  rig.desc(kRx, 4, {kBuffers + 0x200, 200, kWrite, 0});
  rig.offer(kRx, 2);
  CHECK(rig.net.rx_ready());
  const std::vector<uint8_t> frame = make_frame(100);
  CHECK(rig.net.deliver(frame) == VirtioNet::Delivery::kDelivered);
  std::vector<uint8_t> got(rig.memory.host_base() + kBuffers,
                           rig.memory.host_base() + kBuffers + 5);
  const auto append = [&](uint64_t gpa, size_t n) {
    got.insert(got.end(), rig.memory.host_base() + gpa, rig.memory.host_base() + gpa + n);
  };
  append(kBuffers + 0x100, 20);
  append(kBuffers + 0x200, 87);
  const std::vector<uint8_t> header = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0};
  CHECK(std::vector<uint8_t>(got.begin(), got.begin() + 12) == header);
  CHECK(std::vector<uint8_t>(got.begin() + 12, got.end()) == frame);
  CHECK(rig.peek<uint8_t>(kBuffers + 0x200 + 87) == 0);  // not a byte more
  CHECK(rig.used(kRx, 0).id == 2);
  CHECK(rig.used(kRx, 0).len == 112);
  CHECK(rig.interrupts == 1);
}

TEST_CASE("net: a frame larger than the buffer is dropped and the buffer kept for the next") {
  Rig rig;
  rig.start();
  rig.offer_receive(100);
  CHECK(rig.net.deliver(make_frame(89)) == VirtioNet::Delivery::kDropped);
  CHECK(rig.net.facts().rx_dropped == 1);
  CHECK(rig.used_idx(kRx) == 0);
  CHECK(rig.net.rx_ready());
  CHECK(rig.net.deliver(make_frame(88)) == VirtioNet::Delivery::kDelivered);
  CHECK(rig.used(kRx, 0).len == 100);
  CHECK(rig.net.deliver(make_frame(13)) == VirtioNet::Delivery::kDropped);
  CHECK(rig.net.deliver(make_frame(kFrameBytesMax + 1)) == VirtioNet::Delivery::kDropped);
}

TEST_CASE("net: a batch of frames interrupts once") {
  Rig rig;
  rig.start();
  for (uint16_t i = 0; i < 5; i++) rig.offer_receive(2048, i, kBuffers + 0x1000u * i);
  for (int i = 0; i < 5; i++) {
    CHECK(rig.net.deliver(make_frame(60), true) == VirtioNet::Delivery::kDelivered);
  }
  CHECK(rig.interrupts == 0);
  rig.net.signal_rx();
  rig.net.signal_rx();
  CHECK(rig.interrupts == 1);
  CHECK(rig.used_idx(kRx) == 5);
}

TEST_CASE("net: nothing moves before DRIVER_OK or after a reset; what waited is then looked at") {
  Rig rig;
  CHECK(rig.net.deliver(make_frame(60)) == VirtioNet::Delivery::kDropped);
  CHECK(rig.net.process_tx(10) == 0);
  rig.accept_features(rig.reg_features());
  for (uint32_t q = 0; q < 2; q++) {
    rig.place_queue(q, 16, Rig::desc_gpa(q), Rig::avail_gpa(q), Rig::used_gpa(q));
  }
  say(rig, make_frame(60));
  CHECK(rig.sent.empty());
  rig.set(0x70, rig.status() | kVirtioStatusDriverOk);
  CHECK(rig.sent.size() == 1);
  rig.set(0x70, 0);
  say(rig, make_frame(60));
  CHECK(rig.sent.size() == 1);
}

TEST_CASE("net: configuration space shows MAC and link, and zero past its end") {
  Rig rig;
  std::array<uint8_t, 8> config = {};
  rig.mmio.read(0x100, config);
  CHECK(config == std::array<uint8_t, 8>{0x52, 0x54, 0, 0x12, 0x34, 0x56, 1, 0});
  std::array<uint8_t, 2> status = {};
  rig.mmio.read(0x106, status);
  CHECK(status == std::array<uint8_t, 2>{1, 0});
  rig.mmio.read(0x107, status);
  CHECK(status == std::array<uint8_t, 2>{0, 0});
  std::array<uint8_t, 8> past = {1, 1, 1, 1, 1, 1, 1, 1};
  rig.mmio.read(0xff8, past);
  CHECK(past == std::array<uint8_t, 8>{});
  rig.mmio.write(0x100, config);

  rig.start();
  const uint32_t generation = rig.reg(0xfc);
  rig.net.set_link(false);
  rig.mmio.read(0x106, status);
  CHECK(status == std::array<uint8_t, 2>{0, 0});
  CHECK(rig.reg(0xfc) == generation + 1);
  CHECK(rig.reg(0x60) == kVirtioIsrConfig);
  rig.net.set_link(false);
  CHECK(rig.reg(0xfc) == generation + 1);
}

TEST_CASE("net: the guest's address is heard from ARP before IPv4, and nonsense is not believed") {
  Rig rig;
  rig.start();
  const MacAddress other = {0x52, 0x54, 0, 1, 1, 1};
  CHECK(rig.net.heard_ipv4() == Ipv4Address{});
  const Ipv4Address nonsense[] = {
      {0, 0, 0, 0}, {127, 0, 0, 1}, {224, 0, 0, 1}, {255, 255, 255, 255}};
  for (const Ipv4Address& ip : nonsense) {
    say(rig, make_arp(kGuestMac, ip));
    say(rig, make_ipv4(kGuestMac, ip));
  }
  say(rig, make_arp({0x01, 0, 0x5e, 0, 0, 1}, {192, 0, 2, 9}));  // a multicast sender
  std::vector<uint8_t> wrong = make_arp(kGuestMac, {192, 0, 2, 9});
  wrong[18] = 8;  // another hardware address length
  say(rig, wrong);
  std::vector<uint8_t> cut = make_arp(kGuestMac, {192, 0, 2, 9});
  cut.resize(41);
  say(rig, cut);
  std::vector<uint8_t> ipv6 = make_ipv4(kGuestMac, {192, 0, 2, 9});
  ipv6[14] = 0x60;
  say(rig, ipv6);
  CHECK(rig.net.heard_ipv4() == Ipv4Address{});
  CHECK(rig.net.heard_mac() == kGuestMac);

  say(rig, make_ipv4(other, {192, 0, 2, 1}));
  CHECK(rig.net.heard_ipv4() == Ipv4Address{192, 0, 2, 1});
  CHECK(rig.net.heard_mac() == other);
  say(rig, make_ipv4(other, {192, 0, 2, 2}));
  CHECK(rig.net.heard_ipv4() == Ipv4Address{192, 0, 2, 2});
  say(rig, make_arp(kGuestMac, {192, 0, 2, 3}));
  say(rig, make_ipv4(other, {192, 0, 2, 4}));  // forwarded, perhaps
  CHECK(rig.net.heard_ipv4() == Ipv4Address{192, 0, 2, 3});
  CHECK(rig.net.heard_mac() == kGuestMac);
  say(rig, make_arp(other, {192, 0, 2, 5}));
  CHECK(rig.net.heard_ipv4() == Ipv4Address{192, 0, 2, 5});
}

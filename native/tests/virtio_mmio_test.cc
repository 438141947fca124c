// The virtio-mmio transport: its registers, the status handshake, and its state: what is captured
// restores to a device that goes on where it was, and a bad state is refused whole.
#include <doctest/doctest.h>

#include <functional>
#include <string>

#include "kvm/state.h"
#include "virtio_support.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr uint32_t kTx = kNetQueueTx;

std::vector<uint8_t> captured(Rig& rig) {
  StateWriter writer;
  writer.begin();
  rig.mmio.capture(writer);
  const auto blob = writer.finish();
  return {blob.begin(), blob.end()};
}

Status restore(Rig& rig, const std::vector<uint8_t>& blob) {
  auto reader = StateReader::open(blob);
  REQUIRE(reader.ok());
  return rig.mmio.restore(reader.value());
}

// A blob of these two states, as captured but perhaps altered.
std::vector<uint8_t> make_blob(const VirtioMmioState& mmio, const VirtioNetState& net) {
  StateWriter writer;
  writer.begin();
  std::memcpy(writer.add(StateKind::kVirtioMmio, 0, sizeof(mmio)), &mmio, sizeof(mmio));
  std::memcpy(writer.add(StateKind::kVirtioNet, 0, sizeof(net)), &net, sizeof(net));
  const auto blob = writer.finish();
  return {blob.begin(), blob.end()};
}

void copy_memory(Rig& to, Rig& from) {
  std::memcpy(to.memory.host_base(), from.memory.host_base(), from.memory.size());
}

}  // namespace

TEST_CASE("mmio: identification, features and unknown registers") {
  Rig rig;
  CHECK(rig.reg(0x00) == 0x74726976);
  CHECK(rig.reg(0x04) == 2);
  CHECK(rig.reg(0x08) == 1);
  CHECK(rig.reg_features() == (1ull << 32 | 1u << 16 | 1u << 5));
  rig.set(0x14, 2);
  CHECK(rig.reg(0x10) == 0);
  rig.set(0x30, 0);
  CHECK(rig.reg(0x34) == 256);
  rig.set(0x30, 2);
  CHECK(rig.reg(0x34) == 0);
  rig.set(0x44, 1);  // a queue that is not there
  CHECK(rig.reg(0x44) == 0);
  rig.set(0xac, 0);
  CHECK(rig.reg(0xb0) == ~0u);
  CHECK(rig.reg(0xbc) == ~0u);
  CHECK(rig.reg(0x18) == 0);
  // Widths other than 32 bits and crooked offsets read as zero and write nothing.
  std::array<uint8_t, 8> out = {1, 1, 1, 1, 1, 1, 1, 1};
  rig.mmio.read(0, {out.data(), 1});
  rig.mmio.read(2, {out.data() + 1, 4});
  rig.mmio.read(0, {out.data(), 8});
  CHECK(out == std::array<uint8_t, 8>{});
  const std::array<uint8_t, 8> ones = {1, 1, 1, 1, 1, 1, 1, 1};
  rig.mmio.write(0x70, {ones.data(), 1});
  rig.mmio.write(0x72, {ones.data(), 4});
  rig.mmio.write(0x70, ones);
  CHECK(rig.status() == 0);
}

TEST_CASE("mmio: FEATURES_OK stands only for features that are offered, with VERSION_1") {
  struct Case {
    uint64_t features;
    bool accepted;
  };
  const uint64_t v1 = kVirtioFVersion1;
  const Case cases[] = {
      {v1, true},
      {v1 | 1u << 5 | 1u << 16, true},
      {0, false},  // a legacy driver
      {1u << 5, false},
      {v1 | 1u << 28, false},    // indirect descriptors were not offered
      {v1 | 1u << 29, false},    // nor event indexes
      {v1 | 1ull << 34, false},  // nor packed rings
      {~0ull, false},
  };
  for (const Case& c : cases) {
    CAPTURE(c.features);
    Rig rig;
    rig.accept_features(c.features);
    CHECK(((rig.status() & kVirtioStatusFeaturesOk) != 0) == c.accepted);
    rig.set(0x70, rig.status() | kVirtioStatusDriverOk);
    CHECK(rig.mmio.active() == c.accepted);
    CHECK(((rig.status() & kVirtioStatusDriverOk) != 0) == c.accepted);
  }
}

TEST_CASE("mmio: status bits are only added, zero resets everything, FAILED stops the device") {
  Rig rig;
  rig.start();
  const uint32_t full = 1 | 2 | 4 | 8;
  CHECK(rig.status() == full);
  rig.set(0x70, 1);
  CHECK(rig.status() == full);
  rig.set(0x70, full | 0xffffff00);
  CHECK(rig.status() == full);
  rig.set(0x70, full | kVirtioStatusNeedsReset);  // not the driver's to set
  CHECK(rig.status() == full);
  rig.set(0x20, 0);  // agreed features stay
  CHECK(rig.mmio.active());
  rig.transmit(make_frame(60));
  rig.notify(kTx);
  CHECK(rig.reg(0x60) == kVirtioIsrUsed);
  rig.set(0x64, kVirtioIsrUsed);
  CHECK(rig.reg(0x60) == 0);

  rig.set(0x70, 0);
  CHECK(rig.status() == 0);
  rig.set(0x30, kTx);
  CHECK(rig.reg(0x44) == 0);
  CHECK_FALSE(rig.mmio.active());

  rig.start();
  rig.set(0x70, rig.status() | kVirtioStatusFailed);
  CHECK_FALSE(rig.mmio.active());
  rig.transmit(make_frame(60));
  rig.notify(kTx);
  CHECK(rig.sent.size() == 1);
}

TEST_CASE("mmio: a live queue does not move") {
  Rig rig;
  rig.start();
  rig.place_queue(kTx, 4, 0x50000, 0x52000, 0x53000);
  rig.transmit(make_frame(60));
  rig.notify(kTx);
  CHECK(rig.sent.size() == 1);
  CHECK(rig.used_idx(kTx) == 1);
}

TEST_CASE("mmio: notifications by plain write reach the device and the hook; others are ignored") {
  Rig rig;
  std::vector<uint32_t> hooked;
  rig.mmio.set_notify_hook([&](uint32_t q) { hooked.push_back(q); });
  rig.notify(0);
  CHECK(hooked.empty());
  rig.start();
  CHECK(hooked == std::vector<uint32_t>{0, 1});
  rig.notify(0);
  rig.notify(1);
  rig.notify(2);
  rig.notify(0xffffffff);
  rig.mmio.notify_queue(1);  // by ioeventfd: whoever polls that knows already
  CHECK(hooked == std::vector<uint32_t>{0, 1, 0, 1});
}

TEST_CASE("mmio: a restored device goes on where the captured one was") {
  Rig primary;
  primary.start();
  for (uint16_t i = 0; i < 5; i++) primary.transmit(make_frame(60), i, kBuffers + 0x1000u * i);
  CHECK(primary.net.process_tx(3) == 3);
  primary.offer_receive(2048, 0, kBuffers + 0x8000);
  const std::vector<uint8_t> blob = captured(primary);
  CHECK(captured(primary) == blob);

  Rig standby;
  copy_memory(standby, primary);
  REQUIRE(restore(standby, blob).ok());
  standby.queue_size = 16;
  CHECK(standby.mmio.active());
  CHECK(standby.status() == primary.status());
  CHECK(standby.interrupts == 1);  // the used-buffer interrupt was not acknowledged yet
  CHECK(captured(standby) == blob);

  // Two frames were available at the cut, their notification lost with the primary.
  standby.mmio.kick_all();
  CHECK(standby.sent.size() == 2);
  CHECK(standby.used_idx(kTx) == 5);
  CHECK(standby.interrupts >= 2);
  CHECK(standby.net.rx_ready());
  CHECK(standby.net.deliver(make_frame(80)) == VirtioNet::Delivery::kDelivered);
  CHECK(standby.used_idx(kNetQueueRx) == 1);
  standby.transmit(make_frame(64), 9);
  standby.notify(kTx);
  CHECK(standby.sent.back().size() == 64);
}

TEST_CASE("mmio: interrupts on their way at the cut are given again by kick_all") {
  Rig primary;
  primary.start();
  primary.offer_receive(2048);
  CHECK(primary.net.deliver(make_frame(60), true) == VirtioNet::Delivery::kDelivered);
  const std::vector<uint8_t> blob = captured(primary);  // before signal_rx()
  Rig standby;
  copy_memory(standby, primary);
  REQUIRE(restore(standby, blob).ok());
  standby.mmio.kick_all();
  CHECK(standby.interrupts == 1);
  CHECK(standby.reg(0x60) == kVirtioIsrUsed);
}

TEST_CASE("mmio: a device that needs a reset, and one that never started, restore as they were") {
  Rig broken;
  broken.start();
  broken.offer(kTx, 77);
  broken.notify(kTx);
  CHECK(broken.needs_reset());
  Rig standby;
  copy_memory(standby, broken);
  REQUIRE(restore(standby, captured(broken)).ok());
  CHECK(standby.needs_reset());
  CHECK_FALSE(standby.mmio.active());
  CHECK(standby.interrupts == 1);
  standby.notify(kTx);
  CHECK(standby.sent.empty());

  Rig fresh, other;
  other.start();
  REQUIRE(restore(other, captured(fresh)).ok());
  CHECK(other.status() == 0);
  CHECK_FALSE(other.mmio.active());
  CHECK(other.net.process_tx(1) == 0);
}

TEST_CASE("mmio: a state that cannot be is refused, and the device stays as it was") {
  Rig source;
  source.start();
  const auto state_of = [](const std::vector<uint8_t>& blob, auto* out, StateKind kind) {
    auto reader = StateReader::open(blob);
    REQUIRE(reader.ok());
    const auto bytes = reader.value().find(kind, 0);
    REQUIRE(bytes.size() == sizeof(*out));
    std::memcpy(out, bytes.data(), sizeof(*out));
  };
  VirtioMmioState mmio;
  VirtioNetState net;
  state_of(captured(source), &mmio, StateKind::kVirtioMmio);
  state_of(captured(source), &net, StateKind::kVirtioNet);

  using Change = std::function<void(VirtioMmioState&, VirtioNetState&)>;
  const std::pair<const char*, Change> changes[] = {
      {"version", [](auto& m, auto&) { m.version = 2; }},
      {"device", [](auto& m, auto&) { m.device_id = 2; }},
      {"features offered", [](auto& m, auto&) { m.features_offered ^= 1; }},
      {"features agreed", [](auto& m, auto&) { m.features_driver |= 1; }},
      {"no VERSION_1", [](auto& m, auto&) { m.features_driver = 0; }},
      {"unknown status", [](auto& m, auto&) { m.status |= 16; }},
      {"DRIVER_OK alone", [](auto& m, auto&) { m.status = kVirtioStatusDriverOk; }},
      {"unknown interrupt", [](auto& m, auto&) { m.isr = 4; }},
      {"queue count", [](auto& m, auto&) { m.queue_count = 3; }},
      {"reserved", [](auto& m, auto&) { m.reserved = 1; }},
      {"queue too many", [](auto& m, auto&) { m.queues[2].size = 1; }},
      {"queue size", [](auto& m, auto&) { m.queues[1].size = 24; }},
      {"queue size above the maximum", [](auto& m, auto&) { m.queues[1].size = 512; }},
      {"queue outside memory", [](auto& m, auto&) { m.queues[0].desc_gpa = 1 << 20; }},
      {"queue wraps", [](auto& m, auto&) { m.queues[0].used_gpa = ~0ull - 3; }},
      {"queue unaligned", [](auto& m, auto&) { m.queues[0].avail_gpa |= 1; }},
      {"queue flag", [](auto& m, auto&) { m.queues[0].ready = 2; }},
      {"net version", [](auto&, auto& n) { n.version = 0; }},
      {"net link", [](auto&, auto& n) { n.link_up = 2; }},
      {"net reserved", [](auto&, auto& n) { n.reserved = 1; }},
      {"net source", [](auto&, auto& n) { n.heard_from = 3; }},
      {"net address", [](auto&, auto& n) { n.heard_from = 1; }},
  };
  REQUIRE(restore(source, make_blob(mmio, net)).ok());
  for (const auto& entry : changes) {
    const std::string name = entry.first;
    CAPTURE(name);
    VirtioMmioState bad_mmio = mmio;
    VirtioNetState bad_net = net;
    entry.second(bad_mmio, bad_net);
    Rig rig;
    const std::vector<uint8_t> before = captured(rig);
    const Status status = restore(rig, make_blob(bad_mmio, bad_net));
    REQUIRE_FALSE(status.ok());
    CHECK(std::string(status.error().code) == "FT_ERR_STATE_FORMAT");
    CHECK(captured(rig) == before);
    CHECK(rig.interrupts == 0);
  }
}

TEST_CASE("mmio: a state entry that is missing or has another length is refused") {
  Rig rig;
  StateWriter writer;
  writer.begin();
  const auto none = writer.finish();
  CHECK_FALSE(restore(rig, {none.begin(), none.end()}).ok());
  writer.begin();
  writer.add(StateKind::kVirtioMmio, 0, sizeof(VirtioMmioState) - 1);
  writer.add(StateKind::kVirtioNet, 0, sizeof(VirtioNetState));
  const auto blob = writer.finish();
  CHECK_FALSE(restore(rig, {blob.begin(), blob.end()}).ok());
}

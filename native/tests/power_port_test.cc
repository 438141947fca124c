// The ports by which a guest ends itself: exactly the accesses that real machines take for it.
#include <doctest/doctest.h>

#include <vector>

#include "machine/power.h"

using namespace ft;  // NOLINT: the test is about this namespace

namespace {

struct Ports {
  DeviceBus bus;
  PowerPorts power;
  std::vector<GuestEnd> ends;

  Ports() {
    power.attach(bus);
    power.set_on_end([this](GuestEnd how) { ends.push_back(how); });
  }
  GuestEnd write(uint16_t port, std::vector<uint8_t> bytes) {
    ends.clear();
    bus.port_write(port, bytes);
    return ends.empty() ? GuestEnd::kNone : ends[0];
  }
  uint8_t read(uint16_t port) {
    uint8_t value = 0x5a;
    bus.port_read(port, {&value, 1});
    return value;
  }
};

}  // namespace

TEST_CASE("power: the sleep command with type 0 switches off, whole and at its place only") {
  Ports p;
  CHECK(p.write(0x604, {0x00, 0x20}) == GuestEnd::kPowerOffPort);
  CHECK(p.write(0x604, {0x01, 0x20}) == GuestEnd::kPowerOffPort);  // other bits do not matter
  CHECK(p.write(0x604, {0x00, 0x24}) == GuestEnd::kNone);          // another sleep type
  CHECK(p.write(0x604, {0x00, 0x1c}) == GuestEnd::kNone);          // a type without the command
  CHECK(p.write(0x604, {0x20}) == GuestEnd::kNone);
  CHECK(p.write(0x605, {0x20}) == GuestEnd::kNone);
  CHECK(p.write(0x604, {0x00, 0x20, 0x00, 0x00}) == GuestEnd::kNone);
}

TEST_CASE("power: only the reset pulse of the keyboard controller counts, and it reads as absent") {
  Ports p;
  CHECK(p.write(0x64, {0xfe}) == GuestEnd::kResetKeyboard);
  for (const uint8_t command : {0xaa, 0xff, 0xd1, 0x20, 0x00}) {
    CHECK(p.write(0x64, {command}) == GuestEnd::kNone);
  }
  CHECK(p.read(0x64) == 0xff);
}

TEST_CASE("power: the reset port resets by bit 2, and PCI's neighbouring port does not") {
  Ports p;
  CHECK(p.write(0xcf9, {0x02}) == GuestEnd::kNone);
  CHECK(p.write(0xcf9, {0x06}) == GuestEnd::kResetPort);
  CHECK(p.write(0xcf9, {0x0e}) == GuestEnd::kResetPort);
  CHECK(p.write(0xcf8, {0x00, 0x06, 0x00, 0x80}) == GuestEnd::kNone);
  CHECK(p.read(0xcf9) == 0);
}

// The device bus: an access reaches the device that holds all of it, or nobody.
#include <doctest/doctest.h>

#include <array>
#include <vector>

#include "machine/device_bus.h"

namespace {

struct Probe final : ft::Device {
  struct Seen {
    uint64_t offset;
    size_t bytes;
  };
  std::vector<Seen> reads, writes;
  void read(uint64_t offset, std::span<uint8_t> out) override {
    reads.push_back({offset, out.size()});
    for (uint8_t& byte : out) byte = 0x5a;
  }
  void write(uint64_t offset, std::span<const uint8_t> in) override {
    writes.push_back({offset, in.size()});
  }
};

}  // namespace

TEST_CASE("bus: accesses reach their device with the offset inside its range") {
  ft::DeviceBus bus;
  Probe low, high, port;
  bus.add_mmio(0xd0000000, 0x1000, low);
  bus.add_mmio(0xd0001000, 0x1000, high);
  bus.add_port(0x3f8, 8, port);
  std::array<uint8_t, 4> four = {};
  bus.mmio_read(0xd0000000, four);
  CHECK(four == std::array<uint8_t, 4>{0x5a, 0x5a, 0x5a, 0x5a});
  bus.mmio_write(0xd0001ffc, four);
  bus.port_write(0x3ff, {four.data(), 1});
  REQUIRE(low.reads.size() == 1);
  REQUIRE(high.writes.size() == 1);
  REQUIRE(port.writes.size() == 1);
  CHECK(high.writes[0].offset == 0xffc);
  CHECK(port.writes[0].offset == 7);
  CHECK(bus.facts().reads_unknown == 0);
  CHECK(bus.facts().writes_unknown == 0);
}

TEST_CASE(
    "bus: what no device holds whole reads as 0xff, is ignored when written, and is counted") {
  ft::DeviceBus bus;
  Probe device;
  bus.add_mmio(0x1000, 0x100, device);
  bus.add_port(0x3f8, 8, device);
  const uint64_t nowhere[] = {0, 0xfff, 0x10fd, 0x1100, ~0ull, ~0ull - 3};
  for (const uint64_t gpa : nowhere) {
    CAPTURE(gpa);
    std::array<uint8_t, 4> four = {};
    bus.mmio_read(gpa, four);
    CHECK(four == std::array<uint8_t, 4>{0xff, 0xff, 0xff, 0xff});
    bus.mmio_write(gpa, four);
  }
  std::array<uint8_t, 2> two = {};
  bus.port_read(0x3ff, two);  // one byte inside, one beyond
  CHECK(two == std::array<uint8_t, 2>{0xff, 0xff});
  bus.port_write(0xffff, two);
  CHECK(bus.facts().reads_unknown == 7);
  CHECK(bus.facts().writes_unknown == 7);
  CHECK(device.reads.empty());
  CHECK(device.writes.empty());
}

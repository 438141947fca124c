// Announcement frames byte by byte, and what the TAP says when it cannot be had.
#include <doctest/doctest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "machine/announce.h"
#include "machine/tap.h"

using namespace ft;  // NOLINT: the test is about this namespace

namespace {

constexpr MacAddress kMac = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
constexpr Ipv4Address kIp = {192, 0, 2, 7};

std::vector<uint8_t> expected(uint8_t type_low, uint8_t type_high, uint8_t operation,
                              const Ipv4Address& ip, const MacAddress& target) {
  std::vector<uint8_t> f(6, 0xff);
  f.insert(f.end(), kMac.begin(), kMac.end());
  for (const uint8_t byte : {type_high, type_low}) f.push_back(byte);
  for (const uint8_t byte : {0, 1, 8, 0, 6, 4, 0}) f.push_back(byte);
  f.push_back(operation);
  f.insert(f.end(), kMac.begin(), kMac.end());
  f.insert(f.end(), ip.begin(), ip.end());
  f.insert(f.end(), target.begin(), target.end());
  f.insert(f.end(), ip.begin(), ip.end());
  f.resize(60);
  return f;
}

std::vector<uint8_t> bytes(const AnnounceFrame& frame) {
  return {frame.begin(), frame.end()};
}

}  // namespace

TEST_CASE("announce: gratuitous ARP as request and as reply") {
  CHECK(bytes(gratuitous_arp_request(kMac, kIp)) == expected(0x06, 0x08, 1, kIp, {}));
  const MacAddress all = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  CHECK(bytes(gratuitous_arp_reply(kMac, kIp)) == expected(0x06, 0x08, 2, kIp, all));
}

TEST_CASE("announce: RARP carries the MAC alone") {
  CHECK(bytes(rarp_request(kMac)) == expected(0x35, 0x80, 3, {}, kMac));
}

TEST_CASE("tap: names that no interface can have, and one that is not there") {
  for (const std::string& name :
       {std::string(), std::string("sixteen-letters-"), std::string("a\0b", 3)}) {
    const auto tap = Tap::open(name);
    REQUIRE_FALSE(tap.ok());
    CHECK(std::string(tap.error().code) == "FT_ERR_TAP_NAME");
  }
  const auto tap = Tap::open("no-such-tap");
  REQUIRE_FALSE(tap.ok());
  const std::string code = tap.error().code;
  if (::access("/dev/net/tun", R_OK | W_OK) == 0) {
    CHECK(code == "FT_ERR_TAP_MISSING");
    CHECK(tap.error().message.find("ip tuntap add dev no-such-tap mode tap") != std::string::npos);
  } else {
    CHECK((code == "FT_ERR_TUN_MISSING" || code == "FT_ERR_TAP_PERMISSION"));
  }
}

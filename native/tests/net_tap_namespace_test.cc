// A TAP in another network namespace: found there and only there, and held by one process at a
// time.
#include <doctest/doctest.h>

#include <string>

#include "machine/tap.h"
#include "net_namespace_support.h"

namespace ft {

TEST_CASE("tap: in a network namespace that is not the caller's") {
  const UniqueFd other = make_net_namespace();
  if (!other.valid()) {
    MESSAGE("left out: making a network namespace with a TAP needs root and /dev/net/tun");
    return;
  }
  const std::string path = "/proc/self/fd/" + std::to_string(other.get());
  const auto here = Tap::open("inner0");
  REQUIRE_FALSE(here.ok());
  CHECK(std::string(here.error().code) == "FT_ERR_TAP_MISSING");
  auto tap = Tap::open("inner0", path);
  REQUIRE(tap.ok());
  uint8_t frame[64];
  CHECK(tap.value().read_frame(frame).value() == 0);

  const auto second = Tap::open("inner0", path);
  REQUIRE_FALSE(second.ok());
  CHECK(std::string(second.error().code) == "FT_ERR_TAP_BUSY");
  const auto missing = Tap::open("inner1", path);
  REQUIRE_FALSE(missing.ok());
  CHECK(std::string(missing.error().code) == "FT_ERR_TAP_MISSING");
  CHECK(missing.error().message.find("nsenter --net=" + path) != std::string::npos);
  const auto nowhere = Tap::open("inner0", "no-such-namespace");
  REQUIRE_FALSE(nowhere.ok());
  CHECK(std::string(nowhere.error().code) == "FT_ERR_NETNS_MISSING");
}

}  // namespace ft

// CRC-32C: published check values, the two twins against each other at every length and alignment
// that changes their path, and continuation by seed.
#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string_view>
#include <vector>

#include "core/crc32c.h"
#include "guarded_pages.h"

namespace {

std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::vector<uint8_t> random_bytes(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint8_t> bytes(count);
  for (auto& b : bytes) b = static_cast<uint8_t>(random());
  return bytes;
}

/// One bit at a time, straight from the definition.
uint32_t crc32c_by_bits(std::span<const uint8_t> bytes) {
  uint32_t crc = 0xFFFFFFFFu;
  for (const uint8_t b : bytes) {
    crc ^= b;
    for (int i = 0; i < 8; i++) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0);
  }
  return ~crc;
}

}  // namespace

TEST_CASE("crc32c gives the published check values") {
  std::vector<uint8_t> zeros(32, 0x00);
  std::vector<uint8_t> ones(32, 0xFF);
  std::vector<uint8_t> rising(32);
  for (size_t i = 0; i < 32; i++) rising[i] = static_cast<uint8_t>(i);
  for (auto* crc : {&ft::crc32c, &ft::crc32c_scalar}) {
    CHECK(crc({}, 0) == 0);
    CHECK(crc(bytes_of("123456789"), 0) == 0xE3069283u);
    CHECK(crc(zeros, 0) == 0x8A9136AAu);   // RFC 3720, B.4
    CHECK(crc(ones, 0) == 0x62A8AB43u);    // RFC 3720, B.4
    CHECK(crc(rising, 0) == 0x46DD794Eu);  // RFC 3720, B.4
  }
}

TEST_CASE("crc32c: the instruction, the table and the definition agree at every length") {
  const auto bytes = random_bytes(9000, 1);
  for (size_t length = 0; length <= 2100; length++) {
    const auto part = std::span(bytes).subspan(length % 9, length);
    const uint32_t expected = crc32c_by_bits(part);
    REQUIRE(ft::crc32c(part) == expected);
    REQUIRE(ft::crc32c_scalar(part) == expected);
  }
  for (const size_t length : {4079, 4080, 4081, 4095, 4096, 4097, 5088, 8159, 8160, 8161, 8990}) {
    for (size_t offset = 0; offset < 9; offset++) {
      const auto part = std::span(bytes).subspan(offset, length);
      const uint32_t expected = crc32c_by_bits(part);
      REQUIRE(ft::crc32c(part) == expected);
      REQUIRE(ft::crc32c_scalar(part) == expected);
    }
  }
}

TEST_CASE("crc32c continues from a seed at every split") {
  const auto bytes = random_bytes(5000, 2);
  const uint32_t whole = crc32c_by_bits(bytes);
  for (size_t split = 0; split <= bytes.size(); split += 13) {
    const auto head = std::span(bytes).first(split);
    const auto tail = std::span(bytes).subspan(split);
    REQUIRE(ft::crc32c(tail, ft::crc32c(head)) == whole);
    REQUIRE(ft::crc32c_scalar(tail, ft::crc32c(head)) == whole);
    REQUIRE(ft::crc32c(tail, ft::crc32c_scalar(head)) == whole);
  }
}

TEST_CASE("crc32c finds every single flipped bit of a page") {
  auto page = random_bytes(4096, 3);
  const uint32_t right = ft::crc32c(page);
  for (size_t bit = 0; bit < 4096 * 8; bit++) {
    page[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    REQUIRE(ft::crc32c(page) != right);
    page[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
  }
}

TEST_CASE("crc32c reads nothing outside its bytes") {
  ft::test::GuardedPages guarded(3);
  std::memset(guarded.data(), 0x5a, guarded.size());
  const std::vector<uint8_t> same(guarded.size(), 0x5a);
  for (size_t length = 0; length <= 1100; length++) {
    const uint32_t expected = ft::crc32c_scalar(std::span(same).first(length));
    REQUIRE(ft::crc32c(guarded.span().last(length)) == expected);
    REQUIRE(ft::crc32c(guarded.span().first(length)) == expected);
    REQUIRE(ft::crc32c_scalar(guarded.span().last(length)) == expected);
  }
  CHECK(ft::crc32c(guarded.span()) == ft::crc32c_scalar(same));
}

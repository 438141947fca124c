// The state delta: full and xor, growth and shrinkage, size, and every way in which a delta may be
// wrong; a base is never touched by a delta that is refused.
#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "delta/state_delta.h"
#include "delta_support.h"
#include "guarded_pages.h"

using ft::apply_state_delta;
using ft::encode_state;
using ft::kStateBytesMax;
using ft::kStateDeltaHeaderBytes;
using ft::StateShadow;
using ft::verify_state_delta;
using ft::test::for_each_impl;

namespace {

using Bytes = std::vector<uint8_t>;

Bytes random_blob(size_t length, uint64_t seed) {
  std::mt19937_64 random(seed);
  Bytes blob(length);
  for (auto& b : blob) b = static_cast<uint8_t>(random());
  return blob;
}

Bytes encode(const Bytes& blob, StateShadow& shadow) {
  Bytes out(ft::state_delta_bytes_max(blob.size()));
  out.resize(encode_state(blob, shadow, out.data(), out.size()));
  return out;
}

uint32_t field(const Bytes& delta, size_t index) {
  uint32_t value;
  std::memcpy(&value, &delta[index * 4], 4);
  return value;
}

void set_field(Bytes& delta, size_t index, uint32_t value) {
  std::memcpy(&delta[index * 4], &value, 4);
}

std::string fault_of(const Bytes& delta, size_t base_bytes) {
  auto result = verify_state_delta(delta, base_bytes);
  if (result.ok()) return "";
  CHECK(std::string(result.error().code) == "FT_ERR_STATE_DELTA");
  return result.error().message;
}

bool says(const std::string& message, const char* what) {
  return message.find(what) != std::string::npos;
}

/// A base and a delta with records in two windows that turns it into `next`.
struct Pair {
  Bytes base = random_blob(9000, 40);
  Bytes next = base;
  Bytes delta;
  Pair() {
    next[17] ^= 1;
    next[8999] ^= 0x80;
    next[5000] ^= 3;
    StateShadow shadow;
    encode(base, shadow);
    delta = encode(next, shadow);
  }
};

}  // namespace

TEST_CASE("state delta: the first is full, the next says little") {
  for_each_impl([] {
    StateShadow shadow;
    Bytes blob = random_blob(7000, 1);
    Bytes delta = encode(blob, shadow);
    CHECK(delta.size() == kStateDeltaHeaderBytes + 7000);
    CHECK(field(delta, 0) == 7000);
    CHECK(field(delta, 1) == 0);
    CHECK(field(delta, 2) == 0);
    Bytes base;
    REQUIRE(apply_state_delta(delta, base).ok());
    CHECK(base == blob);

    blob[100] ^= 1;
    blob[6999] ^= 1;
    delta = encode(blob, shadow);
    CHECK(delta.size() == kStateDeltaHeaderBytes + 2 * (8 + 17));
    CHECK(field(delta, 1) == 1);
    CHECK(field(delta, 2) == 7000);
    REQUIRE(apply_state_delta(delta, base).ok());
    CHECK(base == blob);
  });
}

TEST_CASE("state delta: an unchanged blob is a header alone") {
  StateShadow shadow;
  const Bytes blob = random_blob(5000, 2);
  encode(blob, shadow);
  const Bytes delta = encode(blob, shadow);
  CHECK(delta.size() == kStateDeltaHeaderBytes);
  Bytes base = blob;
  REQUIRE(apply_state_delta(delta, base).ok());
  CHECK(base == blob);
}

TEST_CASE("state delta: reset makes the next one full") {
  StateShadow shadow;
  const Bytes blob = random_blob(5000, 3);
  encode(blob, shadow);
  CHECK(shadow.length() == 5000);
  shadow.reset();
  const Bytes delta = encode(blob, shadow);
  CHECK(field(delta, 1) == 0);
  Bytes base;
  REQUIRE(apply_state_delta(delta, base).ok());
  CHECK(base == blob);
}

TEST_CASE("state delta: a blob changed throughout is sent in full, never larger") {
  StateShadow shadow;
  Bytes base;
  for (uint64_t seed = 0; seed < 5; seed++) {
    const Bytes blob = random_blob(5003, seed);
    const Bytes delta = encode(blob, shadow);
    CHECK(field(delta, 1) == 0);
    CHECK(delta.size() == ft::state_delta_bytes_max(blob.size()));
    REQUIRE(apply_state_delta(delta, base).ok());
    CHECK(base == blob);
  }
}

TEST_CASE("state delta: blobs that grow, shrink, empty and change follow exactly") {
  for_each_impl([] {
    std::mt19937_64 random(4);
    StateShadow shadow;
    Bytes blob;
    Bytes base;
    size_t full = 0;
    for (int round = 0; round < 4000; round++) {
      const uint64_t what = random() % 8;
      if (what == 0) blob.resize(random() % 13000);
      if (what == 1) blob.resize(blob.size() + random() % 40, 0xCD);
      if (what == 2) blob.resize(blob.size() - std::min<size_t>(blob.size(), random() % 40));
      if (what == 3 && !blob.empty())
        std::fill(blob.begin() + random() % blob.size(), blob.end(), 0);
      if (what == 4 && random() % 8 == 0) blob.clear();
      for (size_t i = random() % 60; i > 0 && !blob.empty(); i--) {
        blob[random() % blob.size()] = static_cast<uint8_t>(random());
      }
      const Bytes delta = encode(blob, shadow);
      REQUIRE(delta.size() <= ft::state_delta_bytes_max(blob.size()));
      REQUIRE(apply_state_delta(delta, base).ok());
      REQUIRE(base == blob);
      full += field(delta, 1) == 0;
    }
    CHECK(full > 10);
    CHECK(full < 2000);
  });
}

TEST_CASE("state delta: what was cut off does not come back when the blob grows again") {
  StateShadow shadow;
  Bytes base;
  Bytes blob(9000, 0x11);
  REQUIRE(apply_state_delta(encode(blob, shadow), base).ok());
  blob.resize(4500);
  REQUIRE(apply_state_delta(encode(blob, shadow), base).ok());
  blob.resize(9000, 0);
  const Bytes delta = encode(blob, shadow);
  CHECK(field(delta, 1) == 1);
  REQUIRE(apply_state_delta(delta, base).ok());
  CHECK(base == blob);
}

TEST_CASE("state delta: scalar and AVX2 write the same bytes") {
  if (!ft::set_delta_impl(ft::DeltaImpl::kAvx2)) return;
  std::mt19937_64 random(5);
  StateShadow scalar_shadow;
  StateShadow vector_shadow;
  Bytes blob = random_blob(10001, 5);
  for (int round = 0; round < 500; round++) {
    for (size_t i = random() % 200; i > 0; i--) blob[random() % blob.size()] ^= 0x42;
    ft::set_delta_impl(ft::DeltaImpl::kScalar);
    const Bytes scalar = encode(blob, scalar_shadow);
    ft::set_delta_impl(ft::DeltaImpl::kAvx2);
    REQUIRE(scalar == encode(blob, vector_shadow));
  }
}

TEST_CASE("state delta: not a byte outside the room") {
  ft::test::GuardedPages room(4);
  StateShadow shadow;
  std::mt19937_64 random(6);
  Bytes base;
  for (int round = 0; round < 500; round++) {
    Bytes blob = random_blob(1 + random() % 12000, round % 7);
    for (size_t i = random() % 100; i > 0; i--) blob[random() % blob.size()] ^= 0x42;
    const size_t room_bytes = ft::state_delta_bytes_max(blob.size());
    uint8_t* out = room.data() + room.size() - room_bytes;
    const size_t made = encode_state(blob, shadow, out, room_bytes);
    REQUIRE(apply_state_delta({out, made}, base).ok());
    REQUIRE(base == blob);
  }
}

TEST_CASE("state delta: malformed headers are refused by name") {
  const Pair pair;
  const size_t base = pair.base.size();
  CHECK(fault_of(pair.delta, base).empty());
  Bytes bad = pair.delta;
  set_field(bad, 0, kStateBytesMax + 1);
  CHECK(says(fault_of(bad, base), "larger than 1048576"));
  bad = pair.delta;
  set_field(bad, 1, 2);
  CHECK(says(fault_of(bad, base), "flags 2 are unknown"));
  bad = pair.delta;
  set_field(bad, 2, 0);
  CHECK(says(fault_of(bad, base), "made from a blob of 0 bytes"));
  CHECK(says(fault_of(pair.delta, 0), "but the blob here has 0"));
  CHECK(says(fault_of(pair.delta, base - 1), "made from a blob of 9000"));
  bad = pair.delta;
  set_field(bad, 0, 4096);
  CHECK(says(fault_of(bad, base), "beyond the end of memory"));

  StateShadow shadow;
  Bytes full = encode(pair.base, shadow);
  CHECK(fault_of(full, 0).empty());
  CHECK(fault_of(full, 123).empty());
  Bytes longer = full;
  longer.push_back(0);
  CHECK(says(fault_of(longer, 0), "a full blob of 9000 bytes comes with 9001"));
  set_field(full, 2, 5);
  CHECK(says(fault_of(full, 5), "a full blob names a base"));
}

TEST_CASE("state delta: truncation at every byte and a byte too many are refused") {
  const Pair pair;
  StateShadow shadow;
  const Bytes full = encode(pair.base, shadow);
  ft::test::GuardedPages room(4);
  for (const Bytes* delta : {&pair.delta, &full}) {
    for (size_t length = 0; length < delta->size(); length++) {
      const auto part = room.place_at_end(std::span(*delta).first(length));
      Bytes base = pair.base;
      // A cut between two records is well formed; then the checksum of the outcome refuses it.
      REQUIRE_FALSE(apply_state_delta(part, base).ok());
      REQUIRE(base == pair.base);
    }
    Bytes longer = *delta;
    longer.push_back(0);
    Bytes base = pair.base;
    CHECK_FALSE(apply_state_delta(longer, base).ok());
    CHECK(base == pair.base);
  }
}

TEST_CASE("state delta: every flipped bit is refused and leaves the base alone") {
  const Pair pair;
  for (size_t bit = 0; bit < pair.delta.size() * 8; bit++) {
    Bytes bad = pair.delta;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    Bytes base = pair.base;
    const auto status = apply_state_delta(bad, base);
    CAPTURE(bit);
    REQUIRE_FALSE(status.ok());
    REQUIRE(base == pair.base);
  }
}

TEST_CASE("state delta: another base of the same length is refused") {
  const Pair pair;
  Bytes other = pair.base;
  other[3000] ^= 1;
  const Bytes before = other;
  const auto status = apply_state_delta(pair.delta, other);
  REQUIRE_FALSE(status.ok());
  CHECK(says(status.error().message, "the bases differ"));
  CHECK(other == before);
  Bytes right = pair.base;
  REQUIRE(apply_state_delta(pair.delta, right).ok());
  CHECK(right == pair.next);
  // Applied twice, the outcome is not what the sender had.
  CHECK_FALSE(apply_state_delta(pair.delta, right).ok());
  CHECK(right == pair.next);
}

TEST_CASE("state delta: the largest blob there may be") {
  StateShadow shadow;
  Bytes base;
  Bytes blob = random_blob(kStateBytesMax, 7);
  REQUIRE(apply_state_delta(encode(blob, shadow), base).ok());
  blob[kStateBytesMax - 1] ^= 1;
  const Bytes delta = encode(blob, shadow);
  CHECK(delta.size() == kStateDeltaHeaderBytes + 25);
  REQUIRE(apply_state_delta(delta, base).ok());
  CHECK(base == blob);
}

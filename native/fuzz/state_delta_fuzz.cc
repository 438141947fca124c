// Hostile state deltas: refused with the base untouched, or applied to a blob whose checksum is the
// sender's.
//
//   u16    length of the base (its bytes are fixed)
//   byte   even: the rest is a delta as it stands, but for a checksum put right (so that the
//          fuzzer gets past it); odd: a delta that the encoder wrote, then damaged
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "core/crc32c.h"
#include "delta/page_delta.h"
#include "delta/state_delta.h"
#include "fuzz_input.h"
#include "tests/guarded_pages.h"

namespace {

constexpr size_t kRoomPages = 24;
constexpr size_t kCrcAt = 12;

using Bytes = std::vector<uint8_t>;

Bytes make_base(size_t length) {
  Bytes base(length);
  for (size_t i = 0; i < length; i++) base[i] = static_cast<uint8_t>(i * 31 + i / 256);
  return base;
}

/// Applies `delta` from the upper end of guarded room. Returns whether it was accepted.
bool apply_delta(std::span<const uint8_t> delta, const Bytes& before) {
  static const ft::test::GuardedPages room(kRoomPages);
  if (delta.size() > room.size()) return false;
  const auto placed = room.place_at_end(delta);
  Bytes base = before;
  const auto status = ft::apply_state_delta(placed, base);
  if (!status.ok()) {
    FT_CHECK(base == before, "a refused delta changed the base");
    return false;
  }
  uint32_t new_bytes;
  uint32_t crc;
  std::memcpy(&new_bytes, placed.data(), sizeof new_bytes);
  std::memcpy(&crc, placed.data() + kCrcAt, sizeof crc);
  FT_CHECK(base.size() == new_bytes, "the outcome is not as long as the delta said");
  FT_CHECK(ft::crc32c(base) == crc, "the outcome does not have the sender's checksum");
  return true;
}

/// The page records alone, applied to a padded base, give the checksum that lets a delta through.
void put_checksum_right(Bytes& delta, const Bytes& base) {
  if (delta.size() < ft::kStateDeltaHeaderBytes) return;
  auto facts = ft::verify_state_delta(delta, base.size());
  if (!facts.ok()) return;
  // A wrong checksum is refused with the base kept, so the right one is found by doing the work of
  // the decoder in the plainest way.
  const auto body = std::span<const uint8_t>(delta).subspan(ft::kStateDeltaHeaderBytes);
  Bytes outcome(body.begin(), body.end());
  if (!facts.value().full) {
    outcome = base;
    const size_t padded = (facts.value().new_bytes + 4095) / 4096 * 4096;
    outcome.resize(std::max(outcome.size(), padded), 0);
    ft::apply_records(body, std::span(outcome).first(padded));
    outcome.resize(facts.value().new_bytes);
  }
  const uint32_t crc = ft::crc32c(outcome);
  std::memcpy(delta.data() + kCrcAt, &crc, sizeof crc);
  FT_CHECK(apply_delta(delta, base) || delta.size() > kRoomPages * 4096,
           "a right delta was refused");
}

Bytes written_delta(const Bytes& base) {
  ft::StateShadow shadow;
  Bytes out(ft::state_delta_bytes_max(base.size() + 100));
  ft::encode_state(base, shadow, out.data(), out.size());
  Bytes next = base;
  for (size_t at = 5; at < next.size(); at += 900) next[at] ^= 0x77;
  next.resize(next.size() + base.size() % 100, 0x21);
  out.resize(ft::encode_state(next, shadow, out.data(), out.size()));
  FT_CHECK(apply_delta(out, base), "a delta as written was refused");
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  ft::fuzz::Input input(data, bytes);
  const Bytes base = make_base(input.number<uint16_t>() % 12289);
  if ((input.number<uint8_t>() & 1) == 0) {
    const auto rest = input.rest();
    Bytes delta(rest.begin(), rest.end());
    if (delta.size() >= ft::kStateDeltaHeaderBytes) {
      const auto base_bytes = static_cast<uint32_t>(delta[4] == 1 ? base.size() : 0);
      std::memcpy(delta.data() + 8, &base_bytes, sizeof base_bytes);
    }
    apply_delta(delta, base);
    put_checksum_right(delta, base);
    return 0;
  }
  Bytes damaged = written_delta(base);
  const Bytes written = damaged;
  while (!input.empty()) {
    const size_t at = input.number<uint16_t>() % (damaged.size() + 16);
    const auto mask = input.number<uint8_t>();
    if (at < damaged.size()) {
      damaged[at] ^= mask;
    } else if (damaged.size() > mask) {
      damaged.resize(damaged.size() - mask);
    }
  }
  apply_delta(damaged, base);
  return 0;
}

// What the delta tests share: pages as values, random changes of every size, and a loop over the
// implementations that this CPU can run.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "delta/page_delta.h"

namespace ft::test {

using Page = std::array<uint8_t, kPageBytes>;

struct Record {
  PageKind kind;
  std::vector<uint8_t> bytes;
};

/// Runs `body` once per implementation and leaves the CPU's own choice behind.
template <typename F>
void for_each_impl(F&& body) {
  const DeltaImpl chosen = delta_impl();
  for (const DeltaImpl impl : {DeltaImpl::kScalar, DeltaImpl::kAvx2}) {
    if (!set_delta_impl(impl)) continue;
    CAPTURE(static_cast<int>(impl));
    body();
  }
  set_delta_impl(chosen);
}

inline Page random_page(uint64_t seed) {
  std::mt19937_64 random(seed);
  Page page;
  for (size_t at = 0; at < kPageBytes; at += 8) {
    const uint64_t word = random();
    std::memcpy(page.data() + at, &word, 8);
  }
  return page;
}

inline Record encode(uint32_t gfn, const Page& page, Page& shadow, bool force_raw = false) {
  std::vector<uint8_t> out(kRecordBytesMax);
  const EncodedPage made = encode_page(gfn, page.data(), shadow.data(), out.data(), force_raw);
  out.resize(made.bytes);
  return {made.kind, std::move(out)};
}

/// Changes a page at random: not at all, a byte, some words, a run, everything, or to zero.
inline void mutate(Page& page, std::mt19937_64& random) {
  switch (random() % 8) {
    case 0:
      return;
    case 1:
      page[random() % kPageBytes] ^= static_cast<uint8_t>(1 + random() % 255);
      return;
    case 2:
    case 3: {
      const size_t words = random() % 600;
      for (size_t i = 0; i < words; i++) page[random() % kPageBytes] ^= 0x55;
      return;
    }
    case 4: {
      const size_t from = random() % kPageBytes;
      const size_t length = random() % (kPageBytes - from + 1);
      for (size_t i = 0; i < length; i++) page[from + i] = static_cast<uint8_t>(random());
      return;
    }
    case 5: {
      const size_t from = random() % kPageBytes;
      std::memset(page.data() + from, 0, random() % (kPageBytes - from + 1));
      return;
    }
    case 6:
      page = random_page(random());
      return;
    default:
      page.fill(0);
  }
}

struct ByteRange {
  const uint8_t* from;
  const uint8_t* to;
};

inline bool all_bytes(ByteRange range, uint8_t value) {
  return std::all_of(range.from, range.to, [value](uint8_t b) { return b == value; });
}

}  // namespace ft::test

// The comparison of a page with its shadow in AVX2, in two steps over the same bytes:
//
//   1. which lines changed     page ─┐
//                                    xor ──▶ any bit? ──▶ bit i of a 64-bit map, without branches
//                            shadow ─┘
//   2. each changed line       word mask from compare + movemask; changed words packed to the front
//                              by a permutation chosen by the mask; the line stored to the shadow
//
// Which lines changed is not predictable: a branch per line would cost more than the comparison.
// The second step finds its lines in the L1 cache.
//
// Only these functions are compiled for AVX2 (target attribute); they are called only where CPUID
// offers it.
#include <immintrin.h>

#include <array>

#include "delta/page_diff.h"

#define FT_AVX2 __attribute__((target("avx2,popcnt")))

namespace ft::delta {
namespace {

struct alignas(32) LaneOrder {
  uint32_t lane[8];
};

/// For each mask of four 64-bit words, the 32-bit lanes of the set words, packed to the front.
constexpr std::array<LaneOrder, 16> make_pack_orders() {
  std::array<LaneOrder, 16> orders{};
  for (uint32_t mask = 0; mask < 16; mask++) {
    uint32_t at = 0;
    for (uint32_t word = 0; word < 4; word++) {
      if ((mask >> word & 1) == 0) continue;
      orders[mask].lane[at++] = 2 * word;
      orders[mask].lane[at++] = 2 * word + 1;
    }
  }
  return orders;
}

constexpr std::array<LaneOrder, 16> kPackOrders = make_pack_orders();

FT_AVX2 inline __m256i load(const uint8_t* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

FT_AVX2 inline void store(uint8_t* p, __m256i v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}

FT_AVX2 inline __m256i load_xor(const uint8_t* a, const uint8_t* b) {
  return _mm256_xor_si256(load(a), load(b));
}

/// Bit i: 64-bit word i of `v` is not zero.
FT_AVX2 inline uint32_t word_mask(__m256i v) {
  const __m256i zero_words = _mm256_cmpeq_epi64(v, _mm256_setzero_si256());
  return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_castsi256_pd(zero_words))) ^ 0xfu;
}

/// Writes the words of `v` that `mask` names to `out`, packed (32 bytes are always written).
FT_AVX2 inline void store_packed(uint8_t* out, __m256i v, uint32_t mask) {
  const __m256i order = _mm256_load_si256(reinterpret_cast<const __m256i*>(&kPackOrders[mask]));
  store(out, _mm256_permutevar8x32_epi32(v, order));
}

/// Bit i: line i of the page differs. No branches: which lines changed is not predictable.
FT_AVX2 inline uint64_t changed_lines(const uint8_t* page, const uint8_t* shadow) {
  uint64_t lines = 0;
  for (size_t line = 0; line < kLines; line++) {
    const size_t at = line * kLineBytes;
    const __m256i change = _mm256_or_si256(load_xor(page + at, shadow + at),
                                           load_xor(page + at + 32, shadow + at + 32));
    lines |= static_cast<uint64_t>(_mm256_testz_si256(change, change) == 0) << line;
  }
  return lines;
}

}  // namespace

FT_AVX2 void diff_page_avx2(const uint8_t* page, uint8_t* shadow, PageDiff* diff) {
  uint64_t line_mask = 0;
  uint32_t lines = 0;
  uint32_t words = 0;
  __m256i content = _mm256_setzero_si256();
  for (uint64_t todo = changed_lines(page, shadow); todo != 0; todo &= todo - 1) {
    const auto line = static_cast<size_t>(__builtin_ctzll(todo));
    const size_t at = line * kLineBytes;
    __m256i low = load(page + at);
    __m256i high = load(page + at + 32);
    // As read_once(): what is XORed and what the shadow gets must be the same words.
    __asm__ volatile("" : "+x"(low), "+x"(high));
    const __m256i low_xor = _mm256_xor_si256(low, load(shadow + at));
    const __m256i high_xor = _mm256_xor_si256(high, load(shadow + at + 32));
    const uint32_t low_mask = word_mask(low_xor);
    const uint32_t high_mask = word_mask(high_xor);
    const uint32_t mask = low_mask | high_mask << 4;
    const uint32_t changed = mask != 0 ? 1 : 0;
    store_packed(diff->xor_words + words * kWordBytes, low_xor, low_mask);
    words += static_cast<uint32_t>(__builtin_popcount(low_mask));
    store_packed(diff->xor_words + words * kWordBytes, high_xor, high_mask);
    words += static_cast<uint32_t>(__builtin_popcount(high_mask));
    diff->word_masks[lines] = static_cast<uint8_t>(mask);
    lines += changed;
    line_mask |= static_cast<uint64_t>(changed) << line;
    content = _mm256_or_si256(content, _mm256_or_si256(low, high));
    store(shadow + at, low);
    store(shadow + at + 32, high);
  }
  diff->line_mask = line_mask;
  diff->lines = lines;
  diff->words = words;
  diff->maybe_zero = _mm256_testz_si256(content, content) != 0;
}

FT_AVX2 bool page_is_zero_avx2(const uint8_t* page) {
  for (size_t at = 0; at < kPageBytes; at += 2 * kLineBytes) {
    const __m256i a = _mm256_or_si256(load(page + at), load(page + at + 32));
    const __m256i b = _mm256_or_si256(load(page + at + 64), load(page + at + 96));
    const __m256i both = _mm256_or_si256(a, b);
    if (_mm256_testz_si256(both, both) == 0) return false;
  }
  return true;
}

FT_AVX2 uint32_t lines_with_data_avx2(const uint8_t* page) {
  uint32_t lines = 0;
  for (size_t at = 0; at < kPageBytes; at += kLineBytes) {
    const __m256i line = _mm256_or_si256(load(page + at), load(page + at + 32));
    lines += static_cast<uint32_t>(_mm256_testz_si256(line, line) == 0);
  }
  return lines;
}

}  // namespace ft::delta

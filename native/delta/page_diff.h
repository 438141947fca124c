// What one pass over a page and its shadow finds, before it becomes a record. Internal to delta/:
// the scalar and the AVX2 pass both fill a PageDiff, and the same code turns it into bytes, so the
// two can differ only in how they compare.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "delta/page_delta.h"

namespace ft::delta {

inline constexpr size_t kLineBytes = 64;
inline constexpr size_t kLines = kPageBytes / kLineBytes;
inline constexpr size_t kWordBytes = 8;
inline constexpr size_t kWordsPerLine = kLineBytes / kWordBytes;
/// A 256-bit store may write up to three words that do not count.
inline constexpr size_t kStoreSlackBytes = 32;

/// The changed words of one page. Only the first `lines` masks and `words` XOR words are set;
/// the arrays are left uninitialised on purpose (this lives on the stack once per page).
struct PageDiff {
  uint64_t line_mask;
  uint32_t lines;
  uint32_t words;
  /// False only when a changed line holds a byte that is not zero; the page itself decides then.
  bool maybe_zero;
  uint8_t word_masks[kLines];
  uint8_t xor_words[kPageBytes + kStoreSlackBytes];
};

/// Compares `page` with `shadow` (4096 bytes each), fills `diff` and brings `shadow` up to date.
/// What was XORed is what the shadow then holds, even when `page` changes during the call.
void diff_page_scalar(const uint8_t* page, uint8_t* shadow, PageDiff* diff);
void diff_page_avx2(const uint8_t* page, uint8_t* shadow, PageDiff* diff);

bool page_is_zero_scalar(const uint8_t* page);
bool page_is_zero_avx2(const uint8_t* page);

uint32_t lines_with_data_scalar(const uint8_t* page);
uint32_t lines_with_data_avx2(const uint8_t* page);

/// Makes the compiler keep `value` as it was read: a page may be guest memory that a vCPU writes
/// meanwhile, and a second load of the same word could give another answer.
inline void read_once(uint64_t& value) {
  __asm__ volatile("" : "+r"(value));
}

inline uint64_t load_u64(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

inline void store_u64(uint8_t* p, uint64_t v) {
  std::memcpy(p, &v, sizeof v);
}

}  // namespace ft::delta

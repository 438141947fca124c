// CRC-32C in two twins: a table (eight bytes a step) and the SSE4.2 instruction.
//
// The crc32 instruction has a latency of three cycles and a throughput of one, so one running CRC
// uses a third of what the CPU can do. Long inputs are therefore cut into three lanes that run at
// once and are joined afterwards:
//
//   ┌──── lane A ────┬──── lane B ────┬──── lane C ────┐ rest
//   │ state → a      │ 0 → b          │ 0 → c          │
//   └────────────────┴────────────────┴────────────────┘
//   joined = shift(shift(a) xor b) xor c      shift: append one lane of zero bytes
//
// Appending n zero bytes multiplies the CRC register by x^(8n) modulo the polynomial, which is
// linear, so four 256-entry tables for each lane length do it in four loads.
#include "core/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace ft {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78u;  // reflected: bit 31 is x^0

// Lane lengths such that three lanes fill a 4,096-byte page, or 1 KiB, but for 16 bytes.
constexpr size_t kLongLaneBytes = 1360;
constexpr size_t kShortLaneBytes = 336;

using Table = std::array<uint32_t, 256>;
using SliceTables = std::array<Table, 8>;
using ShiftTables = std::array<Table, 4>;

/// Tables for eight bytes a step: [k][b] is the CRC of byte b followed by k zero bytes.
constexpr SliceTables make_slice_tables() {
  SliceTables t{};
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t crc = b;
    for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    t[0][b] = crc;
  }
  for (size_t k = 1; k < 8; k++) {
    for (size_t b = 0; b < 256; b++) t[k][b] = (t[k - 1][b] >> 8) ^ t[0][t[k - 1][b] & 0xff];
  }
  return t;
}

/// a × b modulo the polynomial, both reflected.
constexpr uint32_t multiply(uint32_t a, uint32_t b) {
  uint32_t product = 0;
  for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    if ((a & bit) != 0) product ^= b;
    b = (b >> 1) ^ ((b & 1) != 0 ? kPolynomial : 0);
  }
  return product;
}

/// x^(8 × bytes) modulo the polynomial, by squaring.
constexpr uint32_t power_of_x8(size_t bytes) {
  uint32_t result = 1u << 31;  // x^0
  uint32_t square = 1u << 23;  // x^8
  for (; bytes != 0; bytes >>= 1) {
    if ((bytes & 1) != 0) result = multiply(result, square);
    square = multiply(square, square);
  }
  return result;
}

constexpr ShiftTables make_shift_tables(size_t bytes) {
  ShiftTables t{};
  const uint32_t factor = power_of_x8(bytes);
  for (uint32_t k = 0; k < 4; k++) {
    for (uint32_t b = 0; b < 256; b++) t[k][b] = multiply(factor, b << (8 * k));
  }
  return t;
}

constexpr SliceTables kSlice = make_slice_tables();
constexpr ShiftTables kLongShift = make_shift_tables(kLongLaneBytes);
constexpr ShiftTables kShortShift = make_shift_tables(kShortLaneBytes);

inline uint32_t shift(const ShiftTables& t, uint64_t crc) {
  return t[0][crc & 0xff] ^ t[1][(crc >> 8) & 0xff] ^ t[2][(crc >> 16) & 0xff] ^
         t[3][(crc >> 24) & 0xff];
}

inline uint64_t load_u64(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

/// Runs three lanes of kLaneBytes each from `p` and joins them with the register `crc`.
template <size_t kLaneBytes>
__attribute__((target("sse4.2"))) inline uint64_t three_lanes(const uint8_t* p, uint64_t crc,
                                                              const ShiftTables& tables) {
  static_assert(kLaneBytes % 8 == 0);
  uint64_t b = 0;
  uint64_t c = 0;
  for (size_t i = 0; i < kLaneBytes; i += 8) {
    crc = _mm_crc32_u64(crc, load_u64(p + i));
    b = _mm_crc32_u64(b, load_u64(p + kLaneBytes + i));
    c = _mm_crc32_u64(c, load_u64(p + 2 * kLaneBytes + i));
  }
  return shift(tables, shift(tables, crc) ^ b) ^ c;
}

__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(std::span<const uint8_t> bytes,
                                                        uint32_t seed) {
  const uint8_t* p = bytes.data();
  size_t left = bytes.size();
  uint64_t crc = static_cast<uint32_t>(~seed);
  for (; left >= 3 * kLongLaneBytes; p += 3 * kLongLaneBytes, left -= 3 * kLongLaneBytes) {
    crc = three_lanes<kLongLaneBytes>(p, crc, kLongShift);
  }
  for (; left >= 3 * kShortLaneBytes; p += 3 * kShortLaneBytes, left -= 3 * kShortLaneBytes) {
    crc = three_lanes<kShortLaneBytes>(p, crc, kShortShift);
  }
  for (; left >= 8; p += 8, left -= 8) crc = _mm_crc32_u64(crc, load_u64(p));
  uint32_t narrow = static_cast<uint32_t>(crc);
  for (; left > 0; p++, left--) narrow = _mm_crc32_u8(narrow, *p);
  return ~narrow;
}

}  // namespace

uint32_t crc32c_scalar(std::span<const uint8_t> bytes, uint32_t seed) {
  const uint8_t* p = bytes.data();
  size_t left = bytes.size();
  uint32_t crc = ~seed;
  for (; left >= 8; p += 8, left -= 8) {
    const uint64_t v = load_u64(p) ^ crc;
    crc = kSlice[7][v & 0xff] ^ kSlice[6][(v >> 8) & 0xff] ^ kSlice[5][(v >> 16) & 0xff] ^
          kSlice[4][(v >> 24) & 0xff] ^ kSlice[3][(v >> 32) & 0xff] ^ kSlice[2][(v >> 40) & 0xff] ^
          kSlice[1][(v >> 48) & 0xff] ^ kSlice[0][v >> 56];
  }
  for (; left > 0; p++, left--) crc = (crc >> 8) ^ kSlice[0][(crc ^ *p) & 0xff];
  return ~crc;
}

uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t seed) {
  static const bool has_sse42 = __builtin_cpu_supports("sse4.2") != 0;
  return has_sse42 ? crc32c_sse42(bytes, seed) : crc32c_scalar(bytes, seed);
}

}  // namespace ft

// The page delta: how one 4,096-byte page that changed since the standby last saw it is written.
//
//   record  ┌──────────┬──────┬──────┬────────┬───────────────┐
//           │ gfn  u32 │ kind │ zero │ len u16│ payload (len) │      little-endian
//           │          │  u8  │  u8  │        │               │
//           └──────────┴──────┴──────┴────────┴───────────────┘
//   kind 1  zero        len 0                    the page is all zero bytes
//   kind 2  raw         len 4096                 the page itself
//   kind 3  sparseXor   len 17…4095              changed 64-bit words only:
//             lineMask u64     bit i: line i (64 bytes) has a change; never 0
//             wordMask u8 × popcount(lineMask)   bit j: word j of the line changed; never 0
//             xor u64 × Σ popcount(wordMask)     old XOR new
//   An unchanged page has no record: the encoder writes nothing. A page that is zero and whose
//   shadow is zero too is unchanged. A page of which a sparse record would not be smaller than the
//   page goes raw. Two records of one gfn in a batch are applied in their order.
//
// The decoder trusts nothing: every record is verified whole before a byte of a page is written,
// and no content can make it write outside the page that the record names.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/result.h"

namespace ft {

inline constexpr size_t kPageBytes = 4096;
inline constexpr size_t kRecordHeaderBytes = 8;
/// The most bytes that one page can take: a raw record. Encoders need this much room.
inline constexpr size_t kRecordBytesMax = kRecordHeaderBytes + kPageBytes;

enum class PageKind : uint8_t { kUnchanged = 0, kZero = 1, kRaw = 2, kSparseXor = 3 };

struct EncodedPage {
  PageKind kind;
  size_t bytes;  // record bytes written to `out`, 0 for kUnchanged
};

/// Writes the record that turns `shadow` into `page`, and copies `page` over `shadow`.
/// `page` and `shadow` are 4096 bytes each (any alignment), not overlapping; `out` has room for
/// kRecordBytesMax bytes. With `force_raw` the page is written raw whatever the shadow says (used
/// to heal a page whose copy on the standby is known to differ). `page` may be live guest memory
/// that a vCPU writes during the call: each word is then the old or the new one, and the record
/// still says exactly what the shadow holds afterwards. Any thread, one caller per shadow.
EncodedPage encode_page(uint32_t gfn, const uint8_t* page, uint8_t* shadow, uint8_t* out,
                        bool force_raw = false);

/// Writes the record of a page whose copy on the standby is no shadow's: zero where `peer_zero`,
/// otherwise not known, and then the record stands alone (zero or raw). Keeps no copy; a page that
/// is dense goes raw even where a sparse record would be a little smaller. `page` may be live guest
/// memory: the record then holds each word as it was at some moment of the call. Any thread.
EncodedPage encode_fresh_page(uint32_t gfn, const uint8_t* page, bool peer_zero, uint8_t* out);

/// What a verified batch of records holds.
struct BatchFacts {
  uint32_t records = 0;
  uint32_t zero = 0;
  uint32_t raw = 0;
  uint32_t sparse = 0;
};

/// Checks a run of records that must fill `bytes` exactly: kinds, lengths, masks, and every gfn
/// below `gfn_limit`. Writes nothing. Errors: FT_ERR_DELTA with the offset and what is wrong.
Result<BatchFacts> verify_records(std::span<const uint8_t> bytes, uint64_t gfn_limit);

/// Applies a run of records that verify_records accepted to `memory` (gfn_limit × 4096 bytes).
/// Precondition: verified with a gfn_limit of at most memory.size() / 4096; a violation found
/// while applying stops the process. Returns how many records there were.
uint32_t apply_records(std::span<const uint8_t> bytes, std::span<uint8_t> memory);

/// Applies the first record of `bytes`, likewise; returns its length in bytes.
size_t apply_record(std::span<const uint8_t> bytes, std::span<uint8_t> memory);
/// The page that the first record of `bytes` (verified) is about.
uint32_t record_gfn(std::span<const uint8_t> bytes);

/// Raw records of neighbouring pages, one behind the other: page i lies at
/// i × kRecordBytesMax + kRecordHeaderBytes.
struct RawRun {
  uint32_t gfn = 0;
  uint32_t pages = 0;
};
/// The run with which `bytes` (verified) begins, no longer than `pages_max`; empty when the first
/// record is not raw.
RawRun leading_raw_run(std::span<const uint8_t> bytes, uint32_t pages_max);

/// Which implementation of the comparison encode_page uses; chosen once from CPUID.
enum class DeltaImpl : uint8_t { kScalar, kAvx2 };
DeltaImpl delta_impl();
/// For tests and benchmarks: forces one. Returns false when the CPU cannot run it.
bool set_delta_impl(DeltaImpl impl);

/// True when all 4096 bytes are zero.
bool page_is_zero(const uint8_t* page);
/// How many of a page's 64 lines of 64 bytes hold a byte that is not zero.
uint32_t lines_with_data(const uint8_t* page);

}  // namespace ft

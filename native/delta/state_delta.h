// The state delta: how a state blob (vCPUs, chips, devices; 5–10 KiB) is written against the last
// one sent. Consecutive blobs differ in few words, so a delta is a fraction of the blob.
//
//   delta  ┌──────────────┬───────────┬───────────────┬──────────────┬──────────────┐
//          │ newBytes u32 │ flags u32 │ baseBytes u32 │ crc32c   u32 │ body         │ little-endian
//          └──────────────┴───────────┴───────────────┴──────────────┴──────────────┘
//   flags 0  full   baseBytes 0; the body is the blob itself (newBytes)
//   flags 1  xor    baseBytes is the length of the blob before; the body is a run of page records
//                   (page_delta.h) over both blobs padded with zeros to 4096-byte windows, where
//                   gfn is the index of the window in the new blob
//   crc32c          of the new blob: a delta applied to another base than the one it was made from
//                   is refused, since a vCPU restored from mixed states would be worse than none
//
// A blob and its delta are bounded by kStateBytesMax before anything is allocated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/result.h"

namespace ft {

inline constexpr size_t kStateBytesMax = 1u << 20;
inline constexpr size_t kStateDeltaHeaderBytes = 16;

/// The room encode_state needs for a blob of `blob_bytes`: a delta is never larger than the blob
/// sent whole.
constexpr size_t state_delta_bytes_max(size_t blob_bytes) {
  return kStateDeltaHeaderBytes + blob_bytes;
}

/// The sender's copy of the blob that the receiver holds. Empty at first, so that the first delta
/// is full; reset() makes the next one full again (after a lost link). One caller at a time.
class StateShadow {
 public:
  void reset() { length_ = 0; }
  /// Bytes of the blob last encoded; 0 when there is none.
  size_t length() const { return length_; }

 private:
  friend size_t encode_state(std::span<const uint8_t> blob, StateShadow& shadow, uint8_t* out,
                             size_t room);
  std::vector<uint8_t> windows_;  // the blob, padded with zeros to whole windows
  size_t length_ = 0;
};

/// Writes the delta that turns the blob in `shadow` into `blob` and keeps `blob` in the shadow.
/// Returns the bytes written to `out`. Preconditions (checked): blob.size() ≤ kStateBytesMax, room
/// ≥ state_delta_bytes_max(blob.size()). Allocates only when the blob outgrows all before it.
size_t encode_state(std::span<const uint8_t> blob, StateShadow& shadow, uint8_t* out, size_t room);

struct StateDeltaFacts {
  size_t new_bytes = 0;
  bool full = false;
};

/// Checks a delta, which must fill `bytes` exactly, against a base of `base_bytes` (0: none).
/// Writes nothing. Errors: FT_ERR_STATE_DELTA with what is wrong. Any thread.
Result<StateDeltaFacts> verify_state_delta(std::span<const uint8_t> bytes, size_t base_bytes);

/// Verifies a delta and turns `base` into the new blob. On an error (FT_ERR_STATE_DELTA: not well
/// formed, or the outcome is not what the sender had) `base` is as it was. Any thread; allocates
/// only when the blob outgrows all before it on this thread.
Status apply_state_delta(std::span<const uint8_t> bytes, std::vector<uint8_t>& base);

}  // namespace ft

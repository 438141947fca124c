// The state delta codec. The byte layout is drawn in state_delta.h; the records of an xor delta are
// the page codec's own, so one set of checks guards both.
#include "delta/state_delta.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/crc32c.h"
#include "delta/page_delta.h"

namespace ft {
namespace {

constexpr uint32_t kFlagsFull = 0;
constexpr uint32_t kFlagsXor = 1;

struct Header {
  uint32_t new_bytes;
  uint32_t flags;
  uint32_t base_bytes;
  uint32_t crc;
};
static_assert(sizeof(Header) == kStateDeltaHeaderBytes);

size_t windows_of(size_t bytes) {
  return (bytes + kPageBytes - 1) / kPageBytes;
}

Error delta_error(const std::string& fault) {
  return Error{"FT_ERR_STATE_DELTA", 0,
               "state delta: " + fault + "; the epoch is refused whole, send the state in full"};
}

Header read_header(std::span<const uint8_t> bytes) {
  Header h;
  std::memcpy(&h, bytes.data(), sizeof h);
  return h;
}

size_t write_full(std::span<const uint8_t> blob, uint32_t crc, uint8_t* out) {
  const Header h{static_cast<uint32_t>(blob.size()), kFlagsFull, 0, crc};
  std::memcpy(out, &h, sizeof h);
  if (!blob.empty()) std::memcpy(out + sizeof h, blob.data(), blob.size());
  return sizeof h + blob.size();
}

/// Encodes every window of `blob` against `shadow` (as many windows, brought up to date) as long as
/// the records take less than blob.size() bytes. Returns their bytes, or SIZE_MAX when they do not
/// fit; the shadow is up to date either way.
size_t write_windows(std::span<const uint8_t> blob, uint8_t* shadow, uint8_t* out) {
  uint8_t padded[kPageBytes];
  uint8_t record[kRecordBytesMax];
  size_t used = 0;
  for (size_t at = 0; at < blob.size(); at += kPageBytes) {
    const size_t length = std::min(kPageBytes, blob.size() - at);
    const uint8_t* window = blob.data() + at;
    if (length < kPageBytes) {
      std::memcpy(padded, window, length);
      std::memset(padded + length, 0, kPageBytes - length);
      window = padded;
    }
    const auto gfn = static_cast<uint32_t>(at / kPageBytes);
    const EncodedPage page = encode_page(gfn, window, shadow + at, record);
    if (used == SIZE_MAX || page.bytes >= blob.size() - used) {
      used = SIZE_MAX;
      continue;
    }
    std::memcpy(out + used, record, page.bytes);
    used += page.bytes;
  }
  return used;
}

}  // namespace

size_t encode_state(std::span<const uint8_t> blob, StateShadow& shadow, uint8_t* out, size_t room) {
  FT_CHECK(blob.size() <= kStateBytesMax, "the state blob is larger than any blob may be");
  FT_CHECK(room >= state_delta_bytes_max(blob.size()), "too little room for a state delta");
  const uint32_t crc = crc32c(blob);
  const size_t base_bytes = shadow.length_;
  shadow.length_ = blob.size();
  // Windows that come into being start as zeros, as the receiver pads its base.
  shadow.windows_.resize(windows_of(blob.size()) * kPageBytes);
  if (base_bytes == 0) {
    std::fill(shadow.windows_.begin(), shadow.windows_.end(), uint8_t{0});
    if (!blob.empty()) std::memcpy(shadow.windows_.data(), blob.data(), blob.size());
    return write_full(blob, crc, out);
  }
  const size_t used = write_windows(blob, shadow.windows_.data(), out + kStateDeltaHeaderBytes);
  if (used == SIZE_MAX) return write_full(blob, crc, out);
  const Header h{static_cast<uint32_t>(blob.size()), kFlagsXor, static_cast<uint32_t>(base_bytes),
                 crc};
  std::memcpy(out, &h, sizeof h);
  return sizeof h + used;
}

Result<StateDeltaFacts> verify_state_delta(std::span<const uint8_t> bytes, size_t base_bytes) {
  if (bytes.size() < kStateDeltaHeaderBytes) return delta_error("the header is cut short");
  const Header h = read_header(bytes);
  const auto body = bytes.subspan(kStateDeltaHeaderBytes);
  if (h.new_bytes > kStateBytesMax) {
    return delta_error("the blob of " + std::to_string(h.new_bytes) + " bytes is larger than " +
                       std::to_string(kStateBytesMax));
  }
  if (h.flags == kFlagsFull) {
    if (h.base_bytes != 0) return delta_error("a full blob names a base");
    if (body.size() != h.new_bytes) {
      return delta_error("a full blob of " + std::to_string(h.new_bytes) + " bytes comes with " +
                         std::to_string(body.size()));
    }
    return StateDeltaFacts{h.new_bytes, true};
  }
  if (h.flags != kFlagsXor) return delta_error("flags " + std::to_string(h.flags) + " are unknown");
  if (h.base_bytes == 0 || h.base_bytes != base_bytes || base_bytes > kStateBytesMax) {
    return delta_error("it was made from a blob of " + std::to_string(h.base_bytes) +
                       " bytes, but the blob here has " + std::to_string(base_bytes));
  }
  auto records = verify_records(body, windows_of(h.new_bytes));
  if (!records.ok()) {
    return Error{"FT_ERR_STATE_DELTA", 0, "state delta: " + records.error().message};
  }
  return StateDeltaFacts{h.new_bytes, false};
}

Status apply_state_delta(std::span<const uint8_t> bytes, std::vector<uint8_t>& base) {
  auto facts = verify_state_delta(bytes, base.size());
  if (!facts.ok()) return facts.error();
  const Header h = read_header(bytes);
  const auto body = bytes.subspan(kStateDeltaHeaderBytes);
  // Built beside the base, which is exchanged only once the outcome is known to be right.
  static thread_local std::vector<uint8_t> next;
  if (facts.value().full) {
    next.assign(body.begin(), body.end());
  } else {
    const size_t padded = windows_of(h.new_bytes) * kPageBytes;
    const size_t kept = std::min(base.size(), padded);
    next.assign(base.begin(), base.begin() + static_cast<ptrdiff_t>(kept));
    next.resize(padded, 0);
    apply_records(body, next);
    next.resize(h.new_bytes);
  }
  if (crc32c(next) != h.crc) {
    return delta_error("the outcome does not have the sender's checksum: the bases differ");
  }
  base.swap(next);
  return Ok{};
}

}  // namespace ft

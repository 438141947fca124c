// The page delta codec: choosing the comparison, writing, checking and applying records. The byte
// layout is drawn in page_delta.h.
#include "delta/page_delta.h"

#include <atomic>
#include <bit>
#include <string>

#include "delta/page_diff.h"

static_assert(std::endian::native == std::endian::little, "records are written as they lie");

namespace ft {
namespace delta {

void diff_page_scalar(const uint8_t* page, uint8_t* shadow, PageDiff* diff) {
  diff->line_mask = 0;
  diff->lines = 0;
  diff->words = 0;
  uint64_t content = 0;
  for (size_t line = 0; line < kLines; line++) {
    const uint8_t* from = page + line * kLineBytes;
    uint8_t* to = shadow + line * kLineBytes;
    uint32_t mask = 0;
    uint64_t line_content = 0;
    for (size_t word = 0; word < kWordsPerLine; word++) {
      uint64_t now = load_u64(from + word * kWordBytes);
      read_once(now);
      const uint64_t change = now ^ load_u64(to + word * kWordBytes);
      line_content |= now;
      if (change == 0) continue;
      mask |= 1u << word;
      store_u64(to + word * kWordBytes, now);
      store_u64(diff->xor_words + diff->words * kWordBytes, change);
      diff->words++;
    }
    if (mask == 0) continue;
    diff->word_masks[diff->lines++] = static_cast<uint8_t>(mask);
    diff->line_mask |= 1ull << line;
    content |= line_content;
  }
  diff->maybe_zero = content == 0;
}

bool page_is_zero_scalar(const uint8_t* page) {
  for (size_t at = 0; at < kPageBytes; at += kLineBytes) {
    uint64_t content = 0;
    for (size_t word = 0; word < kWordsPerLine; word++) {
      content |= load_u64(page + at + word * kWordBytes);
    }
    if (content != 0) return false;
  }
  return true;
}

uint32_t lines_with_data_scalar(const uint8_t* page) {
  uint32_t lines = 0;
  for (size_t at = 0; at < kPageBytes; at += kLineBytes) {
    uint64_t content = 0;
    for (size_t word = 0; word < kWordsPerLine; word++) {
      content |= load_u64(page + at + word * kWordBytes);
    }
    lines += content != 0 ? 1 : 0;
  }
  return lines;
}

namespace {

constexpr size_t kLineMaskBytes = 8;
/// A fresh page with more lines than this goes raw: comparing its words would cost more than the
/// few bytes that it could save.
constexpr uint32_t kDenseLines = 40;
/// One line with one word: the smallest sparse payload there is.
constexpr size_t kSparseBytesMin = kLineMaskBytes + 1 + kWordBytes;
constexpr uint64_t kEveryByteOne = 0x0101010101010101ull;

bool cpu_has_avx2() {
  return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("popcnt") != 0;
}

std::atomic<DeltaImpl> g_impl{cpu_has_avx2() ? DeltaImpl::kAvx2 : DeltaImpl::kScalar};

void write_header(uint8_t* out, uint32_t gfn, PageKind kind, size_t length) {
  std::memcpy(out, &gfn, sizeof gfn);
  out[4] = static_cast<uint8_t>(kind);
  out[5] = 0;
  const auto narrow = static_cast<uint16_t>(length);
  std::memcpy(out + 6, &narrow, sizeof narrow);
}

EncodedPage write_zero(uint32_t gfn, uint8_t* out) {
  write_header(out, gfn, PageKind::kZero, 0);
  return {PageKind::kZero, kRecordHeaderBytes};
}

EncodedPage write_raw(uint32_t gfn, const uint8_t* page, uint8_t* out) {
  write_header(out, gfn, PageKind::kRaw, kPageBytes);
  std::memcpy(out + kRecordHeaderBytes, page, kPageBytes);
  return {PageKind::kRaw, kRecordBytesMax};
}

EncodedPage write_sparse(uint32_t gfn, const PageDiff& diff, size_t length, uint8_t* out) {
  write_header(out, gfn, PageKind::kSparseXor, length);
  uint8_t* at = out + kRecordHeaderBytes;
  store_u64(at, diff.line_mask);
  at += kLineMaskBytes;
  std::memcpy(at, diff.word_masks, diff.lines);
  at += diff.lines;
  std::memcpy(at, diff.xor_words, diff.words * kWordBytes);
  return {PageKind::kSparseXor, kRecordHeaderBytes + length};
}

struct RecordHeader {
  uint32_t gfn;
  uint8_t kind;
  uint8_t reserved;
  uint16_t length;
};
static_assert(sizeof(RecordHeader) == kRecordHeaderBytes);

RecordHeader read_header(const uint8_t* p) {
  RecordHeader h;
  std::memcpy(&h, p, sizeof h);
  return h;
}

/// True when the masks of a sparse payload are well formed, lie inside it, and ask for exactly as
/// many words as it has.
bool sparse_is_right(std::span<const uint8_t> payload) {
  if (payload.size() < kSparseBytesMin) return false;
  const auto lines = static_cast<size_t>(std::popcount(load_u64(payload.data())));
  if (lines == 0 || kLineMaskBytes + lines > payload.size()) return false;
  const uint8_t* masks = payload.data() + kLineMaskBytes;
  size_t words = 0;
  size_t i = 0;
  for (; i + 8 <= lines; i += 8) {
    const uint64_t eight = load_u64(masks + i);
    // Sets the top bit of some byte exactly when one of the eight bytes is zero.
    if (((eight - kEveryByteOne) & ~eight & (kEveryByteOne << 7)) != 0) return false;
    words += static_cast<size_t>(std::popcount(eight));
  }
  for (; i < lines; i++) {
    if (masks[i] == 0) return false;
    words += static_cast<size_t>(std::popcount(masks[i]));
  }
  return payload.size() == kLineMaskBytes + lines + words * kWordBytes;
}

/// What is wrong with the record at the start of `bytes`; nullptr when nothing is.
const char* record_fault(std::span<const uint8_t> bytes, uint64_t gfn_limit) {
  if (bytes.size() < kRecordHeaderBytes) return "the record header is cut short";
  const RecordHeader h = read_header(bytes.data());
  if (h.gfn >= gfn_limit) return "the guest frame number is beyond the end of memory";
  if (h.reserved != 0) return "the reserved byte is not zero";
  if (h.length > bytes.size() - kRecordHeaderBytes) return "the payload is cut short";
  switch (static_cast<PageKind>(h.kind)) {
    case PageKind::kZero:
      return h.length == 0 ? nullptr : "a zero record has a payload";
    case PageKind::kRaw:
      return h.length == kPageBytes ? nullptr : "a raw record is not one page long";
    case PageKind::kSparseXor:
      if (h.length >= kPageBytes) return "a sparse record is not smaller than a page";
      if (!sparse_is_right(bytes.subspan(kRecordHeaderBytes, h.length))) {
        return "the masks of a sparse record do not agree with its length";
      }
      return nullptr;
    case PageKind::kUnchanged:
      break;
  }
  return "the record kind is unknown";
}

/// Precondition: the payload passed sparse_is_right. A line index is below 64 and a word index
/// below 8 by construction, so every write lies inside `page`.
void apply_sparse(const uint8_t* payload, uint8_t* page) {
  uint64_t line_mask = load_u64(payload);
  const uint8_t* masks = payload + kLineMaskBytes;
  const uint8_t* words = masks + std::popcount(line_mask);
  for (; line_mask != 0; line_mask &= line_mask - 1) {
    uint8_t* line = page + static_cast<size_t>(std::countr_zero(line_mask)) * kLineBytes;
    for (uint32_t mask = *masks++; mask != 0; mask &= mask - 1) {
      uint8_t* word = line + static_cast<size_t>(std::countr_zero(mask)) * kWordBytes;
      store_u64(word, load_u64(word) ^ load_u64(words));
      words += kWordBytes;
    }
  }
}

}  // namespace
}  // namespace delta

EncodedPage encode_page(uint32_t gfn, const uint8_t* page, uint8_t* shadow, uint8_t* out,
                        bool force_raw) {
  if (force_raw) {
    std::memcpy(shadow, page, kPageBytes);
    return delta::write_raw(gfn, shadow, out);
  }
  delta::PageDiff diff;
  if (delta_impl() == DeltaImpl::kAvx2) {
    delta::diff_page_avx2(page, shadow, &diff);
  } else {
    delta::diff_page_scalar(page, shadow, &diff);
  }
  if (diff.words == 0) return {PageKind::kUnchanged, 0};
  // From here on only the shadow is read: `page` may have moved on meanwhile.
  if (diff.maybe_zero && page_is_zero(shadow)) return delta::write_zero(gfn, out);
  const size_t length = delta::kLineMaskBytes + diff.lines + diff.words * delta::kWordBytes;
  if (length >= kPageBytes) return delta::write_raw(gfn, shadow, out);
  return delta::write_sparse(gfn, diff, length, out);
}

EncodedPage encode_fresh_page(uint32_t gfn, const uint8_t* page, bool peer_zero, uint8_t* out) {
  if (page_is_zero(page)) {
    return peer_zero ? EncodedPage{PageKind::kUnchanged, 0} : delta::write_zero(gfn, out);
  }
  if (!peer_zero || lines_with_data(page) > delta::kDenseLines) {
    return delta::write_raw(gfn, page, out);
  }
  alignas(64) uint8_t zeros[kPageBytes] = {};
  return encode_page(gfn, page, zeros, out);
}

Result<BatchFacts> verify_records(std::span<const uint8_t> bytes, uint64_t gfn_limit) {
  BatchFacts facts;
  for (size_t at = 0; at < bytes.size();) {
    const auto rest = bytes.subspan(at);
    if (const char* fault = delta::record_fault(rest, gfn_limit); fault != nullptr) {
      return Error{"FT_ERR_DELTA", 0,
                   "page record " + std::to_string(facts.records) + " at byte " +
                       std::to_string(at) + " of " + std::to_string(bytes.size()) + ": " + fault +
                       "; the epoch is refused whole, send it again"};
    }
    const auto h = delta::read_header(rest.data());
    facts.records++;
    facts.zero += h.kind == static_cast<uint8_t>(PageKind::kZero);
    facts.raw += h.kind == static_cast<uint8_t>(PageKind::kRaw);
    facts.sparse += h.kind == static_cast<uint8_t>(PageKind::kSparseXor);
    at += kRecordHeaderBytes + h.length;
  }
  return facts;
}

size_t apply_record(std::span<const uint8_t> bytes, std::span<uint8_t> memory) {
  FT_CHECK(delta::record_fault(bytes, memory.size() / kPageBytes) == nullptr,
           "applying a record never verified");
  const auto h = delta::read_header(bytes.data());
  const uint8_t* payload = bytes.data() + kRecordHeaderBytes;
  uint8_t* page = memory.data() + static_cast<size_t>(h.gfn) * kPageBytes;
  if (h.kind == static_cast<uint8_t>(PageKind::kZero)) {
    std::memset(page, 0, kPageBytes);
  } else if (h.kind == static_cast<uint8_t>(PageKind::kRaw)) {
    std::memcpy(page, payload, kPageBytes);
  } else {
    delta::apply_sparse(payload, page);
  }
  return kRecordHeaderBytes + h.length;
}

uint32_t apply_records(std::span<const uint8_t> bytes, std::span<uint8_t> memory) {
  uint32_t records = 0;
  for (size_t at = 0; at < bytes.size(); records++) at += apply_record(bytes.subspan(at), memory);
  return records;
}

uint32_t record_gfn(std::span<const uint8_t> bytes) {
  FT_CHECK(bytes.size() >= kRecordHeaderBytes, "a record has a header");
  return delta::read_header(bytes.data()).gfn;
}

RawRun leading_raw_run(std::span<const uint8_t> bytes, uint32_t pages_max) {
  RawRun run;
  for (; run.pages < pages_max && bytes.size() >= kRecordBytesMax; run.pages++) {
    const auto h = delta::read_header(bytes.data());
    if (h.kind != static_cast<uint8_t>(PageKind::kRaw) || h.length != kPageBytes) break;
    if (run.pages == 0) run.gfn = h.gfn;
    if (h.gfn != run.gfn + run.pages) break;
    bytes = bytes.subspan(kRecordBytesMax);
  }
  return run;
}

DeltaImpl delta_impl() {
  return delta::g_impl.load(std::memory_order_relaxed);
}

bool set_delta_impl(DeltaImpl impl) {
  if (impl == DeltaImpl::kAvx2 && !delta::cpu_has_avx2()) return false;
  delta::g_impl.store(impl, std::memory_order_relaxed);
  return true;
}

bool page_is_zero(const uint8_t* page) {
  return delta_impl() == DeltaImpl::kAvx2 ? delta::page_is_zero_avx2(page)
                                          : delta::page_is_zero_scalar(page);
}

uint32_t lines_with_data(const uint8_t* page) {
  return delta_impl() == DeltaImpl::kAvx2 ? delta::lines_with_data_avx2(page)
                                          : delta::lines_with_data_scalar(page);
}

}  // namespace ft

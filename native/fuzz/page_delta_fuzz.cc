// Hostile page records: whatever the bytes say, verifying reads nothing outside them, and what is
// accepted writes nothing outside the pages that the records name.
//
//   byte 0, even   the rest is a batch of records as it stands
//   byte 0, odd    a batch that an encoder wrote, then damaged: the rest says how (position, mask)
//
// The pages lie between guard pages, and so do the records, at the upper end of their room.
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "delta/page_delta.h"
#include "fuzz_input.h"
#include "tests/guarded_pages.h"

namespace {

constexpr size_t kPages = 4;
constexpr size_t kRoomPages = 8;

using ft::kPageBytes;
using ft::test::GuardedPages;

/// Pages for gfns 0…3 that make one sparse, one zero, one raw and one dense sparse record.
std::vector<uint8_t> written_batch() {
  std::vector<uint8_t> bytes;
  for (uint32_t gfn = 0; gfn < kPages; gfn++) {
    uint8_t page[kPageBytes];
    uint8_t shadow[kPageBytes];
    uint8_t out[ft::kRecordBytesMax];
    for (size_t i = 0; i < kPageBytes; i++) page[i] = static_cast<uint8_t>(i * 7 + gfn + 1);
    std::memcpy(shadow, page, kPageBytes);
    if (gfn == 0) page[100] ^= 1;
    if (gfn == 1) std::memset(page, 0, kPageBytes);
    if (gfn == 2) std::memset(shadow, 0xEE, kPageBytes);
    for (size_t at = 0; gfn == 3 && at < kPageBytes; at += 40) page[at] ^= 1;
    const auto made = ft::encode_page(gfn, page, shadow, out);
    bytes.insert(bytes.end(), out, out + made.bytes);
  }
  return bytes;
}

void verify_and_apply(std::span<const uint8_t> bytes) {
  static const GuardedPages memory(kPages);
  static const GuardedPages room(kRoomPages);
  if (bytes.size() > room.size()) return;
  const auto placed = room.place_at_end(bytes);
  auto facts = ft::verify_records(placed, kPages);
  if (!facts.ok()) {
    FT_CHECK(!facts.error().message.empty(), "an error without a word");
    return;
  }
  const ft::BatchFacts& f = facts.value();
  FT_CHECK(f.zero + f.raw + f.sparse == f.records, "the kinds do not add up");
  // Pages that no record names must stay as they are.
  bool named[kPages] = {};
  for (size_t at = 0; at < placed.size();) {
    uint32_t gfn;
    uint16_t length;
    std::memcpy(&gfn, &placed[at], sizeof gfn);
    std::memcpy(&length, &placed[at + 6], sizeof length);
    FT_CHECK(gfn < kPages, "a gfn beyond the limit was accepted");
    named[gfn] = true;
    at += ft::kRecordHeaderBytes + length;
  }
  std::memset(memory.data(), 0x6B, memory.size());
  ft::apply_records(placed, memory.span());
  for (size_t page = 0; page < kPages; page++) {
    for (size_t i = 0; !named[page] && i < kPageBytes; i++) {
      FT_CHECK(memory.data()[page * kPageBytes + i] == 0x6B, "a page not named was written");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  ft::fuzz::Input input(data, bytes);
  if ((input.number<uint8_t>() & 1) == 0) {
    verify_and_apply(input.rest());
    return 0;
  }
  static const std::vector<uint8_t> written = written_batch();
  std::vector<uint8_t> damaged = written;
  while (!input.empty()) {
    const size_t at = input.number<uint16_t>() % (damaged.size() + 64);
    const auto mask = input.number<uint8_t>();
    if (at < damaged.size()) {
      damaged[at] ^= mask;
    } else if (damaged.size() > mask) {
      damaged.resize(damaged.size() - mask);
    }
  }
  verify_and_apply(damaged);
  return 0;
}

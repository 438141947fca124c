// The page delta, decoder's side: batches, limits, truncation at every byte, every flipped bit, and
// hostile bytes, with the pages between guards so that a single byte outside stops the process.
#include <doctest/doctest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "delta/page_delta.h"
#include "delta_support.h"
#include "guarded_pages.h"

using ft::kPageBytes;
using ft::verify_records;
using ft::test::GuardedPages;
using ft::test::mutate;
using ft::test::Page;
using ft::test::random_page;

namespace {

constexpr uint32_t kPages = 4;

/// A batch with one record of each kind: gfn 0 sparse, 1 zero, 2 raw, 3 sparse with many words.
struct Batch {
  std::vector<uint8_t> bytes;
  std::vector<uint8_t> before = std::vector<uint8_t>(kPages * kPageBytes);
  std::vector<uint8_t> after = std::vector<uint8_t>(kPages * kPageBytes);
  std::vector<size_t> starts;
};

Batch make_batch() {
  Batch batch;
  for (uint32_t gfn = 0; gfn < kPages; gfn++) {
    Page shadow = random_page(100 + gfn);
    std::memcpy(&batch.before[gfn * kPageBytes], shadow.data(), kPageBytes);
    Page page = shadow;
    if (gfn == 0) page[1234] ^= 1;
    if (gfn == 1) page.fill(0);
    if (gfn == 2) page = random_page(200);
    for (size_t at = 0; gfn == 3 && at < kPageBytes; at += 24) page[at] ^= 0x3C;
    std::memcpy(&batch.after[gfn * kPageBytes], page.data(), kPageBytes);
    const auto made = ft::test::encode(gfn, page, shadow);
    batch.starts.push_back(batch.bytes.size());
    batch.bytes.insert(batch.bytes.end(), made.bytes.begin(), made.bytes.end());
  }
  return batch;
}

std::vector<uint8_t> record(uint32_t gfn, uint8_t kind, uint8_t reserved, size_t length,
                            std::vector<uint8_t> payload) {
  std::vector<uint8_t> bytes(8);
  std::memcpy(bytes.data(), &gfn, 4);
  bytes[4] = kind;
  bytes[5] = reserved;
  bytes[6] = static_cast<uint8_t>(length);
  bytes[7] = static_cast<uint8_t>(length >> 8);
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  return bytes;
}

std::vector<uint8_t> sparse(uint64_t line_mask, std::vector<uint8_t> word_masks, size_t words) {
  std::vector<uint8_t> payload(8);
  std::memcpy(payload.data(), &line_mask, 8);
  payload.insert(payload.end(), word_masks.begin(), word_masks.end());
  payload.resize(payload.size() + words * 8, 0xA5);
  const size_t length = payload.size();
  return record(0, 3, 0, length, std::move(payload));
}

std::string fault_of(const std::vector<uint8_t>& bytes, uint64_t gfn_limit = kPages) {
  auto result = verify_records(bytes, gfn_limit);
  if (result.ok()) return "";
  CHECK(std::string(result.error().code) == "FT_ERR_DELTA");
  return result.error().message;
}

bool says(const std::string& message, const char* what) {
  return message.find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("delta: an empty batch is right and does nothing") {
  auto facts = verify_records({}, 0);
  REQUIRE(facts.ok());
  CHECK(facts.value().records == 0);
  std::vector<uint8_t> memory(kPageBytes, 7);
  CHECK(ft::apply_records({}, memory) == 0);
  CHECK(memory == std::vector<uint8_t>(kPageBytes, 7));
}

TEST_CASE("delta: a batch of every kind is counted and applied") {
  const Batch batch = make_batch();
  auto facts = verify_records(batch.bytes, kPages);
  REQUIRE(facts.ok());
  CHECK(facts.value().records == 4);
  CHECK(facts.value().zero == 1);
  CHECK(facts.value().raw == 1);
  CHECK(facts.value().sparse == 2);
  GuardedPages memory(kPages);
  std::memcpy(memory.data(), batch.before.data(), memory.size());
  CHECK(ft::apply_records(batch.bytes, memory.span()) == 4);
  CHECK(std::memcmp(memory.data(), batch.after.data(), memory.size()) == 0);
}

TEST_CASE("delta: records of one page are applied in their order") {
  Page shadow{};
  Page page = random_page(20);
  std::vector<uint8_t> bytes;
  std::mt19937_64 random(21);
  for (int i = 0; i < 50; i++) {
    mutate(page, random);
    const auto made = ft::test::encode(0, page, shadow);
    bytes.insert(bytes.end(), made.bytes.begin(), made.bytes.end());
  }
  std::vector<uint8_t> memory(kPageBytes, 0);
  REQUIRE(verify_records(bytes, 1).ok());
  ft::apply_records(bytes, memory);
  CHECK(std::memcmp(memory.data(), page.data(), kPageBytes) == 0);
}

TEST_CASE("delta: gfn limits are exact") {
  const auto at = [](uint32_t gfn) { return record(gfn, 1, 0, 0, {}); };
  CHECK(fault_of(at(3), 4).empty());
  CHECK(says(fault_of(at(4), 4), "beyond the end of memory"));
  CHECK(says(fault_of(at(0), 0), "beyond the end of memory"));
  CHECK(fault_of(at(0xFFFFFFFF), 1ull << 32).empty());
  CHECK(says(fault_of(at(0xFFFFFFFF), 0xFFFFFFFF), "beyond the end of memory"));
}

TEST_CASE("delta: malformed headers are refused by name") {
  CHECK(says(fault_of(record(0, 0, 0, 0, {})), "kind is unknown"));
  CHECK(says(fault_of(record(0, 4, 0, 0, {})), "kind is unknown"));
  CHECK(says(fault_of(record(0, 255, 0, 0, {})), "kind is unknown"));
  CHECK(says(fault_of(record(0, 1, 1, 0, {})), "reserved byte"));
  CHECK(says(fault_of(record(0, 1, 0, 1, {0})), "zero record has a payload"));
  CHECK(says(fault_of(record(0, 1, 0, 9, {})), "payload is cut short"));
  CHECK(says(fault_of(record(0, 2, 0, 4095, std::vector<uint8_t>(4095))), "not one page"));
  CHECK(says(fault_of(record(0, 2, 0, 4097, std::vector<uint8_t>(4097))), "not one page"));
  CHECK(says(fault_of(record(0, 2, 0, 0, {})), "not one page"));
  CHECK(says(fault_of({0, 0, 0, 0, 1, 0, 0}), "header is cut short"));
}

TEST_CASE("delta: malformed sparse records are refused") {
  const char* disagree = "masks of a sparse record";
  CHECK(fault_of(sparse(1, {1}, 1)).empty());
  CHECK(says(fault_of(record(0, 3, 0, 0, {})), disagree));  // no masks at all
  for (size_t length = 1; length < 17; length++) {
    CHECK(says(fault_of(record(0, 3, 0, length, std::vector<uint8_t>(length, 1))), disagree));
  }
  CHECK(says(fault_of(sparse(0, {}, 0)), disagree));          // no line
  CHECK(says(fault_of(sparse(0, {1}, 1)), disagree));         // no line, but words
  CHECK(says(fault_of(sparse(1, {0}, 0)), disagree));         // a line without a word
  CHECK(says(fault_of(sparse(1, {0}, 1)), disagree));         // the same, long enough
  CHECK(says(fault_of(sparse(1, {3}, 1)), disagree));         // a word too few
  CHECK(says(fault_of(sparse(1, {1}, 2)), disagree));         // a word too many
  CHECK(says(fault_of(sparse(3, {1}, 1)), disagree));         // a mask too few
  CHECK(says(fault_of(sparse(~0ull, {1, 1}, 0)), disagree));  // 64 masks do not fit
  CHECK(fault_of(sparse(3, {1, 1}, 2)).empty());
  CHECK(says(fault_of(sparse(3, {1, 0}, 1)), disagree));  // a line without a word beside one with
  CHECK(says(fault_of(sparse(3, {0, 1}, 1)), disagree));
  std::vector<uint8_t> masks(16, 1);
  CHECK(fault_of(sparse(0xFFFF, masks, 16)).empty());
  for (auto& mask : masks) {
    mask = 0;
    CHECK(says(fault_of(sparse(0xFFFF, masks, 15)), disagree));
    CHECK(says(fault_of(sparse(0xFFFF, masks, 16)), disagree));
    mask = 1;
  }
  // 503 words in 64 lines are 4,096 bytes; in 63 lines they are 4,095, the most there may be.
  std::vector<uint8_t> many(64, 0xFF);
  std::fill(many.begin(), many.begin() + 9, 0x7F);
  CHECK(says(fault_of(sparse(~0ull, many, 503)), "not smaller"));
  many.assign(63, 0xFF);
  many[0] = 0x7F;
  CHECK(fault_of(sparse(~0ull >> 1, many, 503)).empty());
  // Well formed, but no smaller than the page: never written by an encoder.
  CHECK(says(fault_of(sparse(~0ull, std::vector<uint8_t>(64, 0xFF), 512)), "not smaller"));
}

TEST_CASE("delta: a fault names its record and its offset") {
  Batch batch = make_batch();
  batch.bytes[batch.starts[2] + 4] = 77;
  const std::string message = fault_of(batch.bytes);
  CHECK(says(message, ("page record 2 at byte " + std::to_string(batch.starts[2])).c_str()));
  CHECK(says(message, std::to_string(batch.bytes.size()).c_str()));
}

TEST_CASE("delta: truncation at every byte is refused, but between records") {
  const Batch batch = make_batch();
  GuardedPages room(4);
  size_t accepted = 0;
  for (size_t length = 0; length < batch.bytes.size(); length++) {
    const auto part = room.place_at_end(std::span(batch.bytes).first(length));
    const bool boundary = std::count(batch.starts.begin(), batch.starts.end(), length) == 1;
    REQUIRE(verify_records(part, kPages).ok() == boundary);
    accepted += boundary;
  }
  CHECK(accepted == batch.starts.size());
}

TEST_CASE("delta: every flipped bit is refused or stays inside memory") {
  const Batch batch = make_batch();
  GuardedPages memory(kPages);
  GuardedPages room(4);
  size_t refused = 0;
  for (size_t bit = 0; bit < batch.bytes.size() * 8; bit++) {
    auto bytes = room.place_at_end(batch.bytes);
    bytes[bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
    if (!verify_records(bytes, kPages).ok()) {
      refused++;
      continue;
    }
    ft::apply_records(bytes, memory.span());
  }
  // Kinds, lengths, masks and reserved bytes do not survive a flip; contents do (the frame's
  // checksum guards those).
  CHECK(refused > 4 * 8 * 4);
  CHECK(refused < batch.bytes.size() * 8);
}

TEST_CASE("delta: a record touches its own page alone") {
  const Batch batch = make_batch();
  for (uint32_t gfn = 0; gfn < kPages; gfn++) {
    const size_t end = gfn + 1 < kPages ? batch.starts[gfn + 1] : batch.bytes.size();
    const auto one = std::span(batch.bytes).subspan(batch.starts[gfn], end - batch.starts[gfn]);
    std::vector<uint8_t> memory = batch.before;
    ft::apply_records(one, memory);
    for (uint32_t other = 0; other < kPages; other++) {
      const auto& expected = other == gfn ? batch.after : batch.before;
      CHECK(std::memcmp(&memory[other * kPageBytes], &expected[other * kPageBytes], kPageBytes) ==
            0);
    }
  }
}

TEST_CASE("delta: verifying writes nothing and applying never writes to the records") {
  const Batch batch = make_batch();
  GuardedPages room(4);
  const auto bytes = room.place_at_end(batch.bytes);
  room.set_writable(false);
  REQUIRE(verify_records(bytes, kPages).ok());
  std::vector<uint8_t> memory = batch.before;
  ft::apply_records(bytes, memory);
  CHECK(memory == batch.after);
}

TEST_CASE("delta: random bytes with plausible headers never reach outside") {
  std::mt19937_64 random(30);
  GuardedPages memory(kPages);
  GuardedPages room(4);
  size_t accepted = 0;
  for (int round = 0; round < 100000; round++) {
    const size_t lines = random() % 5;
    uint64_t line_mask = 0;
    std::vector<uint8_t> masks;
    size_t words = 0;
    for (size_t i = 0; i < lines; i++) line_mask |= 1ull << (random() % 64);
    for (int i = 0; i < __builtin_popcountll(line_mask); i++) {
      masks.push_back(static_cast<uint8_t>(random() % 16 == 0 ? 0 : random()));
      words += static_cast<size_t>(__builtin_popcount(masks.back()));
    }
    if (random() % 8 == 0) words += random() % 3 - 1;
    auto bytes = sparse(line_mask, masks, words % 600);
    bytes[0] = static_cast<uint8_t>(random() % 6);
    if (random() % 8 == 0) bytes[random() % bytes.size()] ^= static_cast<uint8_t>(random());
    const auto placed = room.place_at_end(bytes);
    if (!verify_records(placed, kPages).ok()) continue;
    accepted++;
    ft::apply_records(placed, memory.span());
  }
  CHECK(accepted > 10000);
  CHECK(accepted < 90000);
}

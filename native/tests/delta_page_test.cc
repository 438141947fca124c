// The page delta, encoder's side: every kind, the exact bytes of a record, scalar against AVX2, the
// shadow, the room it takes, and pages that change while they are encoded.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "delta/page_delta.h"
#include "delta_support.h"
#include "guarded_pages.h"

using ft::DeltaImpl;
using ft::encode_page;
using ft::kPageBytes;
using ft::kRecordBytesMax;
using ft::PageKind;
using ft::test::for_each_impl;
using ft::test::Page;
using ft::test::random_page;
using ft::test::Record;

TEST_CASE("delta: an unchanged page has no record") {
  for_each_impl([] {
    const Page page = random_page(1);
    Page shadow = page;
    std::vector<uint8_t> out(kRecordBytesMax, 0xEE);
    const auto made = encode_page(5, page.data(), shadow.data(), out.data());
    CHECK(made.kind == PageKind::kUnchanged);
    CHECK(made.bytes == 0);
    CHECK(out == std::vector<uint8_t>(kRecordBytesMax, 0xEE));
    CHECK(shadow == page);
  });
}

TEST_CASE("delta: a zero page is a header alone, and unchanged when the shadow is zero") {
  for_each_impl([] {
    const Page zero{};
    Page shadow = random_page(2);
    const auto made = ft::test::encode(0x01020304, zero, shadow);
    CHECK(made.kind == PageKind::kZero);
    CHECK(made.bytes == std::vector<uint8_t>{4, 3, 2, 1, 1, 0, 0, 0});
    CHECK(shadow == zero);
    CHECK(ft::test::encode(0x01020304, zero, shadow).kind == PageKind::kUnchanged);
  });
}

TEST_CASE("delta: a page becomes zero by its last word alone") {
  for_each_impl([] {
    for (const size_t at : {size_t{0}, size_t{63}, size_t{64}, size_t{2048}, size_t{4095}}) {
      const Page zero{};
      Page shadow{};
      shadow[at] = 1;
      CHECK(ft::test::encode(1, zero, shadow).kind == PageKind::kZero);
      CHECK(shadow == zero);
    }
  });
}

TEST_CASE("delta: a word that becomes zero in a page that is not zero is sparse") {
  for_each_impl([] {
    for (size_t kept = 0; kept < kPageBytes; kept += 61) {
      Page page{};
      page[kept] = 1;
      Page shadow = page;
      shadow[(kept + 700) % kPageBytes] = 9;
      CHECK(ft::test::encode(1, page, shadow).kind == PageKind::kSparseXor);
      CHECK(shadow == page);
    }
  });
}

TEST_CASE("delta: the bytes of a sparse record are as drawn") {
  for_each_impl([] {
    Page shadow = random_page(3);
    Page page = shadow;
    page[64 * 2 + 8 * 3 + 1] ^= 0xAB;   // line 2, word 3, byte 1
    page[64 * 63 + 8 * 7 + 7] ^= 0x80;  // line 63, word 7, byte 7
    page[64 * 63 + 8 * 0 + 0] ^= 0x01;  // line 63, word 0, byte 0
    const Record made = ft::test::encode(0x00ABCDEF, page, shadow);
    CHECK(made.kind == PageKind::kSparseXor);
    const std::vector<uint8_t> expected = {
        0xEF, 0xCD, 0xAB, 0x00, 3, 0, 34, 0,     // gfn, kind, zero, length = 8 + 2 + 3 × 8
        0x04, 0,    0,    0,    0, 0, 0,  0x80,  // lines 2 and 63
        0x08, 0x81,                              // word 3; words 0 and 7
        0,    0xAB, 0,    0,    0, 0, 0,  0,     // line 2, word 3
        0x01, 0,    0,    0,    0, 0, 0,  0,     // line 63, word 0
        0,    0,    0,    0,    0, 0, 0,  0x80,  // line 63, word 7
    };
    CHECK(made.bytes == expected);
    CHECK(shadow == page);
  });
}

TEST_CASE("delta: every single changed byte is found, in its own word") {
  for_each_impl([] {
    Page shadow = random_page(4);
    Page page = shadow;
    for (size_t at = 0; at < kPageBytes; at++) {
      page[at] ^= 0x10;
      const Record made = ft::test::encode(1, page, shadow);
      REQUIRE(made.kind == PageKind::kSparseXor);
      REQUIRE(made.bytes.size() == 8 + 17);
      uint64_t line_mask;
      std::memcpy(&line_mask, &made.bytes[8], 8);
      REQUIRE(line_mask == 1ull << (at / 64));
      REQUIRE(made.bytes[16] == 1u << (at % 64 / 8));
      REQUIRE(made.bytes[17 + at % 8] == 0x10);
      REQUIRE(shadow == page);
    }
  });
}

TEST_CASE("delta: sparse up to one byte below a page, raw from there") {
  for_each_impl([] {
    // A payload of 8 + lines + 8 × words bytes: 63 lines and 503 words are 4,095 bytes (sparse);
    // 64 lines and 503 words are 4,096 (raw).
    for (const size_t lines : {size_t{63}, size_t{64}}) {
      Page shadow = random_page(5);
      Page page = shadow;
      size_t words = 0;
      for (size_t w = 0; w < 8; w++) {
        for (size_t line = 0; line < lines && words < 503; line++, words++) {
          page[line * 64 + w * 8] ^= 0xFF;
        }
      }
      REQUIRE(words == 503);
      const Record made = ft::test::encode(9, page, shadow);
      if (lines == 63) {
        CHECK(made.kind == PageKind::kSparseXor);
        CHECK(made.bytes.size() == 8 + 4095);
      } else {
        CHECK(made.kind == PageKind::kRaw);
        CHECK(made.bytes.size() == kRecordBytesMax);
      }
      CHECK(shadow == page);
    }
  });
}

TEST_CASE("delta: a page changed throughout is raw") {
  for_each_impl([] {
    const Page page = random_page(6);
    Page shadow = random_page(7);
    const Record made = ft::test::encode(0xFFFFFFFF, page, shadow);
    CHECK(made.kind == PageKind::kRaw);
    REQUIRE(made.bytes.size() == kRecordBytesMax);
    const uint8_t header[8] = {0xFF, 0xFF, 0xFF, 0xFF, 2, 0, 0x00, 0x10};
    CHECK(std::memcmp(made.bytes.data(), header, 8) == 0);
    CHECK(std::memcmp(made.bytes.data() + 8, page.data(), kPageBytes) == 0);
    CHECK(shadow == page);
  });
}

TEST_CASE("delta: force_raw writes the page whatever the shadow says") {
  for_each_impl([] {
    for (const bool zero : {false, true}) {
      const Page page = zero ? Page{} : random_page(8);
      for (const bool same : {false, true}) {
        Page shadow = same ? page : random_page(9);
        std::vector<uint8_t> out(kRecordBytesMax);
        const auto made = encode_page(3, page.data(), shadow.data(), out.data(), true);
        CHECK(made.kind == PageKind::kRaw);
        CHECK(made.bytes == kRecordBytesMax);
        CHECK(std::memcmp(out.data() + 8, page.data(), kPageBytes) == 0);
        CHECK(shadow == page);
      }
    }
  });
}

TEST_CASE("delta: page_is_zero sees every byte") {
  for_each_impl([] {
    Page page{};
    CHECK(ft::page_is_zero(page.data()));
    for (size_t at = 0; at < kPageBytes; at++) {
      page[at] = static_cast<uint8_t>(1u << (at % 8));
      REQUIRE_FALSE(ft::page_is_zero(page.data()));
      page[at] = 0;
    }
  });
}

TEST_CASE("delta: scalar and AVX2 write the same bytes, and a replica follows") {
  if (!ft::set_delta_impl(DeltaImpl::kAvx2)) {
    MESSAGE("this CPU has no AVX2: only the scalar twin was run");
  }
  std::mt19937_64 random(10);
  Page page = random_page(11);
  Page scalar_shadow{};
  Page vector_shadow{};
  std::vector<uint8_t> replica(kPageBytes, 0);
  size_t seen[4] = {0, 0, 0, 0};
  for (int round = 0; round < 20000; round++) {
    ft::test::mutate(page, random);
    ft::set_delta_impl(DeltaImpl::kScalar);
    const Record scalar = ft::test::encode(0, page, scalar_shadow);
    ft::set_delta_impl(DeltaImpl::kAvx2);
    const Record vector = ft::test::encode(0, page, vector_shadow);
    REQUIRE(scalar.kind == vector.kind);
    REQUIRE(scalar.bytes == vector.bytes);
    REQUIRE(scalar_shadow == page);
    REQUIRE(vector_shadow == page);
    REQUIRE(ft::verify_records(vector.bytes, 1).ok());
    ft::apply_records(vector.bytes, replica);
    REQUIRE(std::memcmp(replica.data(), page.data(), kPageBytes) == 0);
    seen[static_cast<size_t>(vector.kind)]++;
  }
  for (const size_t count : seen) CHECK(count > 100);
}

TEST_CASE("delta: any alignment, and not a byte outside page, shadow and room") {
  for_each_impl([] {
    ft::test::GuardedPages pages(2);
    ft::test::GuardedPages shadows(2);
    ft::test::GuardedPages outs(2);
    std::mt19937_64 random(12);
    Page content = random_page(13);
    for (int round = 0; round < 400; round++) {
      ft::test::mutate(content, random);
      const size_t offset = round % 2 == 0 ? random() % 65 : kPageBytes - random() % 65;
      uint8_t* page = pages.data() + offset;
      uint8_t* shadow = shadows.data() + (round % 3 == 0 ? 0 : kPageBytes - random() % 65);
      uint8_t* out = outs.data() + outs.size() - kRecordBytesMax;
      std::memset(outs.data(), 0xEE, outs.size());
      std::memset(shadows.data(), 0x77, shadows.size());
      const Page old = round % 4 == 0 ? random_page(random()) : content;
      std::memcpy(shadow, old.data(), kPageBytes);
      std::memcpy(page, content.data(), kPageBytes);
      pages.set_writable(false);
      const auto made = encode_page(1, page, shadow, out, round % 11 == 0);
      pages.set_writable(true);
      REQUIRE(made.bytes <= kRecordBytesMax);
      REQUIRE(std::memcmp(shadow, content.data(), kPageBytes) == 0);
      REQUIRE(ft::test::all_bytes({shadows.data(), shadow}, 0x77));
      REQUIRE(ft::test::all_bytes({shadow + kPageBytes, shadows.data() + shadows.size()}, 0x77));
      REQUIRE(ft::test::all_bytes({outs.data(), out}, 0xEE));
    }
  });
}

namespace {

/// A guest at work: for a while whole pages at a time, then single words, then clearing the page
/// and writing one word into it, so that encodes meet a page in motion.
void write_until(uint64_t* page, const std::atomic<bool>& stop) {
  auto* words = static_cast<volatile uint64_t*>(page);
  uint64_t x = 88172645463325252ull;
  const auto next = [&x] {
    x ^= x << 13;
    x ^= x >> 7;
    return x ^= x << 17;
  };
  while (!stop.load(std::memory_order_relaxed)) {
    const uint64_t mode = next() % 3;
    for (int step = 0; step < 200; step++) {
      for (size_t i = 0; mode == 0 && i < 512; i++) words[i] = next();
      for (size_t i = 0; mode == 1 && i < 20; i++) words[next() % 512] = next();
      for (size_t i = 0; mode == 2 && i < 512; i++) words[i] = 0;
      for (size_t i = 0; mode == 2 && i < 300; i++) words[511] = next() % 128 == 0;
    }
  }
}

}  // namespace

TEST_CASE("delta: a page that changes while it is encoded leaves record and shadow in agreement") {
  for_each_impl([] {
    alignas(4096) static uint64_t live[512];
    const auto* page = reinterpret_cast<const uint8_t*>(live);
    Page shadow{};
    std::memset(live, 0, sizeof live);
    std::vector<uint8_t> replica(kPageBytes, 0);
    std::vector<uint8_t> out(kRecordBytesMax);
    std::atomic<bool> stop{false};
    std::thread guest([&] { write_until(live, stop); });
    // Counted per kind: encodes after which the page was no longer what the shadow says.
    size_t moved[4] = {0, 0, 0, 0};
    const auto enough = [&moved] { return moved[2] > 500 && moved[3] > 50; };
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    bool agreed = true;
    while (agreed && !enough() && std::chrono::steady_clock::now() < deadline) {
      const auto made = encode_page(0, page, shadow.data(), out.data());
      moved[static_cast<size_t>(made.kind)] += std::memcmp(shadow.data(), page, kPageBytes) != 0;
      const auto record = std::span<const uint8_t>(out).first(made.bytes);
      agreed = ft::verify_records(record, 1).ok();
      if (agreed) ft::apply_records(record, replica);
      agreed = agreed && std::memcmp(replica.data(), shadow.data(), kPageBytes) == 0;
    }
    stop = true;
    guest.join();
    CHECK(agreed);
    CAPTURE(moved[2]);
    CAPTURE(moved[3]);
    CHECK(enough());
  });
}

TEST_CASE("delta: a fresh page is unchanged, zero, sparse or raw, and needs no shadow") {
  for_each_impl([] {
    std::vector<uint8_t> out(kRecordBytesMax);
    const auto fresh = [&](const Page& page, bool peer_zero) {
      const auto made = ft::encode_fresh_page(1, page.data(), peer_zero, out.data());
      const auto record = std::span<const uint8_t>(out).first(made.bytes);
      std::vector<uint8_t> peer(2 * kPageBytes, peer_zero ? 0 : 0x5a);
      REQUIRE(ft::verify_records(record, 2).ok());
      ft::apply_records(record, peer);
      CHECK(std::memcmp(peer.data() + kPageBytes, page.data(), kPageBytes) == 0);
      return made.kind;
    };
    Page page{};
    CHECK(fresh(page, true) == PageKind::kUnchanged);
    CHECK(fresh(page, false) == PageKind::kZero);
    // More and more lines with something in them.
    for (size_t line = 0; line < 64; line++) {
      page[line * 64 + line] = 7;
      CHECK(ft::lines_with_data(page.data()) == line + 1);
      CHECK(fresh(page, true) == (line < 40 ? PageKind::kSparseXor : PageKind::kRaw));
      CHECK(fresh(page, false) == PageKind::kRaw);
    }
    CHECK(fresh(random_page(8), true) == PageKind::kRaw);
  });
}

TEST_CASE("delta: a run is as long as raw records of neighbouring pages follow each other") {
  std::vector<uint8_t> records;
  const auto add = [&](uint32_t gfn, const Page& page) {
    std::vector<uint8_t> out(kRecordBytesMax);
    const auto made = ft::encode_fresh_page(gfn, page.data(), false, out.data());
    records.insert(records.end(), out.begin(), out.begin() + static_cast<ptrdiff_t>(made.bytes));
  };
  for (const uint32_t gfn : {4u, 5u, 6u, 8u}) add(gfn, random_page(gfn));
  add(9, Page{});
  const auto at = [&](size_t pages) { return std::span(records).subspan(pages * kRecordBytesMax); };
  CHECK(ft::leading_raw_run(records, 256).gfn == 4);
  CHECK(ft::leading_raw_run(records, 256).pages == 3);
  CHECK(ft::leading_raw_run(records, 2).pages == 2);
  CHECK(ft::leading_raw_run(at(3), 256).gfn == 8);
  CHECK(ft::leading_raw_run(at(3), 256).pages == 1);
  CHECK(ft::leading_raw_run(at(4), 256).pages == 0);
  CHECK(ft::record_gfn(at(4)) == 9);
  CHECK(ft::leading_raw_run({}, 256).pages == 0);
  std::vector<uint8_t> memory(16 * kPageBytes, 1);
  CHECK(ft::apply_record(at(4), memory) == ft::kRecordHeaderBytes);
  CHECK(memory[9 * kPageBytes] == 0);
}

TEST_SUITE("threads") {
  TEST_CASE("delta: several threads encode their own pages at once") {
    std::vector<std::thread> workers;
    std::atomic<int> wrong{0};
    for (uint64_t id = 0; id < 4; id++) {
      workers.emplace_back([id, &wrong] {
        std::mt19937_64 random(id);
        Page page = random_page(id);
        Page shadow{};
        std::vector<uint8_t> replica(kPageBytes, 0);
        for (int round = 0; round < 200; round++) {
          ft::test::mutate(page, random);
          const Record made = ft::test::encode(0, page, shadow);
          if (!ft::verify_records(made.bytes, 1).ok()) wrong++;
          ft::apply_records(made.bytes, replica);
          if (std::memcmp(replica.data(), page.data(), kPageBytes) != 0) wrong++;
        }
      });
    }
    for (auto& worker : workers) worker.join();
    CHECK(wrong == 0);
  }
}

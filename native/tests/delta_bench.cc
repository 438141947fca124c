// Times the page delta and the CRC: ns per page and GB/s, scalar against vector, warm (one page
// again and again) and cold (a walk over far more memory than the caches hold).
// Usage: delta_bench [--json]. Not a test: it asserts nothing.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "core/crc32c.h"
#include "core/mapped_region.h"
#include "delta/page_delta.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kColdPages = 16384;  // 64 MiB of pages and as much of shadows
constexpr int kRounds = 7;

double ns_since(Clock::time_point from) {
  return std::chrono::duration<double, std::nano>(Clock::now() - from).count();
}

struct Arena {
  ft::MappedRegion pages;
  ft::MappedRegion shadows;
};

/// Flips `count` words of a page, spread evenly; flipping twice restores them.
void flip_words(uint8_t* page, size_t count) {
  if (count == 0) return;
  const size_t step = 512 / count;
  for (size_t i = 0; i < count; i++) page[i * step * 8] ^= 0x5a;
}

/// Best of several rounds, ns per encode, of `pages` pages each with `words` changed words.
/// The flipping is timed on its own and subtracted when warm; when cold it is done beforehand by a
/// whole pass, so that the pages left the caches again.
double encode_ns(Arena& arena, size_t pages, size_t repeats, size_t words) {
  static uint8_t out[ft::kRecordBytesMax];
  double best = 1e18;
  for (int round = 0; round < kRounds; round++) {
    double total = 0;
    for (size_t r = 0; r < repeats; r++) {
      for (size_t i = 0; i < pages; i++) flip_words(arena.pages.data() + i * 4096, words);
      const auto from = Clock::now();
      size_t bytes = 0;
      for (size_t i = 0; i < pages; i++) {
        uint8_t* page = arena.pages.data() + i * 4096;
        uint8_t* shadow = arena.shadows.data() + i * 4096;
        bytes += ft::encode_page(static_cast<uint32_t>(i), page, shadow, out).bytes;
        __asm__ volatile("" : : "r"(out) : "memory");
      }
      total += ns_since(from);
      __asm__ volatile("" : : "r"(bytes));
    }
    best = std::min(best, total / static_cast<double>(pages * repeats));
  }
  return best;
}

double crc_gb_per_s(uint32_t (*crc)(std::span<const uint8_t>, uint32_t),
                    std::span<const uint8_t> bytes, size_t repeats) {
  double best = 1e18;
  for (int round = 0; round < kRounds; round++) {
    uint32_t sum = 0;
    const auto from = Clock::now();
    for (size_t i = 0; i < repeats; i++) sum = crc(bytes, sum);
    best = std::min(best, ns_since(from));
    __asm__ volatile("" : : "r"(sum));
  }
  return static_cast<double>(bytes.size() * repeats) / best;
}

void bench_apply(Arena& arena, const char* name, size_t words) {
  constexpr size_t kPages = 8;
  std::vector<uint8_t> records(kPages * ft::kRecordBytesMax);
  size_t bytes = 0;
  for (uint32_t i = 0; i < kPages; i++) {
    uint8_t* page = arena.pages.data() + i * 4096;
    flip_words(page, words);
    bytes += ft::encode_page(i, page, arena.shadows.data() + i * 4096, &records[bytes]).bytes;
  }
  double verify_best = 1e18;
  double apply_best = 1e18;
  const std::span<const uint8_t> batch(records.data(), bytes);
  for (int round = 0; round < kRounds; round++) {
    constexpr size_t kRepeats = 2000;
    auto from = Clock::now();
    for (size_t i = 0; i < kRepeats; i++) {
      if (!ft::verify_records(batch, kPages).ok()) std::abort();
    }
    verify_best = std::min(verify_best, ns_since(from) / (kRepeats * kPages));
    from = Clock::now();
    for (size_t i = 0; i < kRepeats; i++) {
      ft::apply_records(batch, arena.shadows.span().first(kPages * 4096));
    }
    apply_best = std::min(apply_best, ns_since(from) / (kRepeats * kPages));
  }
  // An even number of XORs leaves the shadows as they were.
  std::printf("%-16s %10.1f %10.1f\n", name, verify_best, apply_best);
}

}  // namespace

int main() {
  auto pages = ft::MappedRegion::anonymous(kColdPages * 4096, "pages");
  auto shadows = ft::MappedRegion::anonymous(kColdPages * 4096, "shadows");
  if (!pages.ok() || !shadows.ok()) {
    std::fprintf(stderr, "delta_bench: no room for 128 MiB\n");
    return 1;
  }
  Arena arena{pages.take(), shadows.take()};
  std::mt19937_64 random(7);
  for (size_t i = 0; i < kColdPages * 512; i++) {
    const uint64_t word = random() | 1;
    std::memcpy(arena.pages.data() + i * 8, &word, 8);
  }
  std::memcpy(arena.shadows.data(), arena.pages.data(), kColdPages * 4096);

  struct Case {
    const char* name;
    size_t words;
  };
  constexpr Case kCases[] = {
      {"unchanged", 0}, {"8 bytes", 1}, {"10 % of words", 51}, {"100 % of words", 512}};
  std::printf("encode, ns/page  scalar warm  avx2 warm  scalar cold  avx2 cold\n");
  for (const Case& c : kCases) {
    double ns[4] = {0, 0, 0, 0};
    for (int avx2 = 0; avx2 < 2; avx2++) {
      if (!ft::set_delta_impl(avx2 != 0 ? ft::DeltaImpl::kAvx2 : ft::DeltaImpl::kScalar)) continue;
      ns[avx2] = encode_ns(arena, 16, 500, c.words);
      ns[2 + avx2] = encode_ns(arena, kColdPages, 1, c.words);
    }
    std::printf("%-16s %11.1f %10.1f %12.1f %10.1f\n", c.name, ns[0], ns[1], ns[2], ns[3]);
  }

  std::printf("\ndecode, ns/page      verify      apply\n");
  for (const Case& c : kCases) {
    if (c.words != 0) bench_apply(arena, c.name, c.words);
  }

  std::printf("\ncrc32c, GB/s          fast     scalar\n");
  for (const size_t bytes : {size_t{64}, size_t{1024}, size_t{4096}, size_t{262144}}) {
    const auto span = arena.pages.span().first(bytes);
    const size_t repeats = (size_t{32} << 20) / bytes;
    std::printf("%8zu bytes %12.2f %10.2f\n", bytes, crc_gb_per_s(&ft::crc32c, span, repeats),
                crc_gb_per_s(&ft::crc32c_scalar, span, repeats / 8));
  }
  return 0;
}

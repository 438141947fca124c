// The newest console output: what is kept, what a reader that fell behind gets, and who is told.
#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "machine/console_tail.h"

using namespace ft;  // NOLINT: the test is about this namespace

namespace {

void say(ConsoleTail& tail, const std::string& text) {
  tail.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

std::string heard(const ConsoleTail& tail, uint64_t from, size_t room = 200'000) {
  std::vector<uint8_t> out(room);
  const auto piece = tail.read(from, out);
  return {out.begin(), out.begin() + static_cast<ptrdiff_t>(piece.bytes)};
}

}  // namespace

TEST_CASE("console tail: a reader keeps its own place") {
  ConsoleTail tail;
  CHECK(tail.head() == 0);
  CHECK(heard(tail, 0).empty());
  say(tail, "hello ");
  say(tail, "world");
  CHECK(tail.head() == 11);
  CHECK(heard(tail, 0) == "hello world");
  CHECK(heard(tail, 6) == "world");
  CHECK(heard(tail, 0, 5) == "hello");
  CHECK(heard(tail, 11).empty());
  // A place that nobody has written to yet, such as one in another machine's output.
  CHECK(heard(tail, 500).empty());
}

TEST_CASE("console tail: who falls behind goes on at the oldest byte that is kept") {
  ConsoleTail tail;
  std::string all;
  for (int i = 0; i < 30'000; i++) {
    const std::string line = "line " + std::to_string(i) + "\n";
    all += line;
    say(tail, line);
  }
  std::vector<uint8_t> out(kConsoleTailBytes);
  const auto piece = tail.read(0, out);
  CHECK(piece.bytes == kConsoleTailBytes);
  CHECK(piece.first == all.size() - kConsoleTailBytes);
  CHECK(std::string(out.begin(), out.end()) == all.substr(piece.first));
  // Any place, any length: as if it had been one long string.
  for (uint64_t from = piece.first; from < all.size(); from += 4093) {
    CHECK(heard(tail, from, 5000) == all.substr(from, 5000));
  }
}

TEST_CASE("console tail: more than a ring at once leaves its end") {
  ConsoleTail tail;
  std::string all(3 * kConsoleTailBytes + 17, ' ');
  for (size_t i = 0; i < all.size(); i++) all[i] = static_cast<char>('a' + i % 26);
  say(tail, "before");
  say(tail, all);
  CHECK(tail.head() == 6 + all.size());
  CHECK(heard(tail, 0) == all.substr(all.size() - kConsoleTailBytes));
}

TEST_CASE("console tail: only who watches is told") {
  ConsoleTail tail;
  int told = 0;
  tail.set_on_output([&] { told++; });
  say(tail, "a");
  CHECK(told == 0);
  tail.watch(true);
  say(tail, "b");
  CHECK(told == 1);
  tail.watch(false);
  say(tail, "c");
  CHECK(told == 1);
}

TEST_SUITE("threads") {
  TEST_CASE("console tail: a writer and a reader at once") {
    ConsoleTail tail;
    constexpr uint64_t kBytes = 4'000'000;
    std::thread writer([&] {
      std::vector<uint8_t> bytes;
      for (uint64_t at = 0; at < kBytes; at += bytes.size()) {
        bytes.resize(1 + at % 977);
        for (size_t i = 0; i < bytes.size(); i++) bytes[i] = static_cast<uint8_t>((at + i) % 251);
        tail.write(bytes);
      }
    });
    uint64_t place = 0;
    uint64_t wrong = 0;
    std::vector<uint8_t> out(3000);
    while (place < kBytes) {
      const auto piece = tail.read(place, out);
      for (size_t i = 0; i < piece.bytes; i++) wrong += out[i] != (piece.first + i) % 251;
      place = piece.first + piece.bytes;
    }
    writer.join();
    CHECK(wrong == 0);
  }
}

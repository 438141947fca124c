// A bit for every page of guest memory.
// Thread: whoever owns it.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

namespace ft {

class PageBits {
 public:
  explicit PageBits(uint64_t pages) : pages_(pages), words_((pages + 63) / 64) {}
  uint64_t pages() const { return pages_; }
  bool has(uint64_t gfn) const { return (words_[gfn / 64] >> (gfn % 64) & 1) != 0; }
  void set(uint64_t gfn) { words_[gfn / 64] |= 1ull << (gfn % 64); }
  void clear(uint64_t gfn) { words_[gfn / 64] &= ~(1ull << (gfn % 64)); }
  void clear_all() { std::fill(words_.begin(), words_.end(), 0); }
  void set_all() {
    std::fill(words_.begin(), words_.end(), ~0ull);
    if (pages_ % 64 != 0) words_.back() = (1ull << (pages_ % 64)) - 1;
  }
  void swap(PageBits& other) { words_.swap(other.words_); }
  void add_all(const PageBits& other) {
    for (size_t i = 0; i < words_.size(); i++) words_[i] |= other.words_[i];
  }
  uint64_t count() const {
    uint64_t n = 0;
    for (const uint64_t word : words_) n += static_cast<uint64_t>(std::popcount(word));
    return n;
  }
  /// Calls act(gfn) for every bit that is set, in order.
  template <typename Act>
  void for_each(Act act) const {
    for (size_t i = 0; i < words_.size(); i++) {
      for (uint64_t word = words_[i]; word != 0; word &= word - 1) {
        act(i * 64 + static_cast<uint64_t>(std::countr_zero(word)));
      }
    }
  }

  /// As bytes (bit i is bit i mod 8 of byte i / 8; the bits behind the last page are zero).
  static size_t bytes_for(uint64_t pages) { return (pages + 7) / 8; }
  void write(std::span<uint8_t> out) const {
    std::memcpy(out.data(), words_.data(), std::min(out.size(), bytes_for(pages_)));
  }
  /// Takes what write() wrote. False when it has another length, or a bit behind the last page.
  [[nodiscard]] bool read(std::span<const uint8_t> bytes) {
    if (bytes.size() != bytes_for(pages_)) return false;
    if (pages_ % 8 != 0 && (bytes.back() >> (pages_ % 8)) != 0) return false;
    clear_all();
    if (!bytes.empty()) std::memcpy(words_.data(), bytes.data(), bytes.size());
    return true;
  }

 private:
  uint64_t pages_;
  std::vector<uint64_t> words_;
};

}  // namespace ft

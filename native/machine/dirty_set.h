// The set of pages of one cut: a bitmap to tell what is in it, a list to walk it.
// Thread: the cutting thread only.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace ft {

class DirtySet {
 public:
  explicit DirtySet(uint64_t page_count)
      : bitmap_((page_count + 63) / 64), page_count_(page_count) {
    gfns_.reserve(65536);
  }

  /// Adds a page once. KVM logs a page more than once when kernel-mode stores are emulated.
  /// A gfn beyond guest memory is not a page of ours and is left out.
  void add(uint64_t gfn) {
    if (gfn >= page_count_) return;
    uint64_t& word = bitmap_[gfn / 64];
    const uint64_t bit = 1ull << (gfn % 64);
    if ((word & bit) != 0) return;
    word |= bit;
    gfns_.push_back(static_cast<uint32_t>(gfn));
  }
  std::span<const uint32_t> gfns() const { return gfns_; }
  size_t size() const { return gfns_.size(); }
  void clear() {
    for (const uint32_t gfn : gfns_) bitmap_[gfn / 64] = 0;
    gfns_.clear();
  }

 private:
  std::vector<uint64_t> bitmap_;
  std::vector<uint32_t> gfns_;
  uint64_t page_count_;
};

}  // namespace ft

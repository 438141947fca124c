// The ring of the newest console output.
#include "machine/console_tail.h"

#include <algorithm>
#include <cstring>

namespace ft {

void ConsoleTail::write(std::span<const uint8_t> bytes) {
  {
    const std::lock_guard lock(mutex_);
    // Of more than a ring only the end can be kept.
    const size_t skip = bytes.size() > ring_.size() ? bytes.size() - ring_.size() : 0;
    head_ += skip;
    bytes = bytes.subspan(skip);
    const size_t at = head_ % ring_.size();
    const size_t first = std::min(bytes.size(), ring_.size() - at);
    std::memcpy(ring_.data() + at, bytes.data(), first);
    std::memcpy(ring_.data(), bytes.data() + first, bytes.size() - first);
    head_ += bytes.size();
  }
  if (watched_.load() && on_output_) on_output_();
}

uint64_t ConsoleTail::head() const {
  const std::lock_guard lock(mutex_);
  return head_;
}

ConsoleTail::Piece ConsoleTail::read(uint64_t from, std::span<uint8_t> out) const {
  const std::lock_guard lock(mutex_);
  const uint64_t oldest = head_ - std::min<uint64_t>(head_, ring_.size());
  const uint64_t start = std::clamp(from, oldest, head_);
  const size_t n = std::min<uint64_t>(head_ - start, out.size());
  const size_t at = start % ring_.size();
  const size_t first = std::min(n, ring_.size() - at);
  std::memcpy(out.data(), ring_.data() + at, first);
  std::memcpy(out.data() + first, ring_.data(), n - first);
  return {start, n};
}

}  // namespace ft

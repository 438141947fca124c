// Reading a fuzzer's bytes as numbers and slices; past the end everything is zero or empty.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>

namespace ft::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t bytes) : rest_(data, bytes) {}

  template <typename T>
  T number() {
    T value{};
    const size_t n = std::min(sizeof value, rest_.size());
    if (n > 0) std::memcpy(&value, rest_.data(), n);
    rest_ = rest_.subspan(n);
    return value;
  }
  std::span<const uint8_t> slice(size_t bytes) {
    const auto taken = rest_.first(std::min(bytes, rest_.size()));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  std::span<const uint8_t> rest() { return slice(rest_.size()); }
  bool empty() const { return rest_.empty(); }

 private:
  std::span<const uint8_t> rest_;
};

}  // namespace ft::fuzz

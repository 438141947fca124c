// Memory for tests that must notice a single byte written or read outside: whole pages between two
// pages that may not be touched at all.
//
//   ┌────────────┬───────────────────┬────────────┐
//   │ PROT_NONE  │ pages × 4096      │ PROT_NONE  │
//   └────────────┴───────────────────┴────────────┘
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "core/mapped_region.h"

namespace ft::test {

class GuardedPages {
 public:
  explicit GuardedPages(size_t pages)
      : region_(MappedRegion::anonymous((pages + 2) * 4096, "guarded pages").take()),
        bytes_(pages * 4096) {
    FT_CHECK(::mprotect(region_.data(), 4096, PROT_NONE) == 0, "mprotect failed");
    FT_CHECK(::mprotect(data() + bytes_, 4096, PROT_NONE) == 0, "mprotect failed");
  }
  uint8_t* data() const { return region_.data() + 4096; }
  size_t size() const { return bytes_; }
  std::span<uint8_t> span() const { return {data(), bytes_}; }

  /// Copies `bytes` so that they end exactly where the upper guard begins: reading one byte too
  /// many stops the process. bytes.size() ≤ size().
  std::span<uint8_t> place_at_end(std::span<const uint8_t> bytes) const {
    FT_CHECK(bytes.size() <= bytes_, "too many bytes for these guarded pages");
    uint8_t* at = data() + bytes_ - bytes.size();
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
    return {at, bytes.size()};
  }

  /// Read-only from now on (or writable again): a write stops the process.
  void set_writable(bool writable) const {
    const int prot = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    FT_CHECK(::mprotect(data(), bytes_, prot) == 0, "mprotect failed");
  }

 private:
  MappedRegion region_;
  size_t bytes_;
};

}  // namespace ft::test

// Sole owner of an mmap'd range; unmaps it when it goes out of scope.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "core/result.h"

namespace ft {

class MappedRegion {
 public:
  MappedRegion() = default;
  MappedRegion(MappedRegion&& o) noexcept
      : base_(std::exchange(o.base_, nullptr)), bytes_(std::exchange(o.bytes_, 0)) {}
  MappedRegion& operator=(MappedRegion&& o) noexcept {
    if (this != &o) {
      reset();
      base_ = std::exchange(o.base_, nullptr);
      bytes_ = std::exchange(o.bytes_, 0);
    }
    return *this;
  }
  MappedRegion(const MappedRegion&) = delete;
  MappedRegion& operator=(const MappedRegion&) = delete;
  ~MappedRegion() { reset(); }

  /// Maps `bytes` of `fd` at `offset`, shared, readable and writable.
  static Result<MappedRegion> shared(int fd, size_t bytes, off_t offset, const char* what) {
    return map(bytes, MAP_SHARED, fd, offset, what);
  }
  /// Reserves `bytes` of zeroed private memory; pages take room only once they are written.
  static Result<MappedRegion> anonymous(size_t bytes, const char* what) {
    return map(bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0, what);
  }

  uint8_t* data() const { return static_cast<uint8_t*>(base_); }
  size_t size() const { return bytes_; }
  std::span<uint8_t> span() const { return {data(), bytes_}; }
  explicit operator bool() const { return base_ != nullptr; }

  /// Asks for large pages where the system has them: fewer misses while copying. Memory is then
  /// taken in larger pieces.
  void use_huge_pages() {
    if (base_ != nullptr) ::madvise(base_, bytes_, MADV_HUGEPAGE);
  }
  /// Gives the pages of an anonymous region back to the system; they read as zero afterwards.
  void discard() {
    if (base_ != nullptr) FT_CHECK(::madvise(base_, bytes_, MADV_DONTNEED) == 0, "madvise failed");
  }
  void reset() {
    if (base_ != nullptr) ::munmap(base_, bytes_);
    base_ = nullptr;
    bytes_ = 0;
  }

 private:
  static Result<MappedRegion> map(size_t bytes, int flags, int fd, off_t offset, const char* what) {
    void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, offset);
    if (p == MAP_FAILED) {
      return sys_error("FT_ERR_MAP", "cannot map " + std::to_string(bytes) + " bytes for " + what);
    }
    MappedRegion r;
    r.base_ = p;
    r.bytes_ = bytes;
    return r;
  }
  void* base_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace ft

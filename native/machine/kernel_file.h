// A kernel image as an open file: reading parts of it, and saying what is wrong with it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/result.h"
#include "core/unique_fd.h"

namespace ft {

/// "0x1000"
std::string hex_text(uint64_t value);

class KernelFile {
 public:
  /// Error: FT_ERR_KERNEL_OPEN (cannot be read, or is no regular file).
  static Result<KernelFile> open(const std::string& path);

  uint64_t bytes() const { return bytes_; }
  bool contains(uint64_t offset, uint64_t bytes) const {
    return offset <= bytes_ && bytes <= bytes_ - offset;
  }
  /// Fills `out` from `offset`; `what` is the part that is read, for the error's sentence.
  /// Errors: FT_ERR_KERNEL_TRUNCATED, FT_ERR_KERNEL_OPEN.
  Status read_at(uint64_t offset, std::span<uint8_t> out, const char* what) const;

  /// "kernel PATH: <what>"
  Error error(const char* code, const std::string& what) const;
  /// FT_ERR_KERNEL_TRUNCATED: `what` reaches past the end of the file.
  Error truncated(const std::string& what) const;
  /// FT_ERR_KERNEL_TOO_LARGE, with what is needed and what there is.
  Error too_large(uint64_t needs_bytes, uint64_t has_bytes) const;

 private:
  std::string path_;
  UniqueFd fd_;
  uint64_t bytes_ = 0;
};

/// FT_ERR_CMDLINE_TOO_LONG when `cmdline` has more than `bytes_max` bytes (without its NUL).
Status check_cmdline(const std::string& cmdline, uint64_t bytes_max);

}  // namespace ft

// A disk image: a raw file or a block device, opened for one node alone.
//
// Bytes move through io_engine.h; this file is about what the image is and whether it may be used.
// Thread: open and close on the event loop; the facts never change afterwards.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"
#include "core/unique_fd.h"

namespace ft {

/// The unit in which guests address a disk; offsets and lengths are multiples of it everywhere.
inline constexpr uint32_t kSectorBytes = 512;
/// 256 TiB: what the bookkeeping of regions can count.
inline constexpr uint64_t kImageBytesMax = 1ull << 48;

/// Tells whether somebody else replaced or changed an image while no node had it. Zeroes for a
/// block device, which says neither.
struct ImageStamp {
  uint64_t inode = 0;
  int64_t modified_ns = 0;
};

class DiskImage {
 public:
  struct Options {
    std::string path;
    /// The guest cannot write, and nothing writes to the image on either side.
    bool read_only = false;
    /// How long to wait for a lock that somebody else holds. A killed process keeps its lock until
    /// the last of its transfers has ended, and only then may the image be used again.
    int busy_ms_max = 1000;
  };

  /// Opens and locks the image: exclusively, or shared when read-only. O_DIRECT where the file
  /// system takes it at 512 bytes, buffered otherwise. Errors: FT_ERR_DISK_OPEN (missing, not
  /// permitted, no regular file and no block device), FT_ERR_DISK_BUSY (another node or process
  /// has it), FT_ERR_DISK_SIZE (empty, too large, or no multiple of 512 bytes).
  static Result<DiskImage> open(const Options& options);

  int fd() const { return fd_.get(); }
  uint64_t bytes() const { return bytes_; }
  bool read_only() const { return read_only_; }
  bool direct() const { return direct_; }
  bool block_device() const { return block_device_; }
  const std::string& path() const { return path_; }
  /// What tells two read-only images apart without reading them whole: crc32c of 4 KiB blocks
  /// spread evenly over the image. Error: FT_ERR_DISK_IO.
  Result<uint32_t> fingerprint() const;
  /// As the image is now. Error: FT_ERR_DISK_IO.
  Result<ImageStamp> stamp() const;

 private:
  UniqueFd fd_;
  std::string path_;
  uint64_t bytes_ = 0;
  bool read_only_ = false;
  bool direct_ = false;
  bool block_device_ = false;
};

}  // namespace ft

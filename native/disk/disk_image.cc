// Opens and locks an image, finds out whether it takes O_DIRECT at 512 bytes, and takes the
// fingerprint of a read-only one.
#include "disk/disk_image.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "core/crc32c.h"
#include "disk/io_engine.h"

namespace ft {
namespace {

constexpr int kBusyRetryMs = 20;

/// Locks the whole file for this open file description. Such a lock outlives a killed process for
/// exactly as long as its transfers are still under way, and it is what QEMU respects too.
int lock_whole(int fd, bool read_only, int wait_ms_max) {
  struct flock lock = {};
  lock.l_type = static_cast<short>(read_only ? F_RDLCK : F_WRLCK);
  lock.l_whence = SEEK_SET;
  for (int waited = 0;; waited += kBusyRetryMs) {
    if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return 0;
    if (errno != EAGAIN && errno != EACCES) return errno;
    if (waited >= wait_ms_max) return EAGAIN;
    ::poll(nullptr, 0, kBusyRetryMs);
  }
}

/// Whether O_DIRECT works at offsets that are multiples of a sector: a disk with sectors of 4,096
/// bytes refuses that, some file systems refuse O_DIRECT altogether.
bool switch_direct_on(int fd, uint64_t image_bytes) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) return false;
  IoBuffer sector(kSectorBytes);
  const off_t offset = image_bytes >= 2 * kSectorBytes ? kSectorBytes : 0;
  if (::pread(fd, sector.data(), kSectorBytes, offset) == kSectorBytes) return true;
  ::fcntl(fd, F_SETFL, flags);
  return false;
}

Error busy(const std::string& path) {
  return Error{"FT_ERR_DISK_BUSY", EBUSY,
               "The disk image " + path +
                   " is in use by another process; end that process, or give this node an image "
                   "of its own."};
}

Error open_failed(const std::string& path, const char* what) {
  Error error = sys_error("FT_ERR_DISK_OPEN", std::string(what) + " " + path);
  error.message += "; check the path and its permissions.";
  return error;
}

}  // namespace

Result<DiskImage> DiskImage::open(const Options& options) {
  const std::string& path = options.path;
  struct stat info = {};
  if (::stat(path.c_str(), &info) != 0) return open_failed(path, "Cannot open the disk image");
  const bool block = S_ISBLK(info.st_mode);
  if (!block && !S_ISREG(info.st_mode)) {
    return Error{"FT_ERR_DISK_OPEN", EINVAL,
                 "The disk image " + path + " is neither a regular file nor a block device."};
  }
  int flags = O_CLOEXEC | (options.read_only ? O_RDONLY : O_RDWR);
  // On a block device this keeps out, and is refused by, a mounted file system.
  if (block && !options.read_only) flags |= O_EXCL;
  DiskImage image;
  image.fd_ = UniqueFd(::open(path.c_str(), flags));
  if (!image.fd_.valid()) {
    return errno == EBUSY ? busy(path) : open_failed(path, "Cannot open the disk image");
  }
  const int locked = lock_whole(image.fd(), options.read_only, options.busy_ms_max);
  if (locked == EAGAIN) return busy(path);
  if (locked != 0) {
    errno = locked;
    return open_failed(path, "Cannot lock the disk image");
  }
  if (block) {
    if (::ioctl(image.fd(), BLKGETSIZE64, &image.bytes_) != 0) {
      return open_failed(path, "Cannot read the size of the block device");
    }
  } else {
    if (::fstat(image.fd(), &info) != 0) return open_failed(path, "Cannot examine the disk image");
    image.bytes_ = static_cast<uint64_t>(info.st_size);
  }
  if (image.bytes_ == 0 || image.bytes_ % kSectorBytes != 0 || image.bytes_ > kImageBytesMax) {
    return Error{"FT_ERR_DISK_SIZE", EINVAL,
                 "The disk image " + path + " has " + std::to_string(image.bytes_) +
                     " bytes; a disk needs a multiple of 512, at least 512 and at most 256 TiB."};
  }
  image.path_ = path;
  image.read_only_ = options.read_only;
  image.block_device_ = block;
  image.direct_ = switch_direct_on(image.fd(), image.bytes_);
  return image;
}

Result<uint32_t> DiskImage::fingerprint() const {
  constexpr uint64_t kBlockBytes = 4096;
  constexpr uint64_t kBlocksMax = 1024;
  const uint64_t blocks = (bytes_ + kBlockBytes - 1) / kBlockBytes;
  const uint64_t taken = std::min(blocks, kBlocksMax);
  IoBuffer buffer(kBlockBytes);
  uint32_t crc = 0;
  for (uint64_t i = 0; i < taken; i++) {
    // The first and the last block are always among them.
    const uint64_t block = taken == 1 ? 0 : i * (blocks - 1) / (taken - 1);
    const uint64_t offset = block * kBlockBytes;
    const uint64_t length = std::min(kBlockBytes, bytes_ - offset);
    const ssize_t got = ::pread(fd(), buffer.data(), length, static_cast<off_t>(offset));
    if (got != static_cast<ssize_t>(length)) {
      if (got >= 0) errno = EIO;
      return sys_error("FT_ERR_DISK_IO", "Cannot read the disk image " + path_ + " at byte " +
                                             std::to_string(offset));
    }
    crc = crc32c({buffer.data(), static_cast<size_t>(length)}, crc);
  }
  return crc;
}

Result<ImageStamp> DiskImage::stamp() const {
  ImageStamp stamp;
  if (block_device_) {
    // Grows with every device that comes, so that another one under the same name is another one;
    // kernels before 5.15 do not tell.
    uint64_t sequence = 0;
    if (::ioctl(fd(), BLKGETDISKSEQ, &sequence) == 0) stamp.inode = sequence;
    return stamp;
  }
  struct stat info = {};
  if (::fstat(fd(), &info) != 0) {
    return sys_error("FT_ERR_DISK_IO", "Cannot examine the disk image " + path_);
  }
  stamp.inode = info.st_ino;
  stamp.modified_ns = static_cast<int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 +
                      static_cast<int64_t>(info.st_mtim.tv_nsec);
  return stamp;
}

}  // namespace ft

// Buffers, what both engines share, and the choice between them.
#include "disk/io_engine.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstring>

#include "disk/io_support.h"
#include "disk/io_threads.h"
#include "disk/io_uring.h"

namespace ft {

IoBuffer::IoBuffer(size_t bytes) : bytes_(bytes) {
  constexpr size_t kAlignment = 4096;
  FT_CHECK(bytes > 0, "an empty transfer");
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  data_ = static_cast<uint8_t*>(std::aligned_alloc(kAlignment, rounded));
  FT_CHECK(data_ != nullptr, "out of memory for a disk transfer");
}

bool IoBuffer::all_zero() const {
  // Sixteen bytes by hand, then the buffer against itself, shifted by them.
  const size_t head = bytes_ < 16 ? bytes_ : 16;
  for (size_t i = 0; i < head; i++) {
    if (data_[i] != 0) return false;
  }
  return bytes_ == head || std::memcmp(data_, data_ + head, bytes_ - head) == 0;
}

Result<UniqueFd> make_event_fd() {
  UniqueFd fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!fd.valid()) return sys_error("FT_ERR_RESOURCES", "Cannot make an eventfd for a disk");
  return fd;
}

void drain_event_fd(int fd) {
  uint64_t count;
  while (::read(fd, &count, sizeof count) < 0 && errno == EINTR) {
  }
}

void IoEngine::wake() const {
  const uint64_t one = 1;
  while (::write(event_fd(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

const IoBuffer& zero_buffer() {
  static const IoBuffer* const kZeros = [] {
    auto* buffer = new IoBuffer(kZeroPieceBytes);  // NOLINT: lives as long as the process
    std::memset(buffer->data(), 0, buffer->bytes());
    return buffer;
  }();
  return *kZeros;
}

bool IoProgress::advance(int64_t outcome, int& error) {
  error = 0;
  if (outcome == -EINTR || outcome == -EAGAIN) return false;
  if (op.kind == IoKind::kZero && !write_zeros) {
    // Not every file system and block device can punch a hole.
    if (outcome == -EOPNOTSUPP || outcome == -ENOSYS || outcome == -EINVAL) {
      write_zeros = true;
      return false;
    }
    error = static_cast<int>(-outcome);
    return true;
  }
  if (outcome < 0 || op.kind == IoKind::kFlush) {
    error = static_cast<int>(-outcome);
    return true;
  }
  // Nothing more to read, or nothing more taken: the image has become shorter than the disk.
  if (outcome == 0) {
    error = EIO;
    return true;
  }
  moved += static_cast<uint64_t>(outcome);
  // With O_DIRECT a rest that is no whole sector can be neither read nor written.
  if (moved % 512 != 0 && moved < op.bytes) moved -= moved % 512;
  return moved >= op.bytes;
}

Result<std::unique_ptr<IoEngine>> IoEngine::create(int fd, bool allow_uring) {
  if (allow_uring) {
    auto uring = make_uring_engine(fd);
    if (uring) return uring;
  }
  return make_thread_engine(fd);
}

}  // namespace ft

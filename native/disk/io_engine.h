// Moves bytes between buffers and an image, off the threads that must not wait: io_uring where the
// kernel has it, else a small pool of threads. No order among the operations given to it; order is
// the business of replicated_disk.h.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <vector>

#include "core/result.h"

namespace ft {

/// Memory for one transfer, aligned for O_DIRECT. Shared by the operation that writes it to the
/// image and by the epoch that carries it to the standby; nobody writes to it once it is submitted.
class IoBuffer {
 public:
  /// `bytes` > 0. Memory that cannot be had stops the process. The content is not initialised.
  explicit IoBuffer(size_t bytes);
  ~IoBuffer() { std::free(data_); }
  IoBuffer(const IoBuffer&) = delete;
  IoBuffer& operator=(const IoBuffer&) = delete;
  uint8_t* data() { return data_; }
  const uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  std::span<uint8_t> span() { return {data_, bytes_}; }
  /// Whether every byte is zero.
  bool all_zero() const;

 private:
  uint8_t* data_;
  size_t bytes_;
};

enum class IoKind : uint8_t { kRead = 1, kWrite = 2, kZero = 3, kFlush = 4 };

struct IoOp {
  IoKind kind = IoKind::kFlush;
  uint64_t offset = 0;  // multiple of 512
  uint64_t bytes = 0;   // multiple of 512; a read's or write's equals data->bytes()
  std::shared_ptr<IoBuffer> data;
  uint64_t id = 0;  // comes back with the completion
};

struct IoDone {
  uint64_t id;
  int error;  // 0, or an errno; a transfer past the image's end is EIO
};

/// Thread: submit, start and reap belong to one thread (the disk thread); wake to any.
class IoEngine {
 public:
  /// Enough for a fast disk at 4 KiB; also the number of operations looked at for order.
  static constexpr uint32_t kDepth = 128;

  virtual ~IoEngine() = default;
  /// Takes an operation; it may rest until start(). At most kDepth may be under way. kZero makes
  /// the range read as zeros (a hole where the image can have one).
  virtual void submit(const IoOp& op) = 0;
  /// Sets everything submitted going.
  virtual void start() = 0;
  /// Takes what has ended, and makes event_fd unreadable. Never waits.
  virtual void reap(std::vector<IoDone>& out) = 0;
  /// Readable while reap() would give something, and after wake().
  virtual int event_fd() const = 0;
  virtual const char* name() const = 0;  // "io_uring" or "threads"
  /// Makes event_fd readable until the next reap().
  void wake() const;

  /// `fd` outlives the engine. Destroying an engine waits for what is under way.
  /// Error: FT_ERR_RESOURCES.
  static Result<std::unique_ptr<IoEngine>> create(int fd, bool allow_uring = true);
};

}  // namespace ft

// What both engines share: how one operation is carried on, piece by piece, until it has ended.
//
//   read, write   a transfer may stop short (a signal, a disk nearly full): the rest is asked for
//                 again, so that in the end either all of it is done or the true errno is known
//   zero          a hole is punched; where the image cannot have one, zeros are written in pieces
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/result.h"
#include "core/unique_fd.h"
#include "disk/io_engine.h"

namespace ft {

/// Makes the eventfd of an engine. Error: FT_ERR_RESOURCES.
Result<UniqueFd> make_event_fd();
/// Makes an eventfd unreadable.
void drain_event_fd(int fd);

/// Zeros for images without holes; shared, never written to.
const IoBuffer& zero_buffer();
inline constexpr uint64_t kZeroPieceBytes = 1 << 20;

/// One operation under way.
struct IoProgress {
  IoOp op;
  uint64_t moved = 0;        // bytes done so far
  bool write_zeros = false;  // a zero operation that writes instead of punching

  uint64_t offset() const { return op.offset + moved; }
  uint64_t piece_bytes() const {
    const uint64_t left = op.bytes - moved;
    return op.kind == IoKind::kZero && write_zeros ? std::min(left, kZeroPieceBytes) : left;
  }
  uint8_t* piece() const {
    if (op.kind == IoKind::kZero) return const_cast<uint8_t*>(zero_buffer().data());
    return op.data->data() + moved;
  }

  /// Takes the outcome of one system call: bytes (0 or more) or a negative errno. True when the
  /// operation has ended, with `error` set; false when it must go on.
  bool advance(int64_t outcome, int& error);
};

}  // namespace ft

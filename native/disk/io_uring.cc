// io_uring by bare system calls.
//
//   submit ─▶ a slot, an entry of the submission ring ─ start: io_uring_enter ─▶ kernel
//   reap  ◀─ the slot, taken on or ended            ◀─ completion ring, eventfd ◀─┘
//
// One thread at a time uses the ring (IoEngine's rule), so the only other party is the kernel; the
// ring's heads and tails are handed over with acquire and release.
#include "disk/io_uring.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "core/mapped_region.h"
#include "disk/io_support.h"

namespace ft {
namespace {

// As many entries as there may be operations; a completion ring twice as long cannot overflow.
constexpr uint32_t kEntries = IoEngine::kDepth;

int enter(int ring, uint32_t submit, uint32_t wait) {
  const uint32_t flags = wait > 0 ? IORING_ENTER_GETEVENTS : 0;
  return static_cast<int>(::syscall(SYS_io_uring_enter, ring, submit, wait, flags, nullptr, 0));
}

uint32_t load(const uint32_t* p) {
  return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}
void store(uint32_t* p, uint32_t v) {
  __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/// Whether the kernel behind `ring` has every operation that the engine uses.
bool has_operations(int ring) {
  constexpr uint32_t kOps = 64;
  std::vector<uint8_t> memory(sizeof(io_uring_probe) + kOps * sizeof(io_uring_probe_op), 0);
  if (::syscall(SYS_io_uring_register, ring, IORING_REGISTER_PROBE, memory.data(), kOps) != 0) {
    return false;
  }
  const auto* probe = reinterpret_cast<const io_uring_probe*>(memory.data());
  for (const uint8_t op : {IORING_OP_READ, IORING_OP_WRITE, IORING_OP_FALLOCATE, IORING_OP_FSYNC}) {
    if (op >= probe->ops_len || (probe->ops[op].flags & IO_URING_OP_SUPPORTED) == 0) return false;
  }
  return true;
}

class UringEngine : public IoEngine {
 public:
  /// Makes the ring. Error: FT_ERR_RESOURCES.
  Status set_up(int fd);

  ~UringEngine() override {
    std::vector<IoDone> ignored;
    while (under_way_ > 0) {
      start();
      if (under_way_ > queued_) wait_for_one();
      take_completions(ignored);
    }
  }

  void submit(const IoOp& op) override {
    FT_CHECK(under_way_ < kDepth, "more disk operations than the engine takes");
    const uint32_t slot = free_[kDepth - 1 - under_way_++];
    slots_[slot].op = op;
    slots_[slot].moved = 0;
    slots_[slot].write_zeros = false;
    queue(slot);
  }

  void start() override {
    while (queued_ > 0) {
      const int taken = enter(ring_.get(), queued_, 0);
      if (taken > 0) {
        queued_ -= static_cast<uint32_t>(taken);
        continue;
      }
      // EAGAIN and EBUSY: the kernel is short of memory or wants completions taken first. What is
      // left goes on with the next call, which the eventfd brings about.
      const bool later = taken == 0 || errno == EAGAIN || errno == EBUSY;
      FT_CHECK(later || errno == EINTR, "io_uring_enter failed");
      if (later) {
        wake();
        return;
      }
    }
  }

  void reap(std::vector<IoDone>& out) override {
    drain_event_fd(event_.get());
    take_completions(out);
    start();
  }

  int event_fd() const override { return event_.get(); }
  const char* name() const override { return "io_uring"; }

 private:
  Status map_rings(const io_uring_params& params);

  /// Puts the next piece of a slot's operation into the submission ring, which has room for one
  /// entry a slot.
  void queue(uint32_t slot) {
    const IoProgress& progress = slots_[slot];
    const uint32_t tail = *sq_tail_;
    const uint32_t index = tail & sq_mask_;
    auto* entry = reinterpret_cast<io_uring_sqe*>(sqes_.data()) + index;
    std::memset(entry, 0, sizeof *entry);
    entry->fd = fd_;
    entry->user_data = slot;
    const IoOp& op = progress.op;
    if (op.kind == IoKind::kFlush) {
      entry->opcode = IORING_OP_FSYNC;
      entry->fsync_flags = IORING_FSYNC_DATASYNC;
    } else if (op.kind == IoKind::kZero && !progress.write_zeros) {
      entry->opcode = IORING_OP_FALLOCATE;
      entry->off = op.offset;
      entry->addr = op.bytes;  // fallocate's length stands here, its mode in len
      entry->len = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    } else {
      entry->opcode = op.kind == IoKind::kRead ? IORING_OP_READ : IORING_OP_WRITE;
      entry->off = progress.offset();
      entry->addr = reinterpret_cast<uint64_t>(progress.piece());
      entry->len = static_cast<uint32_t>(std::min<uint64_t>(progress.piece_bytes(), 1u << 30));
    }
    sq_array_[index] = index;
    store(sq_tail_, tail + 1);
    queued_++;
  }

  void take_completions(std::vector<IoDone>& out) {
    uint32_t head = *cq_head_;
    for (const uint32_t tail = load(cq_tail_); head != tail; head++) {
      const io_uring_cqe& entry = cqes_[head & cq_mask_];
      const auto slot = static_cast<uint32_t>(entry.user_data);
      int error = 0;
      if (!slots_[slot].advance(entry.res, error)) {
        queue(slot);
        continue;
      }
      out.push_back({slots_[slot].op.id, error});
      slots_[slot].op.data.reset();
      free_[kDepth - under_way_--] = slot;
    }
    store(cq_head_, head);
  }

  void wait_for_one() {
    if (load(cq_tail_) != *cq_head_) return;
    while (enter(ring_.get(), 0, 1) < 0) FT_CHECK(errno == EINTR, "waiting on io_uring failed");
  }

  int fd_ = -1;
  UniqueFd event_;
  UniqueFd ring_;
  MappedRegion sq_, cq_, sqes_;
  uint32_t *sq_tail_ = nullptr, *sq_array_ = nullptr;
  uint32_t *cq_head_ = nullptr, *cq_tail_ = nullptr;
  const io_uring_cqe* cqes_ = nullptr;
  uint32_t sq_mask_ = 0, cq_mask_ = 0;
  uint32_t queued_ = 0;     // in the submission ring, not yet taken by the kernel
  uint32_t under_way_ = 0;  // slots in use
  std::array<IoProgress, kDepth> slots_;
  // The first kDepth - under_way_ entries are the slots not in use.
  std::array<uint32_t, kDepth> free_;
};

Status UringEngine::set_up(int fd) {
  fd_ = fd;
  for (uint32_t i = 0; i < kDepth; i++) free_[i] = i;
  auto event = make_event_fd();
  if (!event) return event.error();
  event_ = event.take();
  io_uring_params params = {};
  ring_ = UniqueFd(static_cast<int>(::syscall(SYS_io_uring_setup, kEntries, &params)));
  if (!ring_.valid()) return sys_error("FT_ERR_RESOURCES", "The kernel refuses io_uring");
  if (!has_operations(ring_.get())) {
    return Error{"FT_ERR_RESOURCES", ENOSYS, "The kernel's io_uring lacks an operation for disks."};
  }
  FT_TRY(map_rings(params));
  int event_fd = event_.get();
  if (::syscall(SYS_io_uring_register, ring_.get(), IORING_REGISTER_EVENTFD, &event_fd, 1) != 0) {
    return sys_error("FT_ERR_RESOURCES", "io_uring takes no eventfd");
  }
  return Ok{};
}

Status UringEngine::map_rings(const io_uring_params& params) {
  const int ring = ring_.get();
  auto sq = MappedRegion::shared(ring, params.sq_off.array + params.sq_entries * sizeof(uint32_t),
                                 IORING_OFF_SQ_RING, "an io_uring");
  auto cq =
      MappedRegion::shared(ring, params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe),
                           IORING_OFF_CQ_RING, "an io_uring");
  auto sqes = MappedRegion::shared(ring, params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES,
                                   "an io_uring");
  for (const auto* part : {&sq, &cq, &sqes}) {
    if (!*part) return Error{"FT_ERR_RESOURCES", part->error().sys_errno, part->error().message};
  }
  sq_ = sq.take();
  cq_ = cq.take();
  sqes_ = sqes.take();
  const auto at = [](const MappedRegion& region, uint32_t offset) {
    return reinterpret_cast<uint32_t*>(region.data() + offset);
  };
  sq_tail_ = at(sq_, params.sq_off.tail);
  sq_array_ = at(sq_, params.sq_off.array);
  sq_mask_ = *at(sq_, params.sq_off.ring_mask);
  cq_head_ = at(cq_, params.cq_off.head);
  cq_tail_ = at(cq_, params.cq_off.tail);
  cq_mask_ = *at(cq_, params.cq_off.ring_mask);
  cqes_ = reinterpret_cast<const io_uring_cqe*>(cq_.data() + params.cq_off.cqes);
  return Ok{};
}

}  // namespace

Result<std::unique_ptr<IoEngine>> make_uring_engine(int fd) {
  auto engine = std::make_unique<UringEngine>();
  FT_TRY(engine->set_up(fd));
  return std::unique_ptr<IoEngine>(std::move(engine));
}

}  // namespace ft

// virtio block device: one queue of requests, carried out by a disk behind it, piece by piece.
//
//   chain   ┌ readable ───────────────────────────────────┬ writable ──────────────────────┐
//           │ header { u32 type; u32 0; u64 sector } data… │ …data                   status │
//           └─────────────────────────────────────────────┴────────────────────────────────┘
//   IN       the data is writable                      OUT   the data is readable
//   FLUSH    no data                                   GET_ID  20 writable bytes
//   DISCARD  readable: { u64 sector; u32 sectors; u32 flags } × 1…16
//
//   popped ──▶ starting ──pieces of ≤ 64 KiB, each an operation──▶ under way ──▶ done: status, used
//                 ▲                                                   │ without FLUSH agreed, a
//                 write
//   restored ─────┘ walked again by head                              └─▶ flush ──▶ done
//
// Pieces bound what is copied in one hold of the machine lock and what a hostile chain can make us
// hold: at most kOpsMax operations are under way, so kOpsMax × 64 KiB of buffers.
//
// Replication. What the guest posted and has not seen completed is in the state, by head, in the
// order in which it was taken. Whoever resumes walks those chains again and does the requests again
// before new ones: descriptors and buffers belong to the device until a chain is returned, so they
// are what they were, and writing the same bytes twice leaves the same image.
//
// A reset lets operations run on to their end, but their requests are forgotten: nothing of an old
// life touches the memory of a new one. Sound chains with impossible wishes (beyond the end, odd
// lengths, writes to a read-only disk) get IOERR; chains that are no request break the queue.
// Source: Virtio 1.2, §5.2. Thread: every call under the machine lock.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "disk/replicated_disk.h"
#include "machine/virtio_mmio.h"

namespace ft {

inline constexpr uint32_t kBlkDeviceId = 2;
inline constexpr size_t kBlkHeaderBytes = 16;
inline constexpr size_t kBlkIdBytes = 20;
/// Data descriptors of one request: a chain of the largest queue but for header and status.
inline constexpr uint32_t kBlkSegmentsMax = kQueueSizeMax - 2;
inline constexpr uint32_t kBlkPieceBytes = 64 * 1024;
inline constexpr uint32_t kBlkDiscardSegmentsMax = 16;
inline constexpr uint32_t kBlkDiscardSectorsMax = 1u << 21;

inline constexpr uint64_t kBlkFSegMax = 1ull << 2;
inline constexpr uint64_t kBlkFReadOnly = 1ull << 5;
inline constexpr uint64_t kBlkFBlockSize = 1ull << 6;
inline constexpr uint64_t kBlkFFlush = 1ull << 9;
inline constexpr uint64_t kBlkFDiscard = 1ull << 13;

inline constexpr uint32_t kBlkTypeIn = 0;
inline constexpr uint32_t kBlkTypeOut = 1;
inline constexpr uint32_t kBlkTypeFlush = 4;
inline constexpr uint32_t kBlkTypeGetId = 8;
inline constexpr uint32_t kBlkTypeDiscard = 11;

inline constexpr uint8_t kBlkStatusOk = 0;
inline constexpr uint8_t kBlkStatusIoError = 1;
inline constexpr uint8_t kBlkStatusUnsupported = 2;

/// The device's own state, as stored under StateKind::kVirtioBlk.
struct VirtioBlkState {
  uint32_t version = 1;
  uint32_t count = 0;               // requests taken and not returned
  uint64_t sectors = 0;             // of the disk, which must be the same one
  uint16_t heads[kQueueSizeMax]{};  // of those requests, oldest first; zero beyond `count`
};
static_assert(sizeof(VirtioBlkState) == 16 + 2 * kQueueSizeMax);

class VirtioBlk final : public VirtioDevice {
 public:
  struct Options {
    uint64_t bytes = 0;  // a multiple of 512
    bool read_only = false;
    std::string id;  // what GET_ID answers, at most 20 bytes
  };
  struct Facts {
    uint64_t submitted = 0;  // operations given to the disk
    uint64_t requests = 0;   // returned to the driver
    uint64_t errors = 0;     // of those, without OK
    uint64_t redone = 0;     // begun again after a restore
    uint64_t dropped = 0;    // forgotten by a reset
  };
  /// Takes an operation; complete() hears of its end by `id`, some time after the call.
  using Submit = std::function<void(IoOp op)>;

  /// `wake` is called when serve() may find something to do; it must not block or call back.
  VirtioBlk(const Options& options, Submit submit, std::function<void()> wake);

  /// Takes requests and starts their pieces, until about `bytes` were copied (every request counts
  /// for 4 KiB at least). True when there is more to do now.
  bool serve(uint32_t bytes);
  /// An operation ended. Returns what this counts for in a budget of serve().
  uint32_t complete(const DiskCompletion& done);
  /// Interrupts the driver when requests were returned since the last call.
  void signal();

  /// Requests taken and not returned.
  size_t unfinished() const { return order_.size(); }
  /// A driver runs the device; serve() does nothing else.
  bool active() const { return active_; }
  const Facts& facts() const { return facts_; }

  // VirtioDevice.
  void attach(VirtioTransport& transport) override { transport_ = &transport; }
  uint32_t device_id() const override { return kBlkDeviceId; }
  uint64_t features() const override;
  uint32_t queue_count() const override { return 1; }
  uint16_t queue_size_max(uint32_t) const override { return kQueueSizeMax; }
  void read_config(uint64_t offset, std::span<uint8_t> out) const override;
  void write_config(uint64_t, std::span<const uint8_t>) override {}
  void activate(uint64_t features) override;
  void reset() override;
  void notify(uint32_t) override { wake_(); }
  void capture(StateWriter& writer, uint16_t index) const override;
  Status restore(const StateReader& reader, uint16_t index) override;

 private:
  struct Range {
    uint64_t offset;
    uint64_t bytes;
  };
  /// A request taken and not returned. Its place in requests_ is its head.
  struct Request {
    bool taken = false;
    bool failed = false;
    bool flushing = false;  // its own flush, without which it is not durable
    IoKind kind = IoKind::kFlush;
    uint64_t offset = 0;          // on the disk
    uint64_t data_bytes = 0;      // read, write: in all
    uint64_t started = 0;         // read, write: bytes given to the disk; discard: ranges
    uint32_t under_way = 0;       // operations not yet ended
    uint32_t writable_bytes = 0;  // of the chain, its status included
    std::vector<ChainSegment> readable, writable;
    std::vector<Range> ranges;  // discard
  };
  struct Op {
    bool used = false;
    bool dropped = false;  // its request is of a life that a reset ended
    uint16_t head = 0;
    uint64_t skip = 0;  // read: where in the request's data these bytes lie
  };

  static constexpr uint32_t kNone = ~0u;
  static constexpr size_t kOpsMax = 64;
  static constexpr uint32_t kRequestCost = 4096;

  bool take_next(uint32_t* cost);
  bool parse(const DescriptorChain& chain);
  uint8_t begin_transfer(Request& request, uint64_t sector) const;
  uint8_t begin_discard(Request& request, const DescriptorChain& chain);
  void answer_id(const DescriptorChain& chain);
  bool start_piece(Request& request, uint16_t head, uint32_t* cost);
  void submit(Request& request, uint16_t head, IoOp op, uint64_t skip = 0);
  void settle(Request& request, uint16_t head);
  void finish(uint16_t head, uint8_t status, uint32_t data_written);
  bool break_queue(const char* why);
  const char* check(const VirtioBlkState& state) const;
  VirtQueue& queue() { return transport_->queue(0); }
  uint64_t sectors() const { return options_.bytes / kSectorBytes; }

  Options options_;
  Submit submit_;
  std::function<void()> wake_;
  VirtioTransport* transport_ = nullptr;
  bool active_ = false;
  bool flush_agreed_ = false;
  bool signal_due_ = false;
  bool restoring_ = false;         // the transport resets us once between restore() and activate()
  uint32_t starting_ = kNone;      // head of the one request that is started in part
  std::vector<Request> requests_;  // by head
  std::vector<uint16_t> order_;    // heads of those taken, oldest first
  size_t to_redo_ = 0;             // the last so many of order_ are restored and not yet begun
  std::array<Op, kOpsMax> ops_;
  std::vector<uint8_t> free_ops_;
  DescriptorChain chain_;
  Facts facts_;
};

}  // namespace ft

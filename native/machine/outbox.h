// The outbox: what the guest said to the outside world and may not leave yet.
//
//    open segment (epoch e)          sealed segments                    released
//   ┌───────────────────────┐   ┌─────┬─────┬─────┐
//   │ frames of epoch e     │──▶│ e-1 │ e-2 │ …   │──ack──▶ sink (TAP, console), in order
//   └───────────────────────┘   └─────┴─────┴─────┘
//
//    mode   open ──hold()──▶ held ──open()──▶ open        drop() from anywhere ──▶ dropped, for
//    good
//
// Held: a frame goes into the open segment; seal(epoch) closes it at the cut; release(epoch) hands
// every segment up to that epoch to its sink, in order. Open: this host alone owns its output (no
// standby, or the witness was won), so frames pass straight through.
// Promise 1 lives here: while held, nothing reaches a sink except through release() of an
// acknowledged epoch.
//
// The lease: what was released leaves only while the lease lasts, looked up before each frame.
//
//    seal(e) at t ──release(e)──▶ lease ends at t + length, or later     now < end: due ──▶ sink
//    extend_lease(s) ───────────▶ lease ends at s + length, or later     else:      due waits
//
// A standby promises to promote nobody for longer than that after it heard e (docs/adr/031). So a
// process that was stopped, however long, and finds acknowledgements when it goes on, lets nothing
// out on their strength. The clock is CLOCK_BOOTTIME: time in which the host was suspended counts.
// What waits leaves, in order, with the next release() or extend_lease() that makes the lease last,
// with open(), or never.
//
// Threads: every call may come from any thread. Two locks, always taken in this order:
//   sink_mutex_  whoever calls a sink holds it, so what leaves keeps its order;
//   mutex_       the lists, held for a few instructions, never while a sink runs.
// The mode changes only with both held. So append() and seal() while held, which the guest's pause
// waits for, never wait for a sink; release() never waits for the pause to end.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

namespace ft {

enum class OutputPort : uint8_t { kNet = 0, kConsole = 1 };
inline constexpr size_t kOutputPorts = 2;

class Outbox {
 public:
  /// Writes one frame outside; must not call the outbox, nor block: whoever writes to the outbox or
  /// drops it would wait with it (console.h says when that is so). One call at a time.
  using Sink = std::function<void(std::span<const uint8_t> frame)>;
  enum class Mode : uint8_t { kOpen, kHeld, kDropped };

  struct Facts {
    uint64_t frames_held = 0;
    uint64_t bytes_held = 0;
    uint64_t frames_released = 0;  // handed to a sink, held before or not
    uint64_t frames_dropped = 0;
    uint64_t lease_expired = 0;  // how often released frames had to stay
  };

  /// CLOCK_BOOTTIME in nanoseconds; tests bring their own.
  using Now = uint64_t (*)();
  static uint64_t boottime_ns();

  explicit Outbox(Now now = boottime_ns) : now_(now) {}
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;
  ~Outbox();

  /// Frames for a port without a sink are dropped and counted.
  void set_sink(OutputPort port, Sink sink);
  Mode mode() const { return mode_.load(std::memory_order_acquire); }

  /// From the guest: passes through (open), is kept (held) or is forgotten (dropped). The bytes are
  /// copied. On the console, a stream, held bytes that follow each other become one frame.
  void append(OutputPort port, std::span<const uint8_t> frame);
  /// From now on frames are held (the cut of the base epoch calls this). False after drop().
  bool hold();
  /// From now on released frames leave only within `lease_ns` after the newest sign of the standby;
  /// 0: whenever they are released. The lease has not begun yet. Ended by open().
  void begin_lease(uint64_t lease_ns);
  /// The standby answered what was sent to it at `sent_ns` (of boottime_ns()): what waited leaves.
  void extend_lease(uint64_t sent_ns);
  /// Closes the open segment as belonging to `epoch`; returns its frame count. Epochs must grow
  /// until open() starts a new count; anything else is a broken invariant and stops the process.
  uint32_t seal(uint64_t epoch);
  /// Lets every sealed segment with an epoch ≤ `epoch` leave while the lease lasts, counted from
  /// when `epoch` was sealed. Idempotent; nothing to do unless held. False, and nothing leaves,
  /// when `epoch` was never sealed: such an acknowledgement is not ours. Acknowledgements carry no
  /// generation here: the caller drops those of an earlier one.
  bool release(uint64_t epoch);
  /// The witness was won: everything held is ours alone; hands all of it out, in order, and passes
  /// through from then on. False, and nothing leaves, after drop().
  bool open();
  /// The witness was lost: everything held is forgotten, and so is all that comes, for good. When
  /// this returns no sink is running and none will be called again.
  void drop();
  /// True when the open segment has frames (output waits for a cut). Takes no lock.
  bool output_waiting() const { return waiting_.load(std::memory_order_acquire); }
  /// Something was released and waits for the lease.
  bool lease_waited_for() const;
  Facts facts() const;
  /// At this many held bytes (frame records included) the guest must be paused; checked by the
  /// vCPU loop. Takes no lock.
  void set_bytes_max(uint64_t bytes_max) { bytes_max_.store(bytes_max); }
  bool over_limit() const {
    return charge_.load(std::memory_order_relaxed) >= bytes_max_.load(std::memory_order_relaxed);
  }

 private:
  struct Frame {
    OutputPort port;
    uint32_t length;
  };
  struct Segment {
    uint64_t epoch = 0;
    std::vector<uint8_t> bytes;  // frames back to back
    std::vector<Frame> frames;
    size_t frames_out = 0;  // of a released segment: handed out already
    size_t bytes_out = 0;
    std::unique_ptr<Segment> next;
  };
  /// First in, first out; moving a segment from list to list allocates nothing.
  struct SegmentList {
    std::unique_ptr<Segment> head;
    Segment* tail = nullptr;
    void push(std::unique_ptr<Segment> segment);
    std::unique_ptr<Segment> pop();
  };

  /// When an epoch was sealed. More are remembered than are ever in flight.
  struct Seal {
    uint64_t epoch = 0;
    uint64_t at_ns = 0;
  };
  static constexpr size_t kSeals = 128;

  void keep(OutputPort port, std::span<const uint8_t> frame);
  void emit_due();
  bool emit(Segment& segment, Facts* facts);
  void settle(SegmentList&& emitted, const Facts& facts);
  void forget(std::unique_ptr<Segment> segment);
  void start_segment();

  mutable std::mutex sink_mutex_;
  mutable std::mutex mutex_;
  Sink sinks_[kOutputPorts];
  std::atomic<Mode> mode_{Mode::kOpen};
  std::atomic<bool> waiting_{false};
  std::atomic<uint64_t> charge_{0};  // held bytes and frame records
  std::atomic<uint64_t> bytes_max_{64ull << 20};
  const Now now_;
  uint64_t lease_ns_ = 0;          // this and the next two: sink_mutex_
  uint64_t lease_end_ns_ = 0;      // of boottime_ns()
  SegmentList due_;                // released; what was not handed out waits for the lease
  std::unique_ptr<Segment> open_;  // present while held
  SegmentList sealed_;
  Seal seals_[kSeals];  // by epoch modulo kSeals
  SegmentList spare_;   // emptied segments, their buffers kept
  uint32_t spare_count_ = 0;
  uint64_t last_sealed_ = 0;
  Facts facts_;
};

}  // namespace ft

// The outbox: what the guest said to the outside world and may not leave yet.
//
//    open segment (epoch e)          sealed segments                    released
//   ┌───────────────────────┐   ┌─────┬─────┬─────┐
//   │ frames of epoch e     │──▶│ e-1 │ e-2 │ …   │──ack──▶ sink (TAP, console), in order
//   └───────────────────────┘   └─────┴─────┴─────┘
//
// Held: a frame goes into the open segment; seal(epoch) closes it at the cut; release(epoch) hands
// every segment up to that epoch to its sink, in order. Open: this host alone owns its output (no
// standby, or the witness was won), so frames pass straight through.
// Promise 1 lives here: while held, nothing reaches a sink except through release() of an
// acknowledged epoch.
//
// Thread: all calls under the machine lock, except release(), which takes the outbox's own lock
// (the event loop must not wait for a pause to end in order to release). append() takes it too.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <vector>

namespace ft {

enum class OutputPort : uint8_t { kNet = 0, kConsole = 1 };
inline constexpr size_t kOutputPorts = 2;

class Outbox {
 public:
  /// Writes one frame outside; must not block. Called with the outbox's lock held.
  using Sink = std::function<void(std::span<const uint8_t> frame)>;
  enum class Mode : uint8_t { kOpen, kHeld, kDropped };

  struct Facts {
    uint64_t frames_held = 0;
    uint64_t bytes_held = 0;
    uint64_t frames_released = 0;
    uint64_t frames_dropped = 0;
  };

  void set_sink(OutputPort port, Sink sink);
  Mode mode() const;

  /// From the guest: passes through (open), is kept (held) or is forgotten (dropped).
  void append(OutputPort port, std::span<const uint8_t> frame);
  /// From now on frames are held (the cut of the base epoch calls this).
  void hold();
  /// Closes the open segment as belonging to `epoch`. Epochs must grow. Returns its frame count.
  uint32_t seal(uint64_t epoch);
  /// Hands out every sealed segment with an epoch ≤ `epoch`. Idempotent.
  void release(uint64_t epoch);
  /// The witness was won: everything held is ours alone; hands all of it out and passes through.
  void open();
  /// The witness was lost: everything held is forgotten, and so is all that comes.
  void drop();
  /// True when the open segment has frames (output waits for a cut).
  bool output_waiting() const;
  Facts facts() const;
  /// At this many held bytes the guest must be paused (checked by the vCPU loop).
  void set_bytes_max(uint64_t bytes_max);
  bool over_limit() const;

 private:
  struct Segment {
    uint64_t epoch = 0;
    std::vector<uint8_t> bytes;     // frames back to back
    struct Frame { OutputPort port; uint32_t length; };
    std::vector<Frame> frames;
  };
  void emit(const Segment& segment);
  void recycle(Segment&& segment);

  mutable std::mutex mutex_;
  Sink sinks_[kOutputPorts];
  Mode mode_ = Mode::kOpen;
  Segment open_;
  std::deque<Segment> sealed_;
  std::vector<Segment> spare_;  // emptied segments, their buffers kept
  uint64_t last_sealed_ = 0;
  uint64_t bytes_max_ = 64ull << 20;
  Facts facts_;
};

}  // namespace ft

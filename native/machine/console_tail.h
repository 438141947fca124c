// The newest output of the guest's serial port, kept for whoever attaches over the control socket,
// whatever place the console itself has (console.h), and with no place as well.
//
//   Outbox ─sink─▶ write() ─▶ ring, 64 KiB ─▶ read(from) on the event loop, as often as it likes
//                    └─ watched: on_output(), which only wakes the loop
//
// Bytes are numbered from 0, the first that this process let out. A reader keeps its own place, so
// any number of them can read, and who falls behind by more than the ring goes on at its oldest
// byte. What is here has left the outbox: it was safe by then (docs/adr/006).
//
// Threads: write() from any, one at a time (the outbox sees to that); the rest on the event loop.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>

namespace ft {

inline constexpr size_t kConsoleTailBytes = 64 * 1024;

class ConsoleTail {
 public:
  /// Called by write() while somebody watches; must not block. Set before the first write().
  void set_on_output(std::function<void()> on_output) { on_output_ = std::move(on_output); }
  /// Whether on_output() is wanted.
  void watch(bool wanted) { watched_.store(wanted); }

  /// Output that was released. Never blocks for longer than a copy.
  void write(std::span<const uint8_t> bytes);

  /// How many bytes were written, ever.
  uint64_t head() const;
  /// Copies bytes from number `from` on, or from the oldest that is kept. `first` is the number of
  /// the first byte in `out`; `bytes` may be 0.
  struct Piece {
    uint64_t first;
    size_t bytes;
  };
  Piece read(uint64_t from, std::span<uint8_t> out) const;

 private:
  std::function<void()> on_output_;
  std::atomic<bool> watched_{false};
  mutable std::mutex mutex_;  // innermost, held for a copy
  std::array<uint8_t, kConsoleTailBytes> ring_{};
  uint64_t head_ = 0;
};

}  // namespace ft

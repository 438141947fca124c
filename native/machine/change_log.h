// Which pages change while nobody replicates: what a standby that was lost lacks when it comes
// back.
//
//   idle ──begin()──▶ gathering ──watch()──▶ watching ──off()──▶ idle
//                        └─ too many ─▶ idle ◀─ too many, or entries may be lost ─┘
//
// KVM goes on logging, and what it logs stays in the rings: a page costs its guest one fault, and
// nobody is stopped, until a ring is a quarter full. Then, with every vCPU stopped, the entries
// come here and their pages are protected anew.
//
// Why the set is exact enough: it may hold pages that did not change, never the other way round. No
// entry is trusted from a ring that was nearly full (cut.cc says why); the log is then given up,
// and the next sync is a full one.
//
// Threads: begin(), add(), lose(), watch(), off(), pages(): the event loop, every vCPU parked.
// collect(): that, or the leader's thread while all others are stopped. The others: any.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "kvm/signals_blocked.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"
#include "machine/guest_memory.h"
#include "machine/page_bits.h"
#include "machine/unacked_pages.h"

namespace ft {

class ChangeLog {
 public:
  struct Parts {
    Vm& vm;
    std::vector<Vcpu>& vcpus;
    GuestMemory& memory;
    std::mutex& machine_lock;
    /// The log is given up: KVM need not log any more. Every vCPU is stopped; the machine lock is
    /// free.
    std::function<void()> stop_logging;
  };

  explicit ChangeLog(Parts parts);

  void begin();
  void add(uint64_t gfn) { pages_.set(gfn); }
  void add_unacked(const UnackedPages& pages) { pages.collect(pages_); }
  /// Not every change is known any more.
  void lose() { complete_.store(false); }
  /// Moves what the rings and the VMM's own marks hold into the log, and has KVM protect those
  /// pages anew. A log with more than pages_max() pages is lost.
  void collect(const SignalsBlocked& blocked);
  /// The most pages that a catch-up may begin with: a quarter of memory, and never more than 32
  /// MiB.
  static uint64_t pages_max(uint64_t memory_pages);
  void watch() { watching_.store(true); }
  void off() { watching_.store(false); }
  const PageBits& pages() const { return pages_; }

  bool watching() const { return watching_.load(); }
  bool complete() const { return complete_.load(); }
  /// KVM wrote over entries that nobody had taken: these rings can never be trusted again. Its own
  /// index is ahead of ours from then on, and nothing sets it back but a new vCPU; so what it logs
  /// comes to lie where nobody looks, after a full sync as well.
  bool rings_lost() const { return rings_lost_.load(); }

  /// Leader's thread: whether serve() is due.
  bool due(bool ring_full) const;
  /// Leader's thread, every other vCPU stopped: collects; a log that is lost ends here.
  void serve(const SignalsBlocked& blocked);

 private:
  Parts parts_;
  PageBits pages_;
  std::atomic<bool> watching_{false};
  std::atomic<bool> complete_{false};
  std::atomic<bool> rings_lost_{false};
};

}  // namespace ft

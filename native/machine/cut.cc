#include "machine/cut.h"

#include <time.h>

#include <algorithm>
#include <cstring>

#include "core/crc32c.h"
#include "delta/page_delta.h"

namespace ft {
namespace {
// KVM stops a vCPU whose ring is full but for 64 entries. Where kernel-mode stores are emulated a
// burst can run through that reserve and lose entries without a word; so a ring this full is not
// believed, and the whole memory is sent instead.
constexpr uint32_t kRingReserve = 5536;
// With the test fault, one page is hidden in each cut whose number is a multiple of this.
constexpr uint64_t kHideEvery = 16;
// Audits come no more often than this, however fast the cuts: their pages are cold, and the guest
// waits. A walk through all of memory takes as long at 10,000 cuts a second as at 4,000.
constexpr uint64_t kAuditNs = 250'000;
}  // namespace

uint64_t monotonic_ns() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000ull + static_cast<uint64_t>(ts.tv_nsec);
}

Cutter::Cutter(Parts parts) : parts_(std::move(parts)), dirty_(parts_.memory.page_count()) {}

void Cutter::begin(const CutPolicy& policy, uint64_t first_epoch) {
  FT_CHECK(!active_.load() && first_epoch > 0, "replication begins twice, or at epoch 0");
  const std::lock_guard lock(parts_.machine_lock);
  policy_ = policy;
  cut_on_output_.store(policy.cut_on_output);
  cut_.store(first_epoch - 1);
  committed_.store(first_epoch - 1);
  base_.store(0);
  hold_next_.store(false);
  frozen_.store(false);
  final_cut_made_.store(false);
  dirty_.clear();
  last_cut_ns_ = monotonic_ns();
  active_.store(true);
}

void Cutter::end() {
  active_.store(false);
  frozen_.store(false);
  hold_next_.store(false);
}

bool Cutter::can_cut() const {
  return active() && !frozen() && cut_.load() - committed_.load() < policy_.in_flight_max &&
         parts_.slots.has_free();
}

bool Cutter::output_wants_cut() const {
  return active() && cut_on_output_.load() && cut_.load() == committed_.load() &&
         parts_.outbox.output_waiting();
}

bool Cutter::past_budget() const {
  uint32_t pending = 0;
  for (Vcpu& vcpu : parts_.vcpus) {
    pending += vcpu.ring().pending(policy_.dirty_budget_pages);
  }
  return pending >= policy_.dirty_budget_pages;
}

void Cutter::cut(const SignalsBlocked& blocked, GuestEnd guest_end, uint64_t halt) {
  if (policy_.floor) return cut_floor(blocked, guest_end);
  const uint64_t start = monotonic_ns();
  EpochSlot* slot = parts_.slots.take();
  FT_CHECK(slot != nullptr, "a cut without a free slot");
  CutFacts& facts = slot->facts;
  waits_for_lock_.store(true);
  {
    const std::lock_guard lock(parts_.machine_lock);
    waits_for_lock_.store(false);
    const uint64_t t0 = monotonic_ns();
    facts.epoch = cut_.load() + 1;
    facts.guest_end = guest_end;
    facts.halt = halt;
    const uint32_t harvested = harvest(facts);
    const uint64_t t1 = monotonic_ns();
    copy_pages(*slot);
    const uint64_t t2 = monotonic_ns();
    capture_state(*slot);
    if (parts_.take_disk_logs) parts_.take_disk_logs(facts.epoch, slot->disks);
    hash_audit_pages(*slot, start);
    const uint64_t t3 = monotonic_ns();
    reset(blocked, harvested);
    if (hold_next_.exchange(false)) {
      facts.base = true;
      base_.store(facts.epoch);
      if (!parts_.faults.release_early) parts_.outbox.hold();
    }
    facts.output_frames = parts_.outbox.seal(facts.epoch);
    const uint64_t end = monotonic_ns();
    const uint64_t stopping = stopping_ns_ != 0 ? std::min(stopping_ns_, start) : start;
    facts.kick_ns = asked_ns_ != 0 ? stopping - std::min(asked_ns_, stopping) : 0;
    facts.barrier_ns = t0 - stopping;
    facts.harvest_ns = t1 - t0;
    facts.copy_ns = t2 - t1;
    facts.state_ns = t3 - t2;
    facts.reset_ns = end - t3;
    facts.pause_ns = end - stopping;
    stopping_ns_ = asked_ns_ = 0;
    facts.end_ns = end;
    last_cut_ns_ = end;
    last_pause_ns_ = facts.pause_ns;
    if (facts.overrun) frozen_.store(true);
    cut_.store(facts.epoch);
    if (guest_end != GuestEnd::kNone) final_cut_made_.store(true);
  }
  parts_.slots.publish(slot);
  parts_.on_cut();
}

void Cutter::cut_floor(const SignalsBlocked& blocked, GuestEnd guest_end) {
  const uint64_t start = monotonic_ns();
  const std::lock_guard lock(parts_.machine_lock);
  CutFacts facts;
  const uint32_t harvested = harvest(facts);
  reset(blocked, harvested);
  floor_cuts_.fetch_add(1, std::memory_order_relaxed);
  floor_pages_.fetch_add(facts.dirty_pages, std::memory_order_relaxed);
  const uint64_t end = monotonic_ns();
  last_cut_ns_ = end;
  last_pause_ns_ = end - start;
  if (guest_end != GuestEnd::kNone) final_cut_made_.store(true);
}

void Cutter::reset(const SignalsBlocked& blocked, uint32_t harvested) {
  if (harvested == 0) return;
  const auto reset = parts_.vm.reset_dirty_rings(blocked, harvested);
  FT_CHECK(reset.ok() && reset.value() == harvested,
           "KVM re-protected another number of pages than was harvested");
}

// Drains every ring and the VMM's own marks into the dirty set. Returns the ring entries taken,
// which is what KVM must re-protect.
uint32_t Cutter::harvest(CutFacts& facts) {
  dirty_.clear();
  uint32_t harvested = 0;
  bool hide = parts_.faults.hide_dirty_page && facts.epoch % kHideEvery == 0;
  for (Vcpu& vcpu : parts_.vcpus) {
    DirtyRing& ring = vcpu.ring();
    const uint32_t taken = ring.harvest([&](const DirtyEntry& entry) {
      if (hide) {
        hide = false;
        return;
      }
      dirty_.add(entry.offset);
    });
    // KVM has written over entries that it never gave us: their pages are logged no more, and its
    // place in the ring is not ours any longer. Nothing this process could still say is true; the
    // standby goes on from the last acknowledged epoch.
    FT_CHECK(taken < ring.capacity(), "the dirty ring overflowed and lost entries");
    // A small ring has a small reserve; its own ring-full exit comes long before entries are lost.
    if (ring.capacity() > 2 * kRingReserve && taken > ring.capacity() - kRingReserve) {
      facts.overrun = true;
    }
    harvested += taken;
  }
  for (const uint32_t gfn : parts_.memory.dirty_gfns()) dirty_.add(gfn);
  parts_.memory.clear_dirty();
  facts.dirty_pages = static_cast<uint32_t>(dirty_.size());
  return harvested;
}

void Cutter::copy_pages(EpochSlot& slot) {
  // An overrun epoch is encoded from guest memory itself, while the guest stays frozen.
  if (slot.facts.overrun) return;
  const uint8_t* base = parts_.memory.host_base();
  uint8_t* out = slot.pages.data();
  const auto gfns = dirty_.gfns();
  slot.gfns.assign(gfns.begin(), gfns.end());
  constexpr size_t kAhead = 2;  // pages scattered over memory are cold: fetch the next ones early
  for (size_t i = 0; i < gfns.size(); i++) {
    if (i + kAhead < gfns.size()) {
      const uint8_t* next = base + static_cast<uint64_t>(gfns[i + kAhead]) * kPageBytes;
      for (size_t line = 0; line < 8; line++) __builtin_prefetch(next + line * 64);
    }
    std::memcpy(out, base + static_cast<uint64_t>(gfns[i]) * kPageBytes, kPageBytes);
    out += kPageBytes;
  }
}

void Cutter::capture_state(EpochSlot& slot) {
  StateWriter& writer = slot.state_writer;
  writer.begin();
  for (size_t i = 0; i < parts_.vcpus.size(); i++) {
    const auto status = parts_.vcpu_states[i].capture(parts_.vcpus[i], writer);
    FT_CHECK(status.ok(), status.error().message.c_str());
  }
  const auto status = capture_vm_state(parts_.vm, writer);
  FT_CHECK(status.ok(), status.error().message.c_str());
  parts_.capture_devices(writer);
  slot.state = writer.finish();
}

// Hashes a few pages as they are at the cut, if not just done at the one before, walking through
// all memory. The standby compares: a page that changed without being logged is found within one
// walk.
void Cutter::hash_audit_pages(EpochSlot& slot, uint64_t now_ns) {
  if (now_ns - last_audit_ns_ < kAuditNs) return;
  last_audit_ns_ = now_ns;
  const uint64_t page_count = parts_.memory.page_count();
  for (uint32_t i = 0; i < policy_.audit_pages; i++) {
    const uint64_t gfn = audit_cursor_++ % page_count;
    const uint8_t* page = parts_.memory.host_base() + gfn * kPageBytes;
    slot.audit.push_back({static_cast<uint32_t>(gfn), crc32c({page, kPageBytes})});
  }
}

}  // namespace ft

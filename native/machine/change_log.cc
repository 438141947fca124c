// Which pages change while nobody replicates.
#include "machine/change_log.h"

#include <algorithm>

namespace ft {
namespace {
// As in a cut: a ring this full may have lost entries without a word.
constexpr uint32_t kRingReserve = 5536;
// Sending more than this share of memory page by page is no better than a full sync.
constexpr uint64_t kShareMax = 4;
// Both sides clear the pages of a catch-up in one go, in which no sign of life is sent: 32 MiB take
// some 10 ms, well within the time after which a silent peer is suspected.
constexpr uint64_t kPagesMax = 8192;
}  // namespace

uint64_t ChangeLog::pages_max(uint64_t memory_pages) {
  return std::min(memory_pages / kShareMax, kPagesMax);
}

ChangeLog::ChangeLog(Parts parts) : parts_(std::move(parts)), pages_(parts_.memory.page_count()) {}

void ChangeLog::begin() {
  pages_.clear_all();
  complete_.store(true);
}

void ChangeLog::collect(const SignalsBlocked& blocked) {
  const std::lock_guard lock(parts_.machine_lock);
  uint32_t harvested = 0;
  for (Vcpu& vcpu : parts_.vcpus) {
    DirtyRing& ring = vcpu.ring();
    const uint32_t taken = ring.harvest([&](const DirtyEntry& entry) {
      if (entry.offset < pages_.pages()) pages_.set(entry.offset);
    });
    if (taken >= ring.capacity()) rings_lost_.store(true);
    const bool nearly_full =
        ring.capacity() > 2 * kRingReserve && taken > ring.capacity() - kRingReserve;
    if (nearly_full || taken >= ring.capacity()) lose();
    harvested += taken;
  }
  for (const uint32_t gfn : parts_.memory.dirty_gfns()) pages_.set(gfn);
  parts_.memory.clear_dirty();
  if (harvested > 0) {
    const auto reset = parts_.vm.reset_dirty_rings(blocked, harvested);
    if (!reset.ok() || reset.value() != harvested) lose();
  }
  if (pages_.count() > pages_max(pages_.pages())) lose();
}

bool ChangeLog::due(bool ring_full) const {
  if (!watching()) return false;
  if (ring_full) return true;
  for (Vcpu& vcpu : parts_.vcpus) {
    if (vcpu.ring().more_than(vcpu.ring().capacity() / 4)) return true;
  }
  return false;
}

void ChangeLog::serve(const SignalsBlocked& blocked) {
  if (!watching()) return;
  collect(blocked);
  if (complete()) return;
  off();
  parts_.stop_logging();
}

}  // namespace ft

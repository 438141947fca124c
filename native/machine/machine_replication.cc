// How a machine begins and ends to be replicated, and what it notes in between: which pages change
// while the standby is away, so that one that comes back with its image need not be sent all.
#include "machine/machine.h"

namespace ft {
namespace {

constexpr uint32_t kMemorySlot = 0;
/// How often the leader looks whether a ring fills while changes are noted. A guest that fills the
/// other three quarters of a ring between two looks changes too much for a catch-up anyway.
constexpr uint32_t kWatchIntervalUs = 20'000;

}  // namespace

void Machine::make_change_log() {
  changes_ = std::make_unique<ChangeLog>(ChangeLog::Parts{
      .vm = *vm_,
      .vcpus = vcpus_,
      .memory = *memory_,
      .machine_lock = lock_,
      .stop_logging =
          [this] {
            threads_->set_interval(0, false);
            const Status stopped = stop_logging();
            FT_CHECK(stopped.ok(), stopped.error().message.c_str());
          },
  });
}

// Every vCPU is stopped.
Status Machine::stop_logging() {
  FT_TRY(vm_->set_memory(kMemorySlot, 0, memory_->host_base(), memory_->size(), false));
  const std::lock_guard lock(lock_);
  memory_->set_tracking(false);
  return Ok{};
}

Status Machine::begin_replication(const CutPolicy& policy, uint64_t first_epoch,
                                  const DiskSet::Maps& peer_disk_maps, bool catch_up) {
  const VcpuThreads::Parked parked(*threads_);
  if (changes_->watching()) changes_->collect(SignalsBlocked());
  if (changes_->rings_lost()) {
    changes_->off();
    threads_->set_interval(0, false);
    FT_TRY(stop_logging());
    encoder_->end();
    return Error{
        "FT_ERR_RING_LOST", 0,
        "KVM lost track of what this guest changes (a dirty ring overflowed), so it cannot "
        "be protected any more. It runs on; start it anew when that suits."};
  }
  if (!changes_->watching() || !catch_up) changes_->lose();
  changes_->off();
  // A log that was lost may have left pages unprotected: logging that begins anew protects all.
  if (!changes_->complete()) FT_TRY(stop_logging());
  FT_TRY(vm_->set_memory(kMemorySlot, 0, memory_->host_base(), memory_->size(), true));
  {
    // Devices go on: what they marked since changes_->collect() stays marked, for the first epoch.
    const std::lock_guard lock(lock_);
    memory_->set_tracking(true);
  }
  if (changes_->complete()) {
    encoder_->begin_catch_up(changes_->pages());
  } else {
    encoder_->begin();
  }
  disks_->begin_replication(peer_disk_maps);
  outbox_.begin_lease(uint64_t{policy.lease_us} * 1000);
  cutter_->begin(policy, first_epoch);
  threads_->set_interval(policy.interval_us, policy.paced);
  return Ok{};
}

bool Machine::set_cut_interval(uint32_t interval_us) {
  if (!cutter_->active()) return false;
  // The leader keeps account of the intervals that it owes: it stands still meanwhile.
  const VcpuThreads::Parked parked(*threads_);
  threads_->set_interval(interval_us, cutter_->paced());
  return true;
}

Status Machine::end_replication(bool note_changes) {
  if (!cutter_->active() && !changes_->watching()) return Ok{};
  const VcpuThreads::Parked parked(*threads_);
  threads_->set_interval(0, false);
  changes_->off();
  const bool noting = cutter_->active() && note_changes && gather_changes();
  cutter_->end();
  disks_->end_replication();
  slots_->clear();
  // Whether they count or not: the rings are empty and armed when the next session begins.
  changes_->collect(SignalsBlocked());
  if (noting && changes_->complete()) {
    changes_->watch();
    threads_->set_interval(kWatchIntervalUs, false);
  } else {
    FT_TRY(stop_logging());
    encoder_->end();
  }
  wake_devices();
  return Ok{};
}

// The epochs that the standby may not hold: those that were encoded, and those that still wait for
// it. False when one of them may have lost pages.
bool Machine::gather_changes() {
  changes_->begin();
  noted_since_ = encoder_->unacked().since();
  changes_->add_unacked(encoder_->unacked());
  bool sound = true;
  slots_->each_waiting([&](const EpochSlot& slot) {
    if (slot.facts.overrun) sound = false;
    for (const uint32_t gfn : slot.gfns) changes_->add(gfn);
  });
  return sound;
}

/// The epoch after which every change is known; nothing when changes are not noted, or too many.
std::optional<uint64_t> Machine::noted_since() {
  if (changes_->watching()) return noted_since_;
  // The log was given up on the leader's thread, and the shadow is of no use any more.
  if (!cutter_->active()) encoder_->end();
  return std::nullopt;
}

/// After begin_replication: the pages that the standby has to clear, all of them for a full sync.
/// Returns the bytes written; `out` has room for PageBits::bytes_for(pages).
size_t Machine::catch_up_map(std::span<uint8_t> out) const {
  const size_t bytes = PageBits::bytes_for(memory_->page_count());
  FT_CHECK(out.size() >= bytes, "the map of pages does not fit its buffer");
  if (changes_->complete()) {
    changes_->pages().write(out.first(bytes));
  } else {
    PageBits all(memory_->page_count());
    all.set_all();
    all.write(out.first(bytes));
  }
  return bytes;
}

}  // namespace ft

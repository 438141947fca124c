// One KVM virtual machine: memory slots, irqchip, event descriptors, VM-wide state.
// Source: api.rst, "VM ioctls".
#pragma once

#include <linux/kvm.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/result.h"
#include "core/unique_fd.h"
#include "kvm/kvm.h"
#include "kvm/signals_blocked.h"

namespace ft {

/// What every vCPU of a VM must know of the others; shared by the VM and its vCPUs.
struct VmFacts {
  std::atomic<uint32_t> vcpus{0};
  /// An interrupt line was seen routed as NMI, SMI or INIT: a vCPU's events may then change while
  /// it stands still. Set by capture_vm_state, never cleared.
  std::atomic<bool> events_from_lines{false};
};

class Vm {
 public:
  /// Creates the VM: dirty ring enabled (`ring_bytes`, a power of two up to caps.ring_bytes_max)
  /// before any vCPU, TSS and identity-map addresses, in-kernel irqchip and PIT.
  /// Errors: FT_ERR_RING_SIZE, FT_ERR_KVM_CREATE.
  static Result<Vm> create(const Kvm& kvm, uint32_t ring_bytes);

  int fd() const { return fd_.get(); }
  uint32_t ring_bytes() const { return ring_bytes_; }
  const KvmCaps& caps() const { return caps_; }
  const std::shared_ptr<VmFacts>& facts() const { return facts_; }

  /// Maps `bytes` at `host` to guest physical `gpa` as memslot `slot`; `log_dirty` turns the dirty
  /// ring on for it. Calling again with another `log_dirty` switches logging (4–7 ms for 256 MB).
  /// Zero bytes take the slot away. Error: FT_ERR_KVM_MEMORY.
  Status set_memory(uint32_t slot, uint64_t gpa, uint8_t* host, uint64_t bytes, bool log_dirty);

  // Errors of all that follow: FT_ERR_KVM_EVENTFD, FT_ERR_KVM_STATE (getters and setters).

  /// Signals `event_fd` when the guest writes `value` (4 bytes) to `gpa`, without an exit.
  Status add_ioeventfd(uint64_t gpa, uint32_t value, int event_fd);
  /// Raises `gsi` (edge) whenever `event_fd` is signalled.
  Status add_irqfd(uint32_t gsi, int event_fd);

  /// KVM_RESET_DIRTY_RINGS; the number of entries re-protected. Every harvested entry of every
  /// ring counts, so a caller can hold it against its own count. Pass that count as `harvested`:
  /// a reset that was cut short is then known and made good (see vm_reset.cc for why that matters).
  /// All signals are blocked on the calling thread for the duration. Error: FT_ERR_KVM_RESET.
  Result<uint32_t> reset_dirty_rings(const SignalsBlocked& blocked,
                                     uint32_t harvested = kHarvestedUnknown);
  static constexpr uint32_t kHarvestedUnknown = UINT32_MAX;
  /// Write-protects every logged slot anew by switching its logging off and on (milliseconds).
  /// What the rings already hold stays there. vCPUs must be stopped.
  Status rearm_dirty_logging();
  /// How often a reset was found cut short and the slots were protected anew.
  uint64_t rearms() const { return rearms_; }

  /// The three irqchips (0: PIC master, 1: PIC slave, 2: IOAPIC).
  Status get_irqchip(uint32_t chip, kvm_irqchip* out) const;
  Status set_irqchip(const kvm_irqchip& in);
  Status get_pit2(kvm_pit_state2* out) const;
  Status set_pit2(const kvm_pit_state2& in);
  Status get_clock(kvm_clock_data* out) const;
  /// Only `clock` is taken; flags that the host cannot take are dropped.
  Status set_clock(const kvm_clock_data& in);

 private:
  Status put_slot(const kvm_userspace_memory_region& region) const;

  UniqueFd fd_;
  uint32_t ring_bytes_ = 0;
  KvmCaps caps_;
  std::shared_ptr<VmFacts> facts_ = std::make_shared<VmFacts>();
  std::vector<kvm_userspace_memory_region> slots_;
  uint64_t rearms_ = 0;
};

}  // namespace ft

// One KVM virtual machine: memory slots, irqchip, event descriptors, VM-wide state.
// Source: api.rst, "VM ioctls".
#pragma once

#include <linux/kvm.h>

#include <cstdint>

#include "core/result.h"
#include "core/unique_fd.h"
#include "kvm/kvm.h"

namespace ft {

class Vm {
 public:
  /// Creates the VM: dirty ring enabled (`ring_bytes`, a power of two up to caps.ring_bytes_max)
  /// before any vCPU, TSS and identity-map addresses, in-kernel irqchip and PIT.
  static Result<Vm> create(const Kvm& kvm, uint32_t ring_bytes);

  int fd() const { return fd_.get(); }
  uint32_t ring_bytes() const { return ring_bytes_; }

  /// Maps `bytes` at `host` to guest physical `gpa` as memslot `slot`; `log_dirty` turns the dirty
  /// ring on for it. Calling again with another `log_dirty` switches logging (4–7 ms for 256 MB).
  Status set_memory(uint32_t slot, uint64_t gpa, uint8_t* host, uint64_t bytes, bool log_dirty);

  /// Signals `event_fd` when the guest writes `value` (4 bytes) to `gpa`, without an exit.
  Status add_ioeventfd(uint64_t gpa, uint32_t value, int event_fd);
  /// Raises `gsi` (edge) whenever `event_fd` is signalled.
  Status add_irqfd(uint32_t gsi, int event_fd);

  /// KVM_RESET_DIRTY_RINGS; the number of entries re-protected. Every harvested entry of every
  /// ring counts, so a caller can hold it against its own count.
  Result<uint32_t> reset_dirty_rings();

  /// The three irqchips (0: PIC master, 1: PIC slave, 2: IOAPIC).
  Status get_irqchip(uint32_t chip, kvm_irqchip* out) const;
  Status set_irqchip(const kvm_irqchip& in);
  Status get_pit2(kvm_pit_state2* out) const;
  Status set_pit2(const kvm_pit_state2& in);
  Status get_clock(kvm_clock_data* out) const;
  /// Only `clock` is taken; flags that the host cannot take are dropped.
  Status set_clock(const kvm_clock_data& in);

 private:
  UniqueFd fd_;
  uint32_t ring_bytes_ = 0;
};

}  // namespace ft

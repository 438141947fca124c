// The VM's own state: three interrupt controllers, the timer chip, the clock.
//
// Restored in this order, before any vCPU: irqchips (a timer that fires must find its lines
// routed), PIT, clock (a vCPU's kvmclock MSRs are computed from it).
#include <cstring>

#include "kvm/state.h"

namespace ft {
namespace {

constexpr uint16_t kChips = 3;

/// True when some unmasked line of the IOAPIC delivers an SMI, an NMI or an INIT.
bool routes_events(const kvm_ioapic_state& ioapic) {
  for (const auto& entry : ioapic.redirtbl) {
    const uint8_t mode = entry.fields.delivery_mode;
    if (entry.fields.mask == 0 && (mode == 2 || mode == 4 || mode == 5)) return true;
  }
  return false;
}

Error restore_error(const char* name, const Error& cause) {
  return Error{"FT_ERR_STATE_RESTORE", cause.sys_errno,
               std::string("KVM refuses the captured ") + name + ": " + cause.message + "."};
}

}  // namespace

Status capture_vm_state(const Vm& vm, StateWriter& writer) {
  for (uint16_t chip = 0; chip < kChips; chip++) {
    auto* out = writer.add_struct<kvm_irqchip>(StateKind::kIrqchip, chip);
    FT_TRY(vm.get_irqchip(chip, out));
    if (chip == KVM_IRQCHIP_IOAPIC && routes_events(out->chip.ioapic)) {
      vm.facts()->events_from_lines.store(true, std::memory_order_relaxed);
    }
  }
  auto* pit = writer.add_struct<kvm_pit_state2>(StateKind::kPit2, 0);
  FT_TRY(vm.get_pit2(pit));
  // The load time is a moment on this host's clock; KVM takes its own when a count is loaded.
  for (auto& channel : pit->channels) channel.count_load_time = 0;

  // Only the guest's clock: the host's real time and TSC at the capture are not restored (guest
  // time goes on from where it was), and would make every blob differ from the last.
  kvm_clock_data clock{};
  FT_TRY(vm.get_clock(&clock));
  writer.add_struct<kvm_clock_data>(StateKind::kClock, 0)->clock = clock.clock;
  return Ok{};
}

Status restore_vm_state(Vm& vm, const StateReader& reader) {
  kvm_irqchip chips[kChips];
  kvm_pit_state2 pit;
  kvm_clock_data clock;
  for (uint16_t i = 0; i < kChips; i++) {
    FT_TRY(read_state_struct(reader, StateKind::kIrqchip, i, &chips[i]));
    if (chips[i].chip_id != i) {
      return Error{"FT_ERR_STATE_FORMAT", 0,
                   "Entry irqchip " + std::to_string(i) + " holds the state of chip " +
                       std::to_string(chips[i].chip_id) + "."};
    }
  }
  FT_TRY(read_state_struct(reader, StateKind::kPit2, 0, &pit));
  FT_TRY(read_state_struct(reader, StateKind::kClock, 0, &clock));

  for (const kvm_irqchip& chip : chips) {
    Status status = vm.set_irqchip(chip);
    if (!status.ok()) return restore_error("irqchip", status.error());
  }
  if (Status status = vm.set_pit2(pit); !status.ok()) return restore_error("pit2", status.error());
  if (Status status = vm.set_clock(clock); !status.ok()) {
    return restore_error("clock", status.error());
  }
  return Ok{};
}

}  // namespace ft

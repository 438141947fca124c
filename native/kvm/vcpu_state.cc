// Reading a vCPU's complete state into a blob.
//
// What is read how, and in which order:
//   1  lapic
//   2  mp_state              before the registers: reading it makes KVM act on a pending INIT or
//                            start-up signal, which changes them
//   3  regs, sregs, events   from the run page, where KVM left them when the vCPU stopped
//   4  xsave, xcrs, debugregs, MSRs, nested
//
// The run page may be trusted as long as nothing has happened to the vCPU since it left KVM_RUN.
// A stopped vCPU's registers change through INIT and start-up signals, its events through NMI and
// SMI as well. Senders of those are other vCPUs, an IOAPIC line routed so (VmFacts), and the timer
// chip through LVT0 in NMI mode. Where there is such a sender, the run page is brought up to date
// first, by ioctls: entering KVM_RUN would do it as well, but a vCPU is entered by its own thread
// alone. KVM remembers the thread, and changing it can take milliseconds.
//
// Two things are sometimes known without asking: a vCPU in user mode is running (see
// user_mode_runs), and what only kernel mode changes is as before while no instruction of kernel
// mode was counted (privileged_state.h). Nothing else is left out.
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "kvm/state.h"
#include "kvm/vcpu_state.h"

namespace ft {

Error capture_error(const Vcpu& vcpu, const char* name) {
  return sys_error("FT_ERR_KVM_STATE",
                   std::string("Cannot read ") + name + " of vCPU " + std::to_string(vcpu.id()));
}

namespace {

Status get(Vcpu& vcpu, unsigned long request, void* out, StateKind kind) {
  if (::ioctl(vcpu.fd(), request, out) == 0) return Ok{};
  return capture_error(vcpu, state_kind_name(kind));
}

uint16_t index_of(const Vcpu& vcpu) {
  return static_cast<uint16_t>(vcpu.id());
}

constexpr size_t kLapicIcr = 0x300;
constexpr size_t kLapicLvt0 = 0x350;

/// The delivery mode of an interrupt command or a local vector: 0 fixed, 1 lowest priority, 2 SMI,
/// 4 NMI, 5 INIT, 6 start-up, 7 external.
uint32_t delivery_mode(uint32_t lapic_register) {
  return (lapic_register >> 8) & 7;
}

uint32_t lapic_register(const kvm_lapic_state& lapic, size_t offset) {
  uint32_t value;
  std::memcpy(&value, lapic.regs + offset, sizeof(value));
  return value;
}

bool changes_while_stopped(const Vcpu& vcpu, const kvm_lapic_state& lapic) {
  const VmFacts& vm = vcpu.vm_facts();
  if (vm.vcpus.load(std::memory_order_relaxed) > 1) return true;
  if (vm.events_from_lines.load(std::memory_order_relaxed)) return true;
  const uint32_t lvt0 = lapic_register(lapic, kLapicLvt0);
  constexpr uint32_t kMasked = 1u << 16;
  return (lvt0 & kMasked) == 0 && delivery_mode(lvt0) == 4;
}

/// True when the synced registers alone show that mp_state is KVM_MP_STATE_RUNNABLE.
/// A vCPU leaves that state by executing HLT, which only ring 0 may (in user mode and in
/// virtual-8086 mode it faults instead), or through INIT, after which it is in real mode. So a
/// vCPU in protected mode at privilege level 3 runs. Two exceptions: a nested guest may be started
/// halted at any level, and an INIT that the vCPU sent to itself may still be waiting.
bool user_mode_runs(const Vcpu& vcpu, const KvmCaps& caps, const kvm_lapic_state& lapic) {
  if (caps.nested_state || (vcpu.sync_regs() & KVM_SYNC_X86_SREGS) == 0) return false;
  const uint32_t mode = delivery_mode(lapic_register(lapic, kLapicIcr));
  if (mode == 2 || mode >= 4) return false;
  const kvm_sregs& sregs = vcpu.run_page()->s.regs.sregs;
  return (sregs.cr0 & 1) != 0 && sregs.ss.dpl == 3;
}

/// kvm_sregs and kvm_sregs2 agree up to and with apic_base. The former's interrupt bitmap says
/// nothing that the events do not say better.
static_assert(offsetof(kvm_sregs, apic_base) == offsetof(kvm_sregs2, apic_base));
void widen_sregs(const kvm_sregs& in, kvm_sregs2* out) {
  std::memcpy(out, &in, offsetof(kvm_sregs, apic_base) + sizeof(in.apic_base));
  out->flags = 0;
}

/// PAE paging without long mode: the processor holds the four top entries of the page table in
/// registers of their own, which may differ from memory.
bool uses_pdptrs(const kvm_sregs& sregs) {
  constexpr uint64_t kCr0Pg = 1ull << 31, kCr4Pae = 1ull << 5, kEferLma = 1ull << 10;
  return (sregs.cr0 & kCr0Pg) != 0 && (sregs.cr4 & kCr4Pae) != 0 && (sregs.efer & kEferLma) == 0;
}

}  // namespace

Result<VcpuStateAccess> VcpuStateAccess::probe(const Kvm& kvm, Vcpu& vcpu) {
  Result<std::vector<uint32_t>> listed = kvm.msr_indices();
  if (!listed.ok()) return listed.error();
  VcpuStateAccess access;
  access.caps_ = kvm.caps();
  access.listed_msrs_ = listed.take();
  access.msrs_ = access.find_msrs(vcpu);
  access.privileged_ = std::make_unique<PrivilegedState>(kvm, vcpu, access.msrs_);

  const int khz = ::ioctl(vcpu.fd(), KVM_GET_TSC_KHZ, 0);
  if (khz <= 0) return capture_error(vcpu, "the TSC's frequency");
  access.tsc_khz_ = static_cast<uint32_t>(khz);
  return access;
}

std::vector<uint32_t> VcpuStateAccess::find_msrs(const Vcpu& vcpu) const {
  return probe_msrs(vcpu.fd(), listed_msrs_);
}

Status VcpuStateAccess::capture(Vcpu& vcpu, StateWriter& writer) {
  FT_CHECK(!vcpu.access_pending(), "captured with an access half done");
  const uint16_t index = index_of(vcpu);
  kvm_mp_state mp_state{.mp_state = KVM_MP_STATE_RUNNABLE};
  // Asked for this, KVM lets the vCPU take an INIT that another one has sent, which resets the
  // local APIC as well; so it comes first wherever there is another one.
  const bool has_others = vcpu.vm_facts().vcpus.load(std::memory_order_relaxed) > 1;
  if (has_others) FT_TRY(get(vcpu, KVM_GET_MP_STATE, &mp_state, StateKind::kMpState));
  auto* lapic = writer.add_struct<kvm_lapic_state>(StateKind::kLapic, index);
  FT_TRY(get(vcpu, KVM_GET_LAPIC, lapic, StateKind::kLapic));
  const bool changes = changes_while_stopped(vcpu, *lapic);
  const bool runs = !changes && user_mode_runs(vcpu, caps_, *lapic);
  if (!has_others && !runs) FT_TRY(get(vcpu, KVM_GET_MP_STATE, &mp_state, StateKind::kMpState));
  *writer.add_struct<kvm_mp_state>(StateKind::kMpState, index) = mp_state;
  if (changes) FT_TRY(vcpu.refresh_synced_regs());
  FT_TRY(capture_registers(vcpu, writer));

  FT_TRY(get(vcpu, caps_.xsave2 ? uapi::kGetXsave2 : uapi::kGetXsave,
             writer.add(StateKind::kXsave, index, caps_.xsave_bytes), StateKind::kXsave));
  FT_TRY(capture_privileged(vcpu, writer));
  std::memcpy(writer.add(StateKind::kTscKhz, index, sizeof(tsc_khz_)), &tsc_khz_, sizeof(tsc_khz_));
  if (caps_.nested_state) {
    auto* nested = reinterpret_cast<kvm_nested_state*>(
        writer.add(StateKind::kNested, index, caps_.nested_state_bytes));
    nested->size = caps_.nested_state_bytes;
    FT_TRY(get(vcpu, KVM_GET_NESTED_STATE, nested, StateKind::kNested));
  }
  return Ok{};
}

Status VcpuStateAccess::capture_registers(Vcpu& vcpu, StateWriter& writer) {
  const uint16_t index = index_of(vcpu);
  const kvm_sync_regs& synced = vcpu.run_page()->s.regs;
  const uint32_t have = vcpu.sync_regs();

  auto* regs = writer.add_struct<kvm_regs>(StateKind::kRegs, index);
  if ((have & KVM_SYNC_X86_REGS) != 0) {
    *regs = synced.regs;
  } else {
    FT_TRY(get(vcpu, KVM_GET_REGS, regs, StateKind::kRegs));
  }

  auto* wide = writer.add_struct<kvm_sregs2>(StateKind::kSregs, index);
  kvm_sregs own;
  const kvm_sregs* sregs = &synced.sregs;
  if ((have & KVM_SYNC_X86_SREGS) == 0) {
    FT_TRY(get(vcpu, KVM_GET_SREGS, &own, StateKind::kSregs));
    sregs = &own;
  }
  if (caps_.sregs2 && uses_pdptrs(*sregs)) {
    FT_TRY(get(vcpu, KVM_GET_SREGS2, wide, StateKind::kSregs));
  } else {
    widen_sregs(*sregs, wide);
  }

  auto* events = writer.add_struct<kvm_vcpu_events>(StateKind::kEvents, index);
  if ((have & KVM_SYNC_X86_EVENTS) != 0) {
    *events = synced.events;
  } else {
    FT_TRY(get(vcpu, KVM_GET_VCPU_EVENTS, events, StateKind::kEvents));
  }
  return Ok{};
}

// XCR0, debug registers, MSRs.
Status VcpuStateAccess::capture_privileged(Vcpu& vcpu, StateWriter& writer) {
  FT_TRY(privileged_->refresh(vcpu));
  const uint16_t index = index_of(vcpu);
  *writer.add_struct<kvm_xcrs>(StateKind::kXcrs, index) = privileged_->xcrs();
  *writer.add_struct<kvm_debugregs>(StateKind::kDebugRegs, index) = privileged_->debugregs();
  const std::vector<kvm_msr_entry>& msrs = privileged_->msrs();
  const auto bytes = static_cast<uint32_t>(msrs.size() * sizeof(kvm_msr_entry));
  if (bytes > 0) std::memcpy(writer.add(StateKind::kMsrs, index, bytes), msrs.data(), bytes);
  return Ok{};
}

}  // namespace ft

// Reading a vCPU's complete state into a blob.
//
// What is read how, and in which order:
//   1  mp_state     first: reading it makes KVM act on a pending INIT or start-up signal, which
//                   changes registers
//   2  lapic
//   3  regs, sregs, events   from the run page, where KVM left them when the vCPU stopped
//   4  xsave, xcrs, debugregs, MSRs, nested
//
// The run page may be trusted as long as nothing has happened to the vCPU since it left KVM_RUN.
// A stopped vCPU's registers change through INIT and start-up signals, its events through NMI and
// SMI as well. Senders of those are other vCPUs, an IOAPIC line routed so (VmFacts), and the timer
// chip through LVT0 in NMI mode. Where there is such a sender, the run page is brought up to date
// first, by entering KVM_RUN with immediate_exit: one ioctl rather than three.
//
// Nothing else is left out of a capture. XCR0, the debug registers and most MSRs are written by
// the guest without KVM telling user space, so no cheap sign exists that they are as before.
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include "kvm/state.h"
#include "kvm/vcpu_state.h"

namespace ft {
namespace {

Error capture_error(const Vcpu& vcpu, const char* name) {
  return sys_error("FT_ERR_KVM_STATE",
                   std::string("Cannot read ") + name + " of vCPU " + std::to_string(vcpu.id()));
}

Status get(Vcpu& vcpu, unsigned long request, void* out, StateKind kind) {
  if (::ioctl(vcpu.fd(), request, out) == 0) return Ok{};
  return capture_error(vcpu, state_kind_name(kind));
}

uint16_t index_of(const Vcpu& vcpu) {
  return static_cast<uint16_t>(vcpu.id());
}

bool changes_while_stopped(const Vcpu& vcpu, const kvm_lapic_state& lapic) {
  const VmFacts& vm = vcpu.vm_facts();
  if (vm.vcpus.load(std::memory_order_relaxed) > 1) return true;
  if (vm.events_from_lines.load(std::memory_order_relaxed)) return true;
  constexpr size_t kLvt0 = 0x350;
  constexpr uint32_t kMasked = 1u << 16;
  constexpr uint32_t kModeNmi = 4u << 8;
  uint32_t lvt0;
  std::memcpy(&lvt0, lapic.regs + kLvt0, sizeof(lvt0));
  return (lvt0 & kMasked) == 0 && (lvt0 & (7u << 8)) == kModeNmi;
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
  access.msrs_ = probe_msrs(vcpu.fd(), listed.take());
  access.msr_batch_ = uapi::Msrs(std::min<size_t>(access.msrs_.size(), kMsrsPerCall));

  const int khz = ::ioctl(vcpu.fd(), KVM_GET_TSC_KHZ, 0);
  if (khz <= 0) return capture_error(vcpu, "the TSC's frequency");
  access.tsc_khz_ = static_cast<uint32_t>(khz);
  return access;
}

Status VcpuStateAccess::capture(Vcpu& vcpu, StateWriter& writer) {
  const uint16_t index = index_of(vcpu);
  FT_TRY(get(vcpu, KVM_GET_MP_STATE, writer.add_struct<kvm_mp_state>(StateKind::kMpState, index),
             StateKind::kMpState));
  auto* lapic = writer.add_struct<kvm_lapic_state>(StateKind::kLapic, index);
  FT_TRY(get(vcpu, KVM_GET_LAPIC, lapic, StateKind::kLapic));
  if (caps_.sync_regs != 0 && changes_while_stopped(vcpu, *lapic)) {
    Result<Vcpu::Exit> settled = vcpu.complete_pending_io();
    if (!settled.ok()) return settled.error();
    FT_CHECK(settled.value() == Vcpu::Exit::kInterrupted, "captured with an access half done");
  }
  FT_TRY(capture_registers(vcpu, writer));

  FT_TRY(get(vcpu, caps_.xsave2 ? uapi::kGetXsave2 : uapi::kGetXsave,
             writer.add(StateKind::kXsave, index, caps_.xsave_bytes), StateKind::kXsave));
  FT_TRY(get(vcpu, KVM_GET_XCRS, writer.add_struct<kvm_xcrs>(StateKind::kXcrs, index),
             StateKind::kXcrs));
  FT_TRY(get(vcpu, KVM_GET_DEBUGREGS,
             writer.add_struct<kvm_debugregs>(StateKind::kDebugRegs, index),
             StateKind::kDebugRegs));
  FT_TRY(capture_msrs(vcpu, writer));
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

Status VcpuStateAccess::capture_msrs(Vcpu& vcpu, StateWriter& writer) {
  // KVM writes the values into a buffer of its own format: a count, then the entries. One such
  // buffer is kept; each batch goes through it and from there into the blob.
  const auto count = static_cast<uint32_t>(msrs_.size());
  auto* out = reinterpret_cast<kvm_msr_entry*>(
      writer.add(StateKind::kMsrs, index_of(vcpu), count * sizeof(kvm_msr_entry)));
  for (uint32_t done = 0; done < count; done += msr_batch_.count()) {
    const uint32_t n = std::min(count - done, kMsrsPerCall);
    msr_batch_.set_count(n);
    for (uint32_t i = 0; i < n; i++) {
      msr_batch_.elements()[i] = kvm_msr_entry{msrs_[done + i], 0, 0};
    }
    const int got = ::ioctl(vcpu.fd(), uapi::kGetMsrs, msr_batch_.head());
    if (got != static_cast<int>(n)) {
      if (got >= 0) errno = EIO;
      return capture_error(vcpu, "the MSRs");
    }
    std::memcpy(out + done, msr_batch_.elements(), n * sizeof(kvm_msr_entry));
  }
  return Ok{};
}

}  // namespace ft

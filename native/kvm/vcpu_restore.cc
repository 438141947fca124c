// Putting a captured vCPU state back.
//
//   check every entry's presence and length (nothing has been touched yet)
//     └▶ sregs ▶ (feature control, nested) ▶ regs ▶ xcrs ▶ xsave ▶ TSC frequency ▶ lapic ▶ MSRs
//          ▶ TSC_DEADLINE ▶ debugregs ▶ mp_state ▶ events
//
// Why this order: sregs hold the APIC base and the paging mode that everything later is read
// against; the LAPIC's timer mode decides whether TSC_DEADLINE is taken at all, and a deadline
// written earlier is silently dropped; setting registers drops pending exceptions, so events are
// last.
//
// Nested state goes in as Documentation/virt/kvm/api.rst §4.115 wants it: behind the sregs (SVM's
// enable bit is in EFER) and the feature control MSR, before the general registers, which belong to
// whichever level runs. The hosts this was made on offer no such state: that part has not run
// anywhere yet.
//
// KVM_KVMCLOCK_CTRL is left out on purpose: it tells the guest that it was held for long, so that
// its lock-up watchdogs forgive the gap. After a failover the guest's clock goes on from the
// captured value, so by its own clock there is no gap to forgive.
#include <sys/ioctl.h>

#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <cstring>

#include "kvm/state.h"
#include "kvm/vcpu_state.h"

namespace ft {
namespace {

// No host has more; a blob that claims more is damaged.
constexpr size_t kMsrsMax = 4096;
// The legacy area and the header.
constexpr size_t kXsaveBytesMin = 576;

std::string hex(uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%" PRIx64, value);
  return text;
}

/// A vCPU's entries, copied out of the blob and checked.
struct Captured {
  kvm_regs regs;
  kvm_sregs2 sregs;
  kvm_xcrs xcrs;
  kvm_debugregs debugregs;
  kvm_vcpu_events events;
  kvm_mp_state mp_state;
  kvm_lapic_state lapic;
  uint32_t tsc_khz;
  std::vector<uint64_t> xsave;
  std::vector<kvm_msr_entry> msrs;  // the deadline last
  std::vector<uint64_t> nested;     // empty: none
};

Error format_error(const Vcpu& vcpu, const std::string& what) {
  return Error{"FT_ERR_STATE_FORMAT", 0,
               "The captured state of vCPU " + std::to_string(vcpu.id()) +
                   " cannot be restored here: " + what + "."};
}

Error restore_error(const Vcpu& vcpu, const std::string& name) {
  return sys_error("FT_ERR_STATE_RESTORE",
                   "KVM refuses the captured " + name + " of vCPU " + std::to_string(vcpu.id()));
}

Status put(Vcpu& vcpu, unsigned long request, const void* in, StateKind kind) {
  if (::ioctl(vcpu.fd(), request, in) == 0) return Ok{};
  return restore_error(vcpu, state_kind_name(kind));
}

Status read_msrs(const Vcpu& vcpu, const StateReader& reader, std::span<const uint32_t> known,
                 std::vector<kvm_msr_entry>* out) {
  const auto bytes = reader.find(StateKind::kMsrs, static_cast<uint16_t>(vcpu.id()));
  const size_t count = bytes.size() / sizeof(kvm_msr_entry);
  if (bytes.empty() || bytes.size() % sizeof(kvm_msr_entry) != 0 || count > kMsrsMax) {
    return format_error(vcpu, "entry msrs has " + std::to_string(bytes.size()) + " bytes");
  }
  out->resize(count);
  std::memcpy(out->data(), bytes.data(), bytes.size());
  for (const kvm_msr_entry& msr : *out) {
    // One that this host cannot keep would be state lost without a word.
    if (std::find(known.begin(), known.end(), msr.index) == known.end()) {
      return format_error(vcpu, "this host's KVM does not keep MSR " + hex(msr.index));
    }
  }
  std::stable_partition(out->begin(), out->end(),
                        [](const kvm_msr_entry& m) { return m.index != kMsrTscDeadline; });
  return Ok{};
}

Status read_nested(const Vcpu& vcpu, const StateReader& reader, const KvmCaps& caps,
                   std::vector<uint64_t>* out) {
  const auto bytes = reader.find(StateKind::kNested, static_cast<uint16_t>(vcpu.id()));
  if (bytes.empty() && !caps.nested_state) return Ok{};
  if (!caps.nested_state || bytes.size() != caps.nested_state_bytes) {
    return format_error(vcpu, "entry nested has " + std::to_string(bytes.size()) +
                                  " bytes, this host expects " +
                                  std::to_string(caps.nested_state_bytes));
  }
  out->assign((bytes.size() + 7) / 8, 0);
  std::memcpy(out->data(), bytes.data(), bytes.size());
  const auto* nested = reinterpret_cast<const kvm_nested_state*>(out->data());
  // KVM reads `size` bytes from our copy.
  if (nested->size < sizeof(kvm_nested_state) || nested->size > bytes.size()) {
    return format_error(vcpu, "entry nested says " + std::to_string(nested->size) + " bytes");
  }
  return Ok{};
}

/// Pending exceptions and triple faults are told apart from delivered ones by flags that only a
/// KVM with the capability takes. Without it a flag may go only where it says nothing.
Status fit_events(const Vcpu& vcpu, const KvmCaps& caps, kvm_vcpu_events* events) {
  if ((events->flags & KVM_VCPUEVENT_VALID_PAYLOAD) != 0 && !caps.exception_payload) {
    if (events->exception.pending != 0) {
      return format_error(vcpu,
                          "entry events holds a pending exception with a payload, which "
                          "this host's KVM cannot take");
    }
    events->flags &= ~static_cast<uint32_t>(KVM_VCPUEVENT_VALID_PAYLOAD);
  }
  if ((events->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) != 0 && !caps.triple_fault_event) {
    if (events->triple_fault.pending != 0) {
      return format_error(vcpu,
                          "entry events holds a pending triple fault, which this host's "
                          "KVM cannot take");
    }
    events->flags &= ~static_cast<uint32_t>(KVM_VCPUEVENT_VALID_TRIPLE_FAULT);
  }
  return Ok{};
}

/// The area of another host may be longer or shorter than this host's: components lie at the same
/// places on both (the handshake compares them), and what the guest was not given is zero.
Status read_xsave(const Vcpu& vcpu, const StateReader& reader, const KvmCaps& caps,
                  std::vector<uint64_t>* out) {
  const auto bytes = reader.find(StateKind::kXsave, static_cast<uint16_t>(vcpu.id()));
  const size_t own = caps.xsave_bytes;
  const bool fits =
      bytes.size() <= own || std::all_of(bytes.begin() + static_cast<ptrdiff_t>(own), bytes.end(),
                                         [](uint8_t byte) { return byte == 0; });
  if (bytes.size() < kXsaveBytesMin || !fits) {
    return format_error(vcpu, "entry xsave has " + std::to_string(bytes.size()) +
                                  " bytes, this host expects " + std::to_string(own));
  }
  out->assign((own + 7) / 8, 0);
  std::memcpy(out->data(), bytes.data(), std::min(own, bytes.size()));
  return Ok{};
}

Status read_all(const Vcpu& vcpu, const StateReader& reader, const KvmCaps& caps,
                std::span<const uint32_t> known_msrs, Captured* out) {
  const auto index = static_cast<uint16_t>(vcpu.id());
  FT_TRY(read_state_struct(reader, StateKind::kRegs, index, &out->regs));
  FT_TRY(read_state_struct(reader, StateKind::kSregs, index, &out->sregs));
  FT_TRY(read_state_struct(reader, StateKind::kXcrs, index, &out->xcrs));
  FT_TRY(read_state_struct(reader, StateKind::kDebugRegs, index, &out->debugregs));
  FT_TRY(read_state_struct(reader, StateKind::kEvents, index, &out->events));
  FT_TRY(read_state_struct(reader, StateKind::kMpState, index, &out->mp_state));
  FT_TRY(read_state_struct(reader, StateKind::kLapic, index, &out->lapic));
  FT_TRY(read_state_struct(reader, StateKind::kTscKhz, index, &out->tsc_khz));
  FT_TRY(read_xsave(vcpu, reader, caps, &out->xsave));
  FT_TRY(read_msrs(vcpu, reader, known_msrs, &out->msrs));
  FT_TRY(read_nested(vcpu, reader, caps, &out->nested));
  return fit_events(vcpu, caps, &out->events);
}

Status put_sregs(Vcpu& vcpu, const KvmCaps& caps, const kvm_sregs2& in) {
  if (caps.sregs2) return put(vcpu, KVM_SET_SREGS2, &in, StateKind::kSregs);
  // Without SREGS2 KVM loads the PAE entries from the page table in memory.
  kvm_sregs narrow{};
  std::memcpy(&narrow, &in, offsetof(kvm_sregs, apic_base) + sizeof(in.apic_base));
  return put(vcpu, KVM_SET_SREGS, &narrow, StateKind::kSregs);
}

Status put_msrs(Vcpu& vcpu, std::span<const kvm_msr_entry> msrs) {
  uapi::Msrs batch(kMsrsPerCall);
  for (size_t done = 0; done < msrs.size();) {
    const size_t n = std::min<size_t>(msrs.size() - done, kMsrsPerCall);
    batch.set_count(static_cast<uint32_t>(n));
    std::memcpy(batch.elements(), &msrs[done], n * sizeof(kvm_msr_entry));
    const int set = ::ioctl(vcpu.fd(), uapi::kSetMsrs, batch.head());
    if (set < 0) return restore_error(vcpu, state_kind_name(StateKind::kMsrs));
    if (static_cast<size_t>(set) != n) {
      const kvm_msr_entry& refused = msrs[done + static_cast<size_t>(set)];
      return Error{"FT_ERR_STATE_RESTORE", 0,
                   "KVM refuses the captured msrs of vCPU " + std::to_string(vcpu.id()) + ": MSR " +
                       hex(refused.index) + " = " + hex(refused.data) + "."};
    }
    done += n;
  }
  return Ok{};
}

// Before Linux 6.8, KVM takes a TSC that is within a second of what the VM would show anyway for an
// attempt to keep the vCPUs together, and leaves it as it is: a VM that is about as old as the
// guest would keep its own. So the first vCPU goes somewhere far off first, which begins a new
// count; the captured value is then far from it, and the other vCPUs' are close to the first one's.
Status leave_own_tsc(Vcpu& vcpu, std::span<const kvm_msr_entry> msrs) {
  if (vcpu.id() != 0) return Ok{};
  for (kvm_msr_entry msr : msrs) {
    if (msr.index != kMsrTsc) continue;
    msr.data += 1ull << 40;
    return put_msrs(vcpu, {&msr, 1});
  }
  return Ok{};
}

Status put_nested(Vcpu& vcpu, const Captured& in) {
  if (in.nested.empty()) return Ok{};
  // Entering nested mode is allowed only once feature control says so.
  for (const kvm_msr_entry& msr : in.msrs) {
    if (msr.index == kMsrFeatureControl) FT_TRY(put_msrs(vcpu, {&msr, 1}));
  }
  return put(vcpu, KVM_SET_NESTED_STATE, in.nested.data(), StateKind::kNested);
}

Status put_tsc_khz(Vcpu& vcpu, uint32_t captured, uint32_t own) {
  // The same frequency needs no call, and hosts without TSC scaling may refuse it.
  if (captured == own) return Ok{};
  if (::ioctl(vcpu.fd(), KVM_SET_TSC_KHZ, static_cast<unsigned long>(captured)) == 0) return Ok{};
  return restore_error(vcpu, "TSC frequency of " + std::to_string(captured) +
                                 " kHz (this host has " + std::to_string(own) + " kHz)");
}

}  // namespace

Status VcpuStateAccess::check(Vcpu& vcpu, const StateReader& reader) {
  Captured in;
  FT_TRY(read_all(vcpu, reader, caps_, msrs_, &in));
  FT_TRY(put_tsc_khz(vcpu, in.tsc_khz, tsc_khz_));
  tsc_khz_ = in.tsc_khz;  // in force from now on, whatever guest comes later
  return Ok{};
}

Status VcpuStateAccess::restore(Vcpu& vcpu, const StateReader& reader) {
  Captured in;
  FT_TRY(read_all(vcpu, reader, caps_, msrs_, &in));

  privileged_->forget(msrs_);
  FT_TRY(put_sregs(vcpu, caps_, in.sregs));
  FT_TRY(put_nested(vcpu, in));
  FT_TRY(put(vcpu, KVM_SET_REGS, &in.regs, StateKind::kRegs));
  FT_TRY(put(vcpu, KVM_SET_XCRS, &in.xcrs, StateKind::kXcrs));
  FT_TRY(put(vcpu, uapi::kSetXsave, in.xsave.data(), StateKind::kXsave));
  FT_TRY(put_tsc_khz(vcpu, in.tsc_khz, tsc_khz_));
  tsc_khz_ = in.tsc_khz;  // what the next capture says
  FT_TRY(put(vcpu, KVM_SET_LAPIC, &in.lapic, StateKind::kLapic));
  FT_TRY(leave_own_tsc(vcpu, in.msrs));
  FT_TRY(put_msrs(vcpu, in.msrs));
  FT_TRY(put(vcpu, KVM_SET_DEBUGREGS, &in.debugregs, StateKind::kDebugRegs));
  FT_TRY(put(vcpu, KVM_SET_MP_STATE, &in.mp_state, StateKind::kMpState));
  FT_TRY(put(vcpu, KVM_SET_VCPU_EVENTS, &in.events, StateKind::kEvents));
  return vcpu.refresh_synced_regs();
}

}  // namespace ft

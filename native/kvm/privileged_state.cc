#include "kvm/privileged_state.h"

#include <sys/ioctl.h>
#include <x86intrin.h>

#include <algorithm>
#include <cerrno>

#include "kvm/state.h"
#include "kvm/vcpu_state.h"

namespace ft {
namespace {

/// MSRs that change by an instruction of kernel mode and by nothing else.
constexpr struct {
  uint32_t first;
  uint32_t last;
} kOnlyByKernelMode[] = {
    {0x34, 0x34},              // count of SMIs; nobody here sends one
    {0x3a, 0x3b},              // feature control, TSC adjustment
    {0x48, 0x48},              // speculation control
    {0x8b, 0x8b},              // microcode's revision
    {0xce, 0xce},              // platform
    {0x10a, 0x10a},            // architecture's capabilities
    {0x140, 0x140},            // feature enables
    {0x174, 0x17b},            // SYSENTER, machine check's control
    {0x1a0, 0x1a0},            // further enables
    {0x1fc, 0x1fc},            // power control
    {0x200, 0x20f},            // memory types
    {0x250, 0x26f},            //
    {0x277, 0x277},            // page attributes
    {0x2ff, 0x2ff},            // the type of all other memory
    {0x345, 0x345},            // performance capabilities
    {0x400, 0x403},            // the one machine-check bank; no error is ever reported in it
    {0x4b564d00, 0x4b564d07},  // KVM's own
    {0xc0000081, 0xc0000084},  // SYSCALL
    {0xc0000102, 0xc0000103},  // the other GS base, TSC_AUX
    {0xc0010015, 0xc0010015},  // hardware configuration
    {0xc0010117, 0xc0010117},  // nested guests; there are none
    {0xc001011f, 0xc001011f},  // speculation control of another make
};
/// MSRs that change by themselves unless they are zero, and those that then would.
constexpr uint32_t kStayAtZero[] = {kMsrTscDeadline, 0x1d9};
constexpr uint32_t kBranchRecordFirst = 0x1db, kBranchRecordLast = 0x1de;  // by 0x1d9

/// Whether this MSR, with this value, stays what it is while no kernel-mode instruction runs.
bool stays(const kvm_msr_entry& msr) {
  const uint32_t index = msr.index;
  if (index == kMsrTsc) return true;  // made anew each time
  if (std::find(std::begin(kStayAtZero), std::end(kStayAtZero), index) != std::end(kStayAtZero)) {
    return msr.data == 0;
  }
  if (index >= kBranchRecordFirst && index <= kBranchRecordLast) return true;
  return std::any_of(
      std::begin(kOnlyByKernelMode), std::end(kOnlyByKernelMode),
      [index](const auto& range) { return index >= range.first && index <= range.last; });
}

Status read_into(const Vcpu& vcpu, unsigned long request, void* out, StateKind kind) {
  if (::ioctl(vcpu.fd(), request, out) == 0) return Ok{};
  return capture_error(vcpu, state_kind_name(kind));
}

}  // namespace

PrivilegedState::PrivilegedState(const Kvm& kvm, const Vcpu& vcpu,
                                 const std::vector<uint32_t>& msrs)
    : batch_(kMsrsPerCall) {
  forget(msrs);
  const KvmCaps& caps = kvm.caps();
  const bool synced = (caps.sync_regs & KVM_SYNC_X86_SREGS) != 0;
  if (caps.nested_state || caps.tsc_control || !synced) return;
  if (kernel_mode_is_counted(kvm)) counters_ = VcpuCounters::open(vcpu.fd());
}

void PrivilegedState::forget(const std::vector<uint32_t>& msrs) {
  counts_.reset();
  msrs_.clear();
  for (const uint32_t index : msrs) msrs_.push_back({.index = index, .reserved = 0, .data = 0});
}

Status PrivilegedState::refresh(Vcpu& vcpu) {
  if (!unchanged(vcpu)) return read_all(vcpu);
  kept_++;
  for (kvm_msr_entry& msr : msrs_) {
    if (msr.index == kMsrTsc) msr.data = guest_tsc_ + (__rdtsc() - host_tsc_);
  }
  return Ok{};
}

bool PrivilegedState::unchanged(const Vcpu& vcpu) {
  if (!counters_ || !counts_ || !msrs_stay_) return false;
  if (vcpu.vm_facts().vcpus.load(std::memory_order_relaxed) > 1) return false;
  const kvm_sregs& sregs = vcpu.run_page()->s.regs.sregs;
  const bool user_mode = (sregs.cr0 & 1) != 0 && sregs.ss.dpl == 3;
  return user_mode && counters_->read() == counts_;
}

Status PrivilegedState::read_all(Vcpu& vcpu) {
  counts_ = counters_ ? counters_->read() : std::nullopt;
  FT_TRY(read_into(vcpu, KVM_GET_XCRS, &xcrs_, StateKind::kXcrs));
  FT_TRY(read_into(vcpu, KVM_GET_DEBUGREGS, &debugregs_, StateKind::kDebugRegs));
  FT_TRY(read_msrs(vcpu));
  msrs_stay_ = std::all_of(msrs_.begin(), msrs_.end(), stays);
  return Ok{};
}

Status PrivilegedState::read_msrs(Vcpu& vcpu) {
  // KVM writes the values into a buffer of its own format: a count, then the entries.
  host_tsc_ = __rdtsc();
  const auto count = static_cast<uint32_t>(msrs_.size());
  for (uint32_t done = 0; done < count; done += batch_.count()) {
    const uint32_t n = std::min(count - done, kMsrsPerCall);
    batch_.set_count(n);
    std::copy_n(msrs_.begin() + done, n, batch_.elements());
    const int got = ::ioctl(vcpu.fd(), uapi::kGetMsrs, batch_.head());
    if (got != static_cast<int>(n)) {
      if (got >= 0) errno = EIO;
      return capture_error(vcpu, "the MSRs");
    }
    std::copy_n(batch_.elements(), n, msrs_.begin() + done);
  }
  for (const kvm_msr_entry& msr : msrs_) {
    if (msr.index == kMsrTsc) guest_tsc_ = msr.data;
  }
  return Ok{};
}

}  // namespace ft

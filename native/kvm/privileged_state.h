// The part of a vCPU's state that only kernel mode changes: XCR0, the debug registers, the MSRs.
//
// A guest in user mode runs for many epochs without changing any of it, and reading it takes three
// requests to the vCPU. It is read again only when it can have changed:
//
//   every instruction that changes it is one of kernel mode
//     ∧ this KVM counts every instruction of kernel mode           kernel_mode_is_counted(), tried
//     ∧ the count is what it was when the state was last read      one read of the counters
//     ∧ no MSR among them changes by itself: a deadline that may   checked against the values
//       pass, counters, branch records; none that is not known
//     ∧ nobody else changes it: one vCPU alone (another one may    VmFacts
//       send INIT), and the VMM has restored nothing since         forget()
//   ⇒ it is what it was. The TSC goes on by itself, by as much as the host's: it cannot be scaled
//     or moved on a KVM without TSC control.
//
// As a second guard, any exit that is not a page fault or an interrupt of the host counts as a
// change. Where one of these does not hold, as on any processor that runs kernel mode by itself,
// everything is read at every cut.
#pragma once

#include <linux/kvm.h>

#include <optional>
#include <vector>

#include "kvm/uapi.h"
#include "kvm/vcpu.h"
#include "kvm/vcpu_counters.h"

namespace ft {

class PrivilegedState {
 public:
  /// `msrs` are those that travel; as long as they are, they are in this order.
  PrivilegedState(const Kvm& kvm, const Vcpu& vcpu, const std::vector<uint32_t>& msrs);

  /// Brings what is below up to date. The vCPU stands still. Error: FT_ERR_KVM_STATE.
  Status refresh(Vcpu& vcpu);
  /// The vCPU's state was changed from outside; `msrs` as in the constructor.
  void forget(const std::vector<uint32_t>& msrs);

  const kvm_xcrs& xcrs() const { return xcrs_; }
  const kvm_debugregs& debugregs() const { return debugregs_; }
  const std::vector<kvm_msr_entry>& msrs() const { return msrs_; }

  /// How often refresh() found that nothing can have changed.
  uint64_t kept() const { return kept_; }

 private:
  bool unchanged(const Vcpu& vcpu);
  Status read_all(Vcpu& vcpu);
  Status read_msrs(Vcpu& vcpu);

  std::optional<VcpuCounters> counters_;        // nothing: the proof is not to be had here
  std::optional<VcpuCounters::Counts> counts_;  // when the state was read; nothing: never
  kvm_xcrs xcrs_{};
  kvm_debugregs debugregs_{};
  std::vector<kvm_msr_entry> msrs_;
  uapi::Msrs batch_;
  bool msrs_stay_ = false;
  uint64_t host_tsc_ = 0;  // the host's when the MSRs were read, not later than the guest's was
  uint64_t guest_tsc_ = 0;
  uint64_t kept_ = 0;
};

}  // namespace ft

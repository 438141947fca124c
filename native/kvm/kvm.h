// /dev/kvm itself: opening it, what it offers, and the tables that do not belong to one VM.
// Source: Linux Documentation/virt/kvm/api.rst, "System ioctls".
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/unique_fd.h"

namespace ft {

/// What this host's KVM offers, read once.
struct KvmCaps {
  uint32_t ring_bytes_max = 0;  // 0: no dirty ring
  bool ring_acq_rel = false;    // DIRTY_LOG_RING_ACQ_REL rather than DIRTY_LOG_RING
  uint32_t sync_regs = 0;       // mask of KVM_SYNC_X86_*
  uint32_t xsave_bytes = 4096;  // size of KVM_GET_XSAVE2's answer
  bool xsave2 = false;
  bool sregs2 = false;
  bool nested_state = false;
  uint32_t nested_state_bytes = 0;
  bool tsc_control = false;
  uint32_t clock_flags = 0;  // KVM_CAP_ADJUST_CLOCK
  uint32_t vcpu_mmap_bytes = 0;
  bool exception_payload = false;   // a pending exception keeps its CR2/DR6 apart until delivered
  bool triple_fault_event = false;  // a pending triple fault is part of the events
  bool mce = false;                 // KVM_X86_SETUP_MCE is there
};

/// Answers KVM_CHECK_EXTENSION: 0 or less when the capability is not there.
using CapQuery = std::function<int(int cap)>;

/// Reads every capability through `query` and refuses a KVM that lacks one we cannot do without.
/// Apart from Kvm::open so that each refusal can be shown without a KVM that lacks it.
/// Error: FT_ERR_KVM_CAPABILITY with the name of the first missing one.
Result<KvmCaps> read_caps(const CapQuery& query);

class Kvm {
 public:
  /// Opens `path` and reads the capabilities. Errors, each saying what to do:
  /// FT_ERR_KVM_MISSING, FT_ERR_KVM_PERMISSION, FT_ERR_KVM_VERSION, FT_ERR_KVM_CAPABILITY (names
  /// the missing one: dirty ring, irqchip, irqfd, ioeventfd, immediate_exit…). Synced registers
  /// are not among the required ones: without them state is read by ioctls, only slower.
  static Result<Kvm> open(const std::string& path = "/dev/kvm");

  int fd() const { return fd_.get(); }
  const KvmCaps& caps() const { return caps_; }
  /// Makes do with less than the host offers, so that the ways around a missing capability can be
  /// shown on a host that has it. `caps` must not claim more than caps() does. For tests.
  void limit_caps(const KvmCaps& caps) { caps_ = caps; }
  /// The CPUID leaves this KVM can give a guest.
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;
  /// The MSRs that KVM lists as belonging to a vCPU's state.
  Result<std::vector<uint32_t>> msr_indices() const;

 private:
  UniqueFd fd_;
  KvmCaps caps_;
};

}  // namespace ft

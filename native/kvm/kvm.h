// /dev/kvm itself: opening it, what it offers, and the tables that do not belong to one VM.
// Source: Linux Documentation/virt/kvm/api.rst, "System ioctls".
#pragma once

#include <linux/kvm.h>

#include <cstdint>
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
};

class Kvm {
 public:
  /// Opens `path` and reads the capabilities. Errors, each saying what to do:
  /// FT_ERR_KVM_MISSING, FT_ERR_KVM_PERMISSION, FT_ERR_KVM_VERSION, FT_ERR_KVM_CAPABILITY (names
  /// the missing one: dirty ring, irqchip, irqfd, ioeventfd, immediate_exit, sync regs…).
  static Result<Kvm> open(const std::string& path = "/dev/kvm");

  int fd() const { return fd_.get(); }
  const KvmCaps& caps() const { return caps_; }
  /// The CPUID leaves this KVM can give a guest.
  Result<std::vector<kvm_cpuid_entry2>> supported_cpuid() const;
  /// The MSRs that KVM lists as belonging to a vCPU's state.
  Result<std::vector<uint32_t>> msr_indices() const;

 private:
  UniqueFd fd_;
  KvmCaps caps_;
};

}  // namespace ft

// One vCPU: its descriptor, its shared kvm_run page, its ring, and running it.
// Source: api.rst, "vcpu ioctls", KVM_RUN, KVM_CAP_SYNC_REGS, KVM_CAP_IMMEDIATE_EXIT.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/mapped_region.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "kvm/dirty_ring.h"
#include "kvm/vm.h"

namespace ft {

/// Where a vCPU enters 64-bit code with paging on, and the tables it uses there; all of them in
/// guest memory. Interrupts are off and there is no IDT.
struct LongModeEntry {
  uint64_t rip;
  uint64_t boot_params_gpa;  // in RSI
  uint64_t page_tables_gpa;  // the PML4; maps one to one
  uint64_t gdt_gpa;
  uint32_t gdt_bytes;
  uint16_t code_selector;  // flat, 64 bits
  uint16_t data_selector;  // flat
};

class Vcpu {
 public:
  /// `cpuid` is the guest's processor model (Kvm::supported_cpuid, perhaps narrowed); the leaves
  /// that name this vCPU's APIC id are filled in here. `id` is the APIC id, 0…254.
  /// Errors: FT_ERR_KVM_VCPU, FT_ERR_KVM_CPUID, FT_ERR_MAP.
  static Result<Vcpu> create(const Kvm& kvm, const Vm& vm, uint32_t id,
                             const std::vector<kvm_cpuid_entry2>& cpuid);

  /// Gives a vCPU that has not run another processor model than it was made with; as in create().
  /// The MSRs that it keeps may change with it (VcpuStateAccess::probe_again).
  /// Error: FT_ERR_KVM_CPUID.
  Status set_cpuid(const std::vector<kvm_cpuid_entry2>& cpuid);

  uint32_t id() const { return id_; }
  int fd() const { return fd_.get(); }
  /// The page shared with KVM: exit reason and data, immediate_exit, synced registers.
  kvm_run* run_page() const { return run_; }
  DirtyRing& ring() { return ring_; }

  enum class Exit : uint8_t {
    kInterrupted,  // a signal or immediate_exit
    kIo,           // run_page()->io
    kMmio,         // run_page()->mmio
    kHalt,
    kShutdown,  // triple fault
    kSystemEvent,
    kRingFull,  // KVM_EXIT_DIRTY_RING_FULL
    kInternalError,
    kFailEntry,
    kOther,
  };
  /// Enters the guest until it exits. Registers named in `KvmCaps::sync_regs` are valid in
  /// run_page()->s.regs at every return. The vCPU's own thread only.
  /// Error: FT_ERR_KVM_RUN for anything but EINTR/EAGAIN, which are kInterrupted.
  Result<Exit> run();
  /// From now on KVM_RUN takes `signal`, which its thread blocks, and no other; run() then returns
  /// kInterrupted and leaves the signal pending. Error: FT_ERR_KVM_VCPU.
  Status open_to(int signal);
  /// A word for the exit reason in run_page() ("mmio", "internal error 1 (emulation)…").
  std::string describe_exit() const;

  /// Finishes an instruction whose MMIO or port access KVM still has to complete: enters with
  /// immediate_exit set and comes back at once. Must be called before state is captured after an
  /// exit kIo or kMmio (writes too: KVM moves RIP past an OUT only now).
  /// kInterrupted: done, state is whole. Anything else: the same instruction has a further access
  /// (a string instruction, an access across pages); serve it like an exit of run(), call again.
  /// A kick that arrives meanwhile (immediate_exit = 1 from a signal handler) stays in force.
  /// The vCPU's own thread only. Error: FT_ERR_KVM_RUN.
  Result<Exit> complete_pending_io();
  /// Whether the last exit left an access that is still to be completed. The thread that runs the
  /// vCPU, or any while the vCPU is stopped.
  bool access_pending() const { return access_pending_; }

  /// Brings run_page()->s.regs up to date without running the guest (after registers were set by
  /// ioctls). Error: FT_ERR_KVM_STATE.
  Status refresh_synced_regs();
  /// Which of KVM_SYNC_X86_* are kept in run_page()->s.regs.
  uint32_t sync_regs() const { return sync_regs_; }
  const VmFacts& vm_facts() const { return *vm_facts_; }

  /// Initial state for a PVH entry: 32-bit protected mode, flat segments, paging off,
  /// EIP = entry, EBX = start_info_gpa. Source: xen/include/public/arch-x86/hvm/start_info.h.
  /// Error: FT_ERR_KVM_STATE.
  Status set_pvh_entry(uint32_t entry, uint32_t start_info_gpa);
  /// Initial state for a 64-bit entry, as the Linux boot protocol asks. Error: FT_ERR_KVM_STATE.
  Status set_long_mode_entry(const LongModeEntry& entry);

 private:
  Status enter_at(const kvm_sregs& sregs, const kvm_regs& regs);

  UniqueFd fd_;
  MappedRegion run_region_;
  kvm_run* run_ = nullptr;
  DirtyRing ring_;
  uint32_t id_ = 0;
  uint32_t sync_regs_ = 0;
  bool access_pending_ = false;
  std::shared_ptr<VmFacts> vm_facts_;
};

}  // namespace ft

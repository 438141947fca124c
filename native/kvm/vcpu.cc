// Creating a vCPU, its processor model, and entering the guest.
#include "kvm/vcpu.h"

#include <signal.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kvm/uapi.h"

namespace ft {
namespace {

/// Fills in the leaves in which a processor names itself.
///   1          EBX[31:24]  initial APIC id
///   0xb, 0x1f  EDX         x2APIC id, in every subleaf
///   0x8000001e EAX         extended APIC id, EBX[7:0] core (AMD)
void patch_apic_id(kvm_cpuid_entry2* entry, uint32_t id) {
  switch (entry->function) {
    case 1:
      entry->ebx = (entry->ebx & 0x00ffffff) | (id << 24);
      break;
    case 0xb:
    case 0x1f:
      entry->edx = id;
      break;
    case 0x8000001e:
      entry->eax = id;
      entry->ebx = (entry->ebx & ~0xffu) | (id & 0xff);
      break;
    default:
      break;
  }
}

/// One machine-check bank, the fewest that KVM takes. The default is 32 banks of 4 registers each,
/// all of them state that would have to be read at every cut; no error is ever reported in them.
Status set_up_machine_check(int fd, const KvmCaps& caps) {
  if (!caps.mce) return Ok{};
  uint64_t one_bank = 1;
  if (::ioctl(fd, KVM_X86_SETUP_MCE, &one_bank) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_VCPU", "KVM_X86_SETUP_MCE failed");
}

const char* internal_error_name(uint32_t suberror) {
  switch (suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      return "emulation";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      return "simultaneous exceptions";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      return "event delivery";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      return "unexpected exit reason";
    default:
      return "unknown";
  }
}

Vcpu::Exit exit_of(uint32_t reason) {
  switch (reason) {
    case KVM_EXIT_IO:
      return Vcpu::Exit::kIo;
    case KVM_EXIT_MMIO:
      return Vcpu::Exit::kMmio;
    case KVM_EXIT_HLT:
      return Vcpu::Exit::kHalt;
    case KVM_EXIT_SHUTDOWN:
      return Vcpu::Exit::kShutdown;
    case KVM_EXIT_SYSTEM_EVENT:
      return Vcpu::Exit::kSystemEvent;
    case KVM_EXIT_DIRTY_RING_FULL:
      return Vcpu::Exit::kRingFull;
    case KVM_EXIT_INTERNAL_ERROR:
      return Vcpu::Exit::kInternalError;
    case KVM_EXIT_FAIL_ENTRY:
      return Vcpu::Exit::kFailEntry;
    case KVM_EXIT_INTR:
      return Vcpu::Exit::kInterrupted;
    default:
      return Vcpu::Exit::kOther;
  }
}

}  // namespace

Result<Vcpu> Vcpu::create(const Kvm& kvm, const Vm& vm, uint32_t id,
                          const std::vector<kvm_cpuid_entry2>& cpuid) {
  if (id > 254) {
    return Error{"FT_ERR_KVM_VCPU", 0,
                 "vCPU id " + std::to_string(id) + " is not possible; the highest is 254."};
  }
  const int raw = ::ioctl(vm.fd(), KVM_CREATE_VCPU, id);
  if (raw < 0) {
    return sys_error("FT_ERR_KVM_VCPU", "KVM refuses vCPU " + std::to_string(id));
  }
  Vcpu vcpu;
  vcpu.fd_ = UniqueFd(raw);
  vcpu.id_ = id;
  auto region = MappedRegion::shared(raw, kvm.caps().vcpu_mmap_bytes, 0, "a vCPU's run page");
  if (!region.ok()) return region.error();
  vcpu.run_region_ = region.take();
  vcpu.run_ = reinterpret_cast<kvm_run*>(vcpu.run_region_.data());

  auto ring = DirtyRing::map(raw, vm.ring_bytes());
  if (!ring.ok()) return ring.error();
  vcpu.ring_ = ring.take();

  FT_TRY(vcpu.set_cpuid(cpuid));
  FT_TRY(set_up_machine_check(raw, kvm.caps()));
  vcpu.sync_regs_ = kvm.caps().sync_regs;
  vcpu.run_->kvm_valid_regs = vcpu.sync_regs_;
  vcpu.vm_facts_ = vm.facts();
  vcpu.vm_facts_->vcpus.fetch_add(1, std::memory_order_relaxed);
  FT_TRY(vcpu.refresh_synced_regs());
  return vcpu;
}

Status Vcpu::set_cpuid(const std::vector<kvm_cpuid_entry2>& cpuid) {
  uapi::Cpuid table(cpuid.size());
  for (size_t i = 0; i < cpuid.size(); i++) {
    table.elements()[i] = cpuid[i];
    patch_apic_id(&table.elements()[i], id_);
  }
  if (::ioctl(fd_.get(), uapi::kSetCpuid2, table.head()) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_CPUID", "KVM refuses the processor model of vCPU " +
                                           std::to_string(id_) + " (" +
                                           std::to_string(cpuid.size()) + " leaves)");
}

Status Vcpu::open_to(int signal) {
  sigset_t mask;
  sigfillset(&mask);
  sigdelset(&mask, signal);
  uapi::SignalMask wanted{.bytes = sizeof(wanted.set), .set = {}};
  std::memcpy(wanted.set, &mask, sizeof(wanted.set));
  if (::ioctl(fd_.get(), uapi::kSetSignalMask, &wanted) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_VCPU", "KVM_SET_SIGNAL_MASK failed");
}

Result<Vcpu::Exit> Vcpu::run() {
  if (::ioctl(fd_.get(), KVM_RUN, 0) == 0) {
    const Exit exit = exit_of(run_->exit_reason);
    access_pending_ = exit == Exit::kIo || exit == Exit::kMmio;
    return exit;
  }
  // KVM completes an access before it looks at signals; after an error nothing ever will.
  access_pending_ = false;
  // EAGAIN: a vCPU that waits for its start-up signal was woken; there is nothing to do for it.
  if (errno == EINTR || errno == EAGAIN) return Exit::kInterrupted;
  return sys_error("FT_ERR_KVM_RUN", "KVM cannot run vCPU " + std::to_string(id_) +
                                         " any further (last exit: " + describe_exit() + ")");
}

Result<Vcpu::Exit> Vcpu::complete_pending_io() {
  // Any value but zero makes KVM come straight back. Ours differs from the 1 that a kick writes, so
  // that a kick which arrives meanwhile is told apart and stays.
  constexpr uint8_t kOwn = 2;
  const uint8_t before = __atomic_exchange_n(&run_->immediate_exit, kOwn, __ATOMIC_SEQ_CST);
  Result<Exit> exit = run();
  uint8_t expected = kOwn;
  __atomic_compare_exchange_n(&run_->immediate_exit, &expected, before, false, __ATOMIC_SEQ_CST,
                              __ATOMIC_SEQ_CST);
  return exit;
}

Status Vcpu::refresh_synced_regs() {
  kvm_sync_regs* synced = &run_->s.regs;
  const char* what = nullptr;
  if ((sync_regs_ & KVM_SYNC_X86_REGS) != 0 &&
      ::ioctl(fd_.get(), KVM_GET_REGS, &synced->regs) != 0) {
    what = "KVM_GET_REGS";
  } else if ((sync_regs_ & KVM_SYNC_X86_SREGS) != 0 &&
             ::ioctl(fd_.get(), KVM_GET_SREGS, &synced->sregs) != 0) {
    what = "KVM_GET_SREGS";
  } else if ((sync_regs_ & KVM_SYNC_X86_EVENTS) != 0 &&
             ::ioctl(fd_.get(), KVM_GET_VCPU_EVENTS, &synced->events) != 0) {
    what = "KVM_GET_VCPU_EVENTS";
  }
  if (what == nullptr) return Ok{};
  return sys_error("FT_ERR_KVM_STATE",
                   std::string(what) + " failed for vCPU " + std::to_string(id_));
}

std::string Vcpu::describe_exit() const {
  switch (run_->exit_reason) {
    case KVM_EXIT_IO:
      return std::string("port ") + (run_->io.direction == KVM_EXIT_IO_OUT ? "write " : "read ") +
             std::to_string(run_->io.port);
    case KVM_EXIT_MMIO:
      return std::string("mmio ") + (run_->mmio.is_write ? "write " : "read ") +
             std::to_string(run_->mmio.phys_addr);
    case KVM_EXIT_HLT:
      return "halt";
    case KVM_EXIT_SHUTDOWN:
      return "shutdown (triple fault)";
    case KVM_EXIT_SYSTEM_EVENT:
      return "system event " + std::to_string(run_->system_event.type);
    case KVM_EXIT_DIRTY_RING_FULL:
      return "dirty ring full";
    case KVM_EXIT_INTERNAL_ERROR:
      return "internal error " + std::to_string(run_->internal.suberror) + " (" +
             internal_error_name(run_->internal.suberror) + ")";
    case KVM_EXIT_FAIL_ENTRY:
      return "entry failed, hardware reason " +
             std::to_string(run_->fail_entry.hardware_entry_failure_reason);
    case KVM_EXIT_INTR:
      return "interrupted by a signal";
    default:
      return "exit reason " + std::to_string(run_->exit_reason);
  }
}

}  // namespace ft

// Opening /dev/kvm, checking what it offers, and the tables that do not belong to one VM.
#include "kvm/kvm.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kvm/uapi.h"

namespace ft {
namespace {

struct Needed {
  int cap;
  const char* name;
  const char* why;
};

// Without any one of these there is no replicated guest. The dirty ring has two names and is
// checked apart.
constexpr Needed kNeeded[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY", "guest memory lives in this process"},
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP", "the interrupt controllers run inside KVM"},
    {KVM_CAP_PIT2, "KVM_CAP_PIT2", "the timer chip runs inside KVM"},
    {KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2", "the timer chip's state is replicated"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD", "devices raise interrupts through event descriptors"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD", "guests notify devices through event descriptors"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT", "vCPUs must stop without losing a kick"},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR", "Intel hosts need it for real mode"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR",
     "Intel hosts need it for real mode"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID", "the guest is given a processor model"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE", "whether a vCPU is halted is replicated"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS", "pending events are replicated"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS", "debug registers are replicated"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE", "vector registers are replicated"},
    {KVM_CAP_XCRS, "KVM_CAP_XCRS", "extended control registers are replicated"},
    {KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK", "guest time must not run backwards"},
};

Error missing(const char* name, const char* why) {
  return Error{"FT_ERR_KVM_CAPABILITY", 0,
               std::string("This host's KVM lacks ") + name + " (" + why +
                   "). Use a host with Linux 5.11 or newer and a KVM that offers it."};
}

Error open_error(const std::string& path) {
  const int e = errno;
  const std::string reason = std::strerror(e);
  if (e == ENOENT || e == ENODEV || e == ENXIO || e == ENOTDIR) {
    return Error{"FT_ERR_KVM_MISSING", e,
                 "There is no KVM at " + path + " (" + reason +
                     "). Load the module (modprobe kvm_intel or kvm_amd), turn virtualisation on "
                     "in the firmware, or pass the device into this container."};
  }
  if (e == EACCES || e == EPERM) {
    return Error{"FT_ERR_KVM_PERMISSION", e,
                 "This user may not open " + path + " (" + reason +
                     "). Run as root or add the user to the group that owns the device "
                     "(usually kvm)."};
  }
  return Error{"FT_ERR_KVM_MISSING", e, "Cannot open " + path + ": " + reason + "."};
}

}  // namespace

Result<KvmCaps> read_caps(const CapQuery& query) {
  KvmCaps caps;
  for (const Needed& needed : kNeeded) {
    if (query(needed.cap) <= 0) return missing(needed.name, needed.why);
  }
  // ACQ_REL is the ring with its memory ordering spelt out; x86 offers both and they behave alike.
  const int acq_rel = query(KVM_CAP_DIRTY_LOG_RING_ACQ_REL);
  const int plain = query(KVM_CAP_DIRTY_LOG_RING);
  if (acq_rel <= 0 && plain <= 0) {
    return missing("KVM_CAP_DIRTY_LOG_RING", "changed pages are found through the dirty ring");
  }
  caps.ring_acq_rel = acq_rel > 0;
  caps.ring_bytes_max = static_cast<uint32_t>(caps.ring_acq_rel ? acq_rel : plain);

  const int sync = query(KVM_CAP_SYNC_REGS);
  if (sync > 0) caps.sync_regs = static_cast<uint32_t>(sync) & KVM_SYNC_X86_VALID_FIELDS;
  const int xsave2 = query(KVM_CAP_XSAVE2);
  caps.xsave2 = xsave2 > 0;
  caps.xsave_bytes = std::max<uint32_t>(sizeof(uapi::Xsave), xsave2 > 0 ? xsave2 : 0);
  caps.sregs2 = query(KVM_CAP_SREGS2) > 0;
  const int nested = query(KVM_CAP_NESTED_STATE);
  caps.nested_state = nested > 0;
  caps.nested_state_bytes =
      nested > 0 ? std::max<uint32_t>(sizeof(kvm_nested_state), static_cast<uint32_t>(nested)) : 0;
  caps.tsc_control = query(KVM_CAP_TSC_CONTROL) > 0;
  caps.clock_flags = static_cast<uint32_t>(query(KVM_CAP_ADJUST_CLOCK));
  caps.exception_payload = query(KVM_CAP_EXCEPTION_PAYLOAD) > 0;
  caps.triple_fault_event = query(KVM_CAP_X86_TRIPLE_FAULT_EVENT) > 0;
  caps.mce = query(KVM_CAP_MCE) > 0;
  return caps;
}

Result<Kvm> Kvm::open(const std::string& path) {
  Kvm kvm;
  kvm.fd_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!kvm.fd_.valid()) return open_error(path);

  const int fd = kvm.fd_.get();
  const int version = ::ioctl(fd, KVM_GET_API_VERSION, 0);
  if (version < 0) {
    return sys_error("FT_ERR_KVM_VERSION", path + " is not a KVM device (KVM_GET_API_VERSION)");
  }
  if (version != KVM_API_VERSION) {
    return Error{"FT_ERR_KVM_VERSION", 0,
                 path + " speaks KVM API version " + std::to_string(version) + ", this program " +
                     std::to_string(KVM_API_VERSION) + "; use a kernel of this century."};
  }
  Result<KvmCaps> caps = read_caps([fd](int cap) { return ::ioctl(fd, KVM_CHECK_EXTENSION, cap); });
  if (!caps.ok()) return caps.error();
  kvm.caps_ = caps.value();

  const int mmap_bytes = ::ioctl(fd, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (mmap_bytes < static_cast<int>(sizeof(kvm_run))) {
    return sys_error("FT_ERR_KVM_VERSION", path + " gives no vCPU page (KVM_GET_VCPU_MMAP_SIZE)");
  }
  kvm.caps_.vcpu_mmap_bytes = static_cast<uint32_t>(mmap_bytes);
  return kvm;
}

Result<std::vector<kvm_cpuid_entry2>> Kvm::supported_cpuid() const {
  // KVM answers E2BIG until the table is large enough; 4,096 entries are far beyond any host.
  for (uint32_t room = 128; room <= 4096; room *= 2) {
    uapi::Cpuid table(room);
    if (::ioctl(fd_.get(), uapi::kGetSupportedCpuid, table.head()) == 0) {
      return std::vector<kvm_cpuid_entry2>(table.elements(), table.elements() + table.count());
    }
    if (errno != E2BIG) break;
  }
  return sys_error("FT_ERR_KVM_CPUID", "Cannot read the CPUID leaves that KVM supports");
}

Result<std::vector<uint32_t>> Kvm::msr_indices() const {
  // The first call has no room and learns the count through E2BIG.
  uapi::MsrListHeader probe{};
  if (::ioctl(fd_.get(), uapi::kGetMsrIndexList, &probe) != 0 && errno != E2BIG) {
    return sys_error("FT_ERR_KVM_MSRS", "Cannot read KVM's list of MSRs");
  }
  uapi::MsrList list(probe.count);
  if (::ioctl(fd_.get(), uapi::kGetMsrIndexList, list.head()) != 0) {
    return sys_error("FT_ERR_KVM_MSRS", "Cannot read KVM's list of MSRs");
  }
  return std::vector<uint32_t>(list.elements(), list.elements() + list.count());
}

}  // namespace ft

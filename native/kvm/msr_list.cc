// Which MSRs make up a vCPU's state on this host.
//
// Candidates are what KVM lists, plus those that KVM keeps per vCPU but leaves out of its list.
// A candidate stays when a vCPU that has not run both gives its value and takes the same value
// back; what refuses either way could not be restored, so carrying it would be a pretence.
#include <sys/ioctl.h>

#include <algorithm>

#include "kvm/state.h"
#include "kvm/uapi.h"
#include "kvm/vcpu_state.h"

namespace ft {
namespace {

// Not in KVM's list, though guests write and read them back.
constexpr uint32_t kUnlisted[] = {
    // Memory types: type of all other memory, fixed ranges, eight variable ranges.
    0x2ff, 0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,  //
    0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207,                              //
    0x208, 0x209, 0x20a, 0x20b, 0x20c, 0x20d, 0x20e, 0x20f,
    // The one machine-check bank that Vcpu::create sets up: control, status, address, misc.
    0x400, 0x401, 0x402, 0x403,
    // KVM's own: wall clock, system time, async page faults, steal time, PV EOI, poll control,
    // async page fault interrupt and acknowledgement.
    0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d03, 0x4b564d04, 0x4b564d05, 0x4b564d06, 0x4b564d07,
    // The deadline timer. Older kernels list it only under conditions.
    kMsrTscDeadline};

/// Hyper-V's range. The guest's processor model has no Hyper-V leaves, so KVM lets it touch none
/// of them, and merely reading them allocates a Hyper-V context that slows every exit.
constexpr bool is_hyperv(uint32_t msr) {
  return msr >= 0x40000000 && msr <= 0x400001ff;
}

/// The old numbers of KVM's wall clock and system time: the same registers as 0x4b564d00 and …01.
constexpr bool is_old_name(uint32_t msr) {
  return msr == 0x11 || msr == 0x12;
}

bool gives_and_takes(int fd, uint32_t index) {
  uapi::Msrs one(1);
  one.elements()[0].index = index;
  if (::ioctl(fd, uapi::kGetMsrs, one.head()) != 1) return false;
  // Writing the TSC shifts it by the time between reading and writing. Every KVM takes it.
  if (index == kMsrTsc) return true;
  return ::ioctl(fd, uapi::kSetMsrs, one.head()) == 1;
}

}  // namespace

std::vector<uint32_t> probe_msrs(int vcpu_fd, std::vector<uint32_t> candidates) {
  candidates.insert(candidates.end(), std::begin(kUnlisted), std::end(kUnlisted));
  std::sort(candidates.begin(), candidates.end());
  candidates.erase(std::unique(candidates.begin(), candidates.end()), candidates.end());
  std::erase_if(candidates, [vcpu_fd](uint32_t msr) {
    return is_hyperv(msr) || is_old_name(msr) || !gives_and_takes(vcpu_fd, msr);
  });
  // The deadline is compared with the TSC, so it comes after everything that moves the TSC.
  auto deadline = std::find(candidates.begin(), candidates.end(), kMsrTscDeadline);
  if (deadline != candidates.end()) std::rotate(deadline, deadline + 1, candidates.end());
  return candidates;
}

}  // namespace ft

// Shared by the files that implement VcpuStateAccess; not for others.
#pragma once

#include <cstdint>
#include <vector>

#include "core/result.h"

namespace ft {

class Vcpu;

inline constexpr uint32_t kMsrTsc = 0x10;
inline constexpr uint32_t kMsrFeatureControl = 0x3a;
inline constexpr uint32_t kMsrTscDeadline = 0x6e0;

// KVM takes fewer than 256 MSRs a call.
inline constexpr uint32_t kMsrsPerCall = 255;

/// "Cannot read lapic of vCPU 0: …", with errno.
Error capture_error(const Vcpu& vcpu, const char* name);

/// Those of `candidates` (and of KVM's unlisted ones) that `vcpu_fd`, which has not run, gives and
/// takes back; ascending, the deadline last.
std::vector<uint32_t> probe_msrs(int vcpu_fd, std::vector<uint32_t> candidates);

}  // namespace ft

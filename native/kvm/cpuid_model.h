// What processor the guest sees: the host's own, or less, so that two hosts can agree on one.
//
//   KVM_GET_SUPPORTED_CPUID ──narrow_cpuid(model)──▶ KVM_SET_CPUID2
//                                    └──feature_words──▶ the handshake: both sides must be equal
//
// Sources: Linux Documentation/virt/kvm/x86/cpuid.rst; AMD APM volume 3, appendix E; Intel SDM
// volume 2, CPUID; x86-64 psABI, "micro-architecture levels" (the baseline).
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"

namespace ft {

enum class CpuModel : uint8_t {
  kHost,      // all that this host's KVM offers
  kBaseline,  // the first level of x86-64 (SSE2), and what KVM itself provides on every host
};

/// Reads "host" or "baseline". Error: FT_ERR_CPU_MODEL.
Result<CpuModel> parse_cpu_model(const std::string& name);

/// The leaves that a guest of this model is given, made from what KVM supports. A bit that the host
/// lacks is not there, whatever the model. No error; any thread.
std::vector<kvm_cpuid_entry2> narrow_cpuid(CpuModel model,
                                           const std::vector<kvm_cpuid_entry2>& supported);

/// The words that say what a guest may use, by name ("cpuid.7.0.ebx"); a leaf that is not there has
/// no word. Topology, sizes and identification are left out: they differ between equal hosts.
std::vector<std::pair<std::string, uint32_t>> feature_words(
    const std::vector<kvm_cpuid_entry2>& cpuid);

}  // namespace ft

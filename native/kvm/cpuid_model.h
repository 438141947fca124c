// What processor the guest sees: the host's own, or less, so that two hosts can agree on one.
//
//   KVM_GET_SUPPORTED_CPUID ──narrow_cpuid(model)──▶ KVM_SET_CPUID2, and the state (guest_cpu.h)
//                                    └──feature_words──▶ the handshake: what a primary's guest was
//                                                        given must be part of what a standby
//                                                        offers
//
// Sources: Linux Documentation/virt/kvm/x86/cpuid.rst; AMD APM volume 3, appendix E; Intel SDM
// volume 1, chapter 13 (XSAVE), and volume 2, CPUID; x86-64 psABI, "micro-architecture levels".
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/result.h"

namespace ft {

/// The numbers travel in the state; they are never reused.
enum class CpuModel : uint32_t {
  kHost = 0,      // all that this host's KVM offers
  kBaseline = 1,  // the first level of x86-64 (SSE2), and what KVM itself provides on every host
  kX8664V2 = 2,   // the second: up to SSE4.2, POPCNT, CMPXCHG16B
  kX8664V3 = 3,   // the third: AVX2, FMA, BMI, XSAVE
};
inline constexpr CpuModel kCpuModels[] = {CpuModel::kHost, CpuModel::kBaseline, CpuModel::kX8664V2,
                                          CpuModel::kX8664V3};

/// "x86-64-v2"; nullptr for a number that is no model.
const char* cpu_model_name(CpuModel model);
/// The model of that name. Error: FT_ERR_CPU_MODEL.
Result<CpuModel> parse_cpu_model(const std::string& name);

/// The leaves that a guest of this model is given, made from what KVM supports: never a bit that
/// the host lacks. Error: FT_ERR_CPU_LACKING when the host lacks what a level is made of; it names
/// every such feature. Any thread.
Result<std::vector<kvm_cpuid_entry2>> narrow_cpuid(CpuModel model,
                                                   const std::vector<kvm_cpuid_entry2>& supported);

/// The words that say what a guest may use, by name ("cpuid.7.0.ebx"); a leaf that is not there has
/// no word. Beside the feature bits: the vendor, the width of physical addresses, where each
/// component lies in the XSAVE area, and with kHost family and model. Topology and names are left
/// out: they differ between equal hosts. How each word is compared: src/wire/cpu-features.ts.
std::vector<std::pair<std::string, uint32_t>> feature_words(CpuModel model,
                                                            std::vector<kvm_cpuid_entry2> cpuid);

}  // namespace ft

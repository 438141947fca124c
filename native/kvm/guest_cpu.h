// The processor that a guest was given. It travels in the state, so that a guest keeps its
// processor wherever it is resumed, whatever else the host there could offer.
//
//   entry cpuid, index 0   { u32 model; u32 count; count × kvm_cpuid_entry2 (40 bytes each) }
//
// The leaves are those of any vCPU: what names a vCPU's APIC id is filled in when they are set.
#pragma once

#include <linux/kvm.h>

#include <string>
#include <utility>
#include <vector>

#include "core/result.h"
#include "kvm/cpuid_model.h"
#include "kvm/kvm.h"
#include "kvm/state.h"

namespace ft {

struct GuestCpu {
  CpuModel model = CpuModel::kHost;
  std::vector<kvm_cpuid_entry2> leaves;

  /// The processor of that model on this host.
  /// Errors: FT_ERR_CPU_MODEL, FT_ERR_CPU_LACKING, and that of Kvm::supported_cpuid.
  static Result<GuestCpu> make(const Kvm& kvm, const std::string& model_name);
  /// The one in a captured state. Error: FT_ERR_STATE_FORMAT.
  static Result<GuestCpu> read(const StateReader& reader);
  void capture(StateWriter& writer) const;

  std::vector<std::pair<std::string, uint32_t>> words() const {
    return feature_words(model, leaves);
  }
  bool operator==(const GuestCpu& other) const;
};

}  // namespace ft

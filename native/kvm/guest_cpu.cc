// The processor that a guest was given, in the state and out of it.
#include "kvm/guest_cpu.h"

#include <cstring>

namespace ft {
namespace {

constexpr size_t kHeadBytes = 8;
// As many as KVM takes.
constexpr size_t kLeavesMax = 256;

Error format_error(const std::string& what) {
  return Error{"FT_ERR_STATE_FORMAT", 0,
               "The captured processor model cannot be restored here: " + what + "."};
}

}  // namespace

Result<GuestCpu> GuestCpu::make(const Kvm& kvm, const std::string& model_name) {
  const auto model = parse_cpu_model(model_name);
  if (!model.ok()) return model.error();
  const auto supported = kvm.supported_cpuid();
  if (!supported.ok()) return supported.error();
  auto leaves = narrow_cpuid(model.value(), supported.value());
  if (!leaves.ok()) return leaves.error();
  return GuestCpu{model.value(), leaves.take()};
}

Result<GuestCpu> GuestCpu::read(const StateReader& reader) {
  const auto bytes = reader.find(StateKind::kCpuid, 0);
  uint32_t head[2] = {};
  static_assert(sizeof(head) == kHeadBytes);
  if (bytes.size() < kHeadBytes) return format_error("there is none in the state");
  std::memcpy(head, bytes.data(), kHeadBytes);
  GuestCpu cpu;
  cpu.model = static_cast<CpuModel>(head[0]);
  if (cpu_model_name(cpu.model) == nullptr) {
    return format_error("its number " + std::to_string(head[0]) + " is unknown");
  }
  const size_t count = head[1];
  if (count > kLeavesMax || bytes.size() != kHeadBytes + count * sizeof(kvm_cpuid_entry2)) {
    return format_error("it says " + std::to_string(count) + " leaves and has " +
                        std::to_string(bytes.size()) + " bytes");
  }
  cpu.leaves.resize(count);
  if (count > 0) {
    std::memcpy(cpu.leaves.data(), bytes.data() + kHeadBytes, bytes.size() - kHeadBytes);
  }
  return cpu;
}

void GuestCpu::capture(StateWriter& writer) const {
  const size_t bytes = leaves.size() * sizeof(kvm_cpuid_entry2);
  const uint32_t head[] = {static_cast<uint32_t>(model), static_cast<uint32_t>(leaves.size())};
  uint8_t* out = writer.add(StateKind::kCpuid, 0, static_cast<uint32_t>(kHeadBytes + bytes));
  std::memcpy(out, head, kHeadBytes);
  if (bytes > 0) std::memcpy(out + kHeadBytes, leaves.data(), bytes);
}

bool GuestCpu::operator==(const GuestCpu& other) const {
  return model == other.model && leaves.size() == other.leaves.size() &&
         (leaves.empty() || std::memcmp(leaves.data(), other.leaves.data(),
                                        leaves.size() * sizeof(kvm_cpuid_entry2)) == 0);
}

}  // namespace ft

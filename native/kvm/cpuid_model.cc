// What processor the guest sees: the host's own, or less, so that two hosts can agree on one.
#include "kvm/cpuid_model.h"

#include <cstdio>

namespace ft {
namespace {

constexpr uint32_t kAll = ~0u;

constexpr uint32_t bit(unsigned n) {
  return 1u << n;
}

// The first level of x86-64, leaf 1 EDX: all that the psABI asks for (FPU, CX8, CMOV, FXSR, MMX,
// SSE, SSE2) and what every 64-bit kernel relies on (VME … CLFLUSH).
constexpr uint32_t kLevel1Edx = bit(0) |   // fpu
                                bit(1) |   // vme
                                bit(2) |   // de
                                bit(3) |   // pse
                                bit(4) |   // tsc
                                bit(5) |   // msr
                                bit(6) |   // pae
                                bit(7) |   // mce
                                bit(8) |   // cx8
                                bit(9) |   // apic
                                bit(11) |  // sep
                                bit(12) |  // mtrr
                                bit(13) |  // pge
                                bit(14) |  // mca
                                bit(15) |  // cmov
                                bit(16) |  // pat
                                bit(17) |  // pse36
                                bit(19) |  // clflush
                                bit(23) |  // mmx
                                bit(24) |  // fxsr
                                bit(25) |  // sse
                                bit(26);   // sse2

// Leaf 1 ECX: what KVM provides on every host. Everything that is an instruction (SSE3 … AVX,
// CMPXCHG16B, POPCNT, XSAVE, RDRAND) is left out.
constexpr uint32_t kProvidedEcx = bit(21) |  // x2apic
                                  bit(24) |  // TSC deadline timer
                                  bit(31);   // hypervisor

// Leaf 0x80000001. EDX repeats leaf 1's low bits on AMD.
constexpr uint32_t kExtendedEcx = bit(0);                                  // lahf in 64 bits
constexpr uint32_t kExtendedEdx = (kLevel1Edx & 0x0183f3ffu & ~bit(11)) |  // as in leaf 1
                                  bit(11) | bit(20) | bit(29);             // syscall, nx, lm

// Leaf 0x40000001 EAX: the clock (old MSRs and new), no delay at ports, and that the clock is
// stable. What lets KVM write into guest memory by itself is left out.
constexpr uint32_t kParavirtEax = bit(0) | bit(1) | bit(3) | bit(24);

// What a baseline guest sees of each leaf; a leaf that is not here reads as zeros.
struct LeafMask {
  uint32_t function;  // with all its subleaves
  uint32_t eax, ebx, ecx, edx;
};
constexpr LeafMask kBaselineLeaves[] = {
    {0x0, kAll, kAll, kAll, kAll},  // vendor, highest leaf
    {0x1, kAll, kAll, kProvidedEcx, kLevel1Edx},
    {0x2, kAll, kAll, kAll, kAll},  // caches
    {0x4, kAll, kAll, kAll, kAll},  // caches
    {0x6, bit(2), 0, 0, 0},         // the APIC timer always runs
    {0xb, kAll, kAll, kAll, kAll},  // topology
    {0x15, kAll, kAll, kAll, 0},    // TSC frequency
    {0x16, kAll, kAll, kAll, 0},
    {0x1f, kAll, kAll, kAll, kAll},        // topology
    {0x40000000, kAll, kAll, kAll, kAll},  // "KVMKVMKVM"
    {0x40000001, kParavirtEax, 0, 0, 0},
    {0x80000000, kAll, kAll, kAll, kAll},
    {0x80000001, kAll, kAll, kExtendedEcx, kExtendedEdx},
    {0x80000002, kAll, kAll, kAll, kAll},  // name
    {0x80000003, kAll, kAll, kAll, kAll},
    {0x80000004, kAll, kAll, kAll, kAll},
    {0x80000005, kAll, kAll, kAll, kAll},  // caches
    {0x80000006, kAll, kAll, kAll, kAll},
    {0x80000008, kAll, 0, kAll, 0},        // width of addresses, number of cores
    {0x8000001d, kAll, kAll, kAll, kAll},  // caches
    {0x8000001e, kAll, kAll, kAll, kAll},  // topology
};

struct FeatureWord {
  uint32_t function;
  uint32_t index;
  uint8_t reg;  // 0 eax, 1 ebx, 2 ecx, 3 edx
  uint32_t mask;
};
constexpr FeatureWord kFeatureWords[] = {
    {0x1, 0, 2, ~bit(27)},  // OSXSAVE mirrors the asking process's CR4
    {0x1, 0, 3, kAll},        {0x7, 0, 1, kAll},        {0x7, 0, 2, ~bit(4)},  // OSPKE likewise
    {0x7, 0, 3, kAll},        {0x7, 1, 0, kAll},        {0xd, 0, 0, kAll},
    {0xd, 1, 0, kAll},        {0x80000001, 0, 2, kAll}, {0x80000001, 0, 3, kAll},
    {0x80000007, 0, 3, kAll}, {0x80000008, 0, 1, kAll}, {0x40000001, 0, 0, kAll},
};

const LeafMask* baseline_mask(const kvm_cpuid_entry2& entry) {
  for (const LeafMask& mask : kBaselineLeaves) {
    if (mask.function == entry.function) return &mask;
  }
  return nullptr;
}

}  // namespace

Result<CpuModel> parse_cpu_model(const std::string& name) {
  if (name == "host") return CpuModel::kHost;
  if (name == "baseline") return CpuModel::kBaseline;
  return Error{"FT_ERR_CPU_MODEL", 0,
               "there is no processor model \"" + name + "\"; use host or baseline"};
}

std::vector<kvm_cpuid_entry2> narrow_cpuid(CpuModel model,
                                           const std::vector<kvm_cpuid_entry2>& supported) {
  if (model == CpuModel::kHost) return supported;
  std::vector<kvm_cpuid_entry2> narrowed;
  for (kvm_cpuid_entry2 entry : supported) {
    const LeafMask* mask = baseline_mask(entry);
    if (mask == nullptr) continue;
    entry.eax &= mask->eax;
    entry.ebx &= mask->ebx;
    entry.ecx &= mask->ecx;
    entry.edx &= mask->edx;
    narrowed.push_back(entry);
  }
  return narrowed;
}

std::vector<std::pair<std::string, uint32_t>> feature_words(
    const std::vector<kvm_cpuid_entry2>& cpuid) {
  static constexpr const char* kRegs[] = {"eax", "ebx", "ecx", "edx"};
  std::vector<std::pair<std::string, uint32_t>> words;
  for (const FeatureWord& word : kFeatureWords) {
    for (const kvm_cpuid_entry2& entry : cpuid) {
      if (entry.function != word.function || entry.index != word.index) continue;
      const uint32_t values[] = {entry.eax, entry.ebx, entry.ecx, entry.edx};
      char name[48];
      std::snprintf(name, sizeof(name), "cpuid.%x.%x.%s", word.function, word.index,
                    kRegs[word.reg]);
      words.emplace_back(name, values[word.reg] & word.mask);
    }
  }
  return words;
}

}  // namespace ft

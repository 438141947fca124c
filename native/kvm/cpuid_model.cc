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

// What a baseline guest sees of each leaf; a leaf that is not here reads as zeros, but for what a
// level adds to it.
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

enum Reg : uint8_t { kEax, kEbx, kEcx, kEdx };
constexpr const char* kRegNames[] = {"eax", "ebx", "ecx", "edx"};

// What each level of the psABI adds, in the words of CPUID, and what must be there for it: for AVX
// also the three state components that XSAVE keeps.
struct LevelFeature {
  uint8_t level;
  uint32_t function;
  uint32_t index;
  Reg reg;
  uint8_t bit;
  const char* name;
};
constexpr LevelFeature kLevelFeatures[] = {
    {2, 0x1, 0, kEcx, 0, "sse3"},
    {2, 0x1, 0, kEcx, 9, "ssse3"},
    {2, 0x1, 0, kEcx, 13, "cx16"},
    {2, 0x1, 0, kEcx, 19, "sse4_1"},
    {2, 0x1, 0, kEcx, 20, "sse4_2"},
    {2, 0x1, 0, kEcx, 23, "popcnt"},
    {2, 0x80000001, 0, kEcx, 0, "lahf_lm"},
    {3, 0x1, 0, kEcx, 12, "fma"},
    {3, 0x1, 0, kEcx, 22, "movbe"},
    {3, 0x1, 0, kEcx, 26, "xsave"},
    {3, 0x1, 0, kEcx, 28, "avx"},
    {3, 0x1, 0, kEcx, 29, "f16c"},
    {3, 0x7, 0, kEbx, 3, "bmi1"},
    {3, 0x7, 0, kEbx, 5, "avx2"},
    {3, 0x7, 0, kEbx, 8, "bmi2"},
    {3, 0x80000001, 0, kEcx, 5, "abm"},
    {3, 0xd, 0, kEax, 0, "xsave of x87 state"},
    {3, 0xd, 0, kEax, 1, "xsave of sse state"},
    {3, 0xd, 0, kEax, 2, "xsave of avx state"},
};
// XSAVE's legacy area and header, and AVX behind them.
constexpr uint32_t kAvxComponent = 2;
constexpr uint32_t kAvxAreaBytes = 512 + 64 + 256;

struct FeatureWord {
  uint32_t function;
  uint32_t index;
  Reg reg;
  uint32_t mask;
};
constexpr FeatureWord kFeatureWords[] = {
    {0x0, 0, kEbx, kAll},            // the vendor
    {0x0, 0, kEcx, kAll},            //
    {0x0, 0, kEdx, kAll},            //
    {0x1, 0, kEcx, ~bit(27)},        // OSXSAVE mirrors the asking process's CR4
    {0x1, 0, kEdx, ~bit(28)},        // several processors: topology
    {0x7, 0, kEbx, kAll},            //
    {0x7, 0, kEcx, ~bit(4)},         // OSPKE: like OSXSAVE
    {0x7, 0, kEdx, kAll},            //
    {0x7, 1, kEax, kAll},            //
    {0xd, 0, kEax, kAll},            //
    {0xd, 1, kEax, kAll},            //
    {0x80000001, 0, kEcx, ~bit(1)},  // several cores: topology
    {0x80000001, 0, kEdx, kAll},     //
    {0x80000007, 0, kEdx, kAll},     //
    {0x80000008, 0, kEax, 0xff},     // width of physical addresses
    {0x80000008, 0, kEbx, kAll},     //
    {0x40000001, 0, kEax, kAll},
};
// Family and model, without the stepping.
constexpr FeatureWord kIdentityWord = {0x1, 0, kEax, ~0xfu};

uint32_t& word_of(kvm_cpuid_entry2& entry, Reg reg) {
  switch (reg) {
    case kEax:
      return entry.eax;
    case kEbx:
      return entry.ebx;
    case kEcx:
      return entry.ecx;
    case kEdx:
      break;
  }
  return entry.edx;
}

uint8_t level_of(CpuModel model) {
  switch (model) {
    case CpuModel::kX8664V2:
      return 2;
    case CpuModel::kX8664V3:
      return 3;
    case CpuModel::kHost:
    case CpuModel::kBaseline:
      break;
  }
  return 1;
}

LeafMask mask_of(const kvm_cpuid_entry2& entry, uint8_t level) {
  LeafMask mask = {entry.function, 0, 0, 0, 0};
  for (const LeafMask& baseline : kBaselineLeaves) {
    if (baseline.function == entry.function) mask = baseline;
  }
  uint32_t* words[] = {&mask.eax, &mask.ebx, &mask.ecx, &mask.edx};
  for (const LevelFeature& f : kLevelFeatures) {
    if (f.level > level || f.function != entry.function || f.index != entry.index) continue;
    *words[f.reg] |= bit(f.bit);
  }
  if (level >= 3 && entry.function == 0xd) {
    // The size of the area and where AVX lies in it.
    if (entry.index == 0) mask.ebx = mask.ecx = kAll;
    if (entry.index == kAvxComponent) mask.eax = mask.ebx = mask.ecx = kAll;
  }
  return mask;
}

std::string place(const LevelFeature& f) {
  char text[96];
  std::snprintf(text, sizeof(text), "%s (cpuid.%x.%x.%s bit %u)", f.name, f.function, f.index,
                kRegNames[f.reg], f.bit);
  return text;
}

Status check_level(CpuModel model, std::vector<kvm_cpuid_entry2> supported) {
  const uint8_t level = level_of(model);
  std::string lacking;
  for (const LevelFeature& f : kLevelFeatures) {
    bool there = f.level > level;
    for (kvm_cpuid_entry2& entry : supported) {
      if (entry.function != f.function || entry.index != f.index) continue;
      there = there || (word_of(entry, f.reg) & bit(f.bit)) != 0;
    }
    if (!there) lacking += (lacking.empty() ? "" : ", ") + place(f);
  }
  if (lacking.empty()) return Ok{};
  return Error{"FT_ERR_CPU_LACKING", 0,
               std::string("this host lacks what --cpu ") + cpu_model_name(model) +
                   " gives: " + lacking + "; use a lower model, on both hosts the same"};
}

void add_word(const FeatureWord& word, std::vector<kvm_cpuid_entry2>& cpuid,
              std::vector<std::pair<std::string, uint32_t>>* words) {
  for (kvm_cpuid_entry2& entry : cpuid) {
    if (entry.function != word.function || entry.index != word.index) continue;
    char name[48];
    std::snprintf(name, sizeof(name), "cpuid.%x.%x.%s", word.function, word.index,
                  kRegNames[word.reg]);
    words->emplace_back(name, word_of(entry, word.reg) & word.mask);
  }
}

}  // namespace

const char* cpu_model_name(CpuModel model) {
  switch (model) {
    case CpuModel::kHost:
      return "host";
    case CpuModel::kBaseline:
      return "baseline";
    case CpuModel::kX8664V2:
      return "x86-64-v2";
    case CpuModel::kX8664V3:
      return "x86-64-v3";
  }
  return nullptr;
}

Result<CpuModel> parse_cpu_model(const std::string& name) {
  for (const CpuModel model : kCpuModels) {
    if (name == cpu_model_name(model)) return model;
  }
  return Error{
      "FT_ERR_CPU_MODEL", 0,
      "there is no processor model \"" + name + "\"; use host, baseline, x86-64-v2 or x86-64-v3"};
}

Result<std::vector<kvm_cpuid_entry2>> narrow_cpuid(CpuModel model,
                                                   const std::vector<kvm_cpuid_entry2>& supported) {
  if (model == CpuModel::kHost) return supported;
  FT_TRY(check_level(model, supported));
  const uint8_t level = level_of(model);
  std::vector<kvm_cpuid_entry2> narrowed;
  for (kvm_cpuid_entry2 entry : supported) {
    const LeafMask mask = mask_of(entry, level);
    if ((mask.eax | mask.ebx | mask.ecx | mask.edx) == 0) continue;
    entry.eax &= mask.eax;
    entry.ebx &= mask.ebx;
    entry.ecx &= mask.ecx;
    entry.edx &= mask.edx;
    if (entry.function == 0xd && entry.index == 0) entry.ebx = entry.ecx = kAvxAreaBytes;
    narrowed.push_back(entry);
  }
  return narrowed;
}

std::vector<std::pair<std::string, uint32_t>> feature_words(CpuModel model,
                                                            std::vector<kvm_cpuid_entry2> cpuid) {
  std::vector<std::pair<std::string, uint32_t>> words;
  for (const FeatureWord& word : kFeatureWords) add_word(word, cpuid, &words);
  if (model == CpuModel::kHost) add_word(kIdentityWord, cpuid, &words);
  uint64_t components = 0;
  for (const kvm_cpuid_entry2& entry : cpuid) {
    if (entry.function != 0xd || entry.index != 0) continue;
    components = uint64_t{entry.edx} << 32 | entry.eax;
  }
  // The first two lie in the legacy area, which is the same everywhere.
  for (uint32_t component = 2; component < 63; component++) {
    if ((components >> component & 1) == 0) continue;
    add_word({0xd, component, kEax, kAll}, cpuid, &words);
    add_word({0xd, component, kEbx, kAll}, cpuid, &words);
  }
  return words;
}

}  // namespace ft

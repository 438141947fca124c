// How a guest's processors are arranged: all of them cores of one package, one thread each.
#include "kvm/cpuid_topology.h"

#include <bit>

namespace ft {
namespace {

constexpr uint32_t kLevelThread = 1u << 8;
constexpr uint32_t kLevelCore = 2u << 8;
constexpr uint32_t kThreadsOrCores = 1u << 28;  // leaf 1 EDX, "HTT"
constexpr uint32_t kCmpLegacy = 1u << 1;        // leaf 80000001 ECX
constexpr uint32_t kSharedLevelMin = 3;

// `value` put into the bits [low, low + width) of `word`.
uint32_t with_bits(uint32_t word, unsigned low, unsigned width, uint32_t value) {
  const uint32_t mask = ((1u << width) - 1) << low;
  return (word & ~mask) | ((value << low) & mask);
}

uint32_t with_bit(uint32_t word, uint32_t bit, bool on) {
  return on ? word | bit : word & ~bit;
}

// "AuthenticAMD" or "HygonGenuine": those give the leaves from 80000000 on a meaning.
bool is_amd(const kvm_cpuid_entry2& vendor) {
  return vendor.ebx == 0x68747541 || vendor.ebx == 0x6f677948;
}

kvm_cpuid_entry2 level(uint32_t function, uint32_t index, uint32_t shift, uint32_t count,
                       uint32_t type) {
  kvm_cpuid_entry2 entry{};
  entry.function = function;
  entry.index = index;
  entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  entry.eax = shift;
  entry.ebx = count;
  entry.ecx = type | index;
  return entry;
}

struct Shape {
  uint32_t vcpus;
  uint32_t id_bits;  // of the APIC id
  bool amd;
};

// How many share a cache, less one: nobody but the core itself below the last level.
uint32_t sharing(uint32_t eax, const Shape& shape) {
  const bool cache = (eax & 0x1f) != 0;
  const bool shared = ((eax >> 5) & 7) >= kSharedLevelMin;
  if (!cache) return eax;
  const uint32_t ids = shape.amd ? shape.vcpus : 1u << shape.id_bits;
  return with_bits(eax, 14, 12, shared ? ids - 1 : 0);
}

void arrange(kvm_cpuid_entry2* entry, const Shape& shape) {
  const uint32_t ids = 1u << shape.id_bits;
  switch (entry->function) {
    case 0x1:
      entry->ebx = with_bits(entry->ebx, 16, 8, shape.amd ? shape.vcpus : ids);
      entry->edx = with_bit(entry->edx, kThreadsOrCores, shape.vcpus > 1);
      break;
    case 0x4:
      entry->eax = sharing(entry->eax, shape);
      if ((entry->eax & 0x1f) != 0) entry->eax = with_bits(entry->eax, 26, 6, ids - 1);
      break;
    case 0x80000001:
      entry->ecx = with_bit(entry->ecx, kCmpLegacy, shape.amd && shape.vcpus > 1);
      break;
    case 0x80000008:
      if (!shape.amd) break;
      entry->ecx = with_bits(entry->ecx, 0, 8, shape.vcpus - 1);
      entry->ecx = with_bits(entry->ecx, 12, 4, shape.id_bits);
      break;
    case 0x8000001d:
      entry->eax = sharing(entry->eax, shape);
      break;
    case 0x8000001e:
      entry->ebx = 0;  // one thread a core; the core's id is its vCPU's
      entry->ecx = 0;  // one node
      break;
    default:
      break;
  }
}

}  // namespace

std::vector<kvm_cpuid_entry2> with_topology(const std::vector<kvm_cpuid_entry2>& cpuid,
                                            uint32_t vcpus) {
  Shape shape{vcpus, static_cast<uint32_t>(std::bit_width(vcpus - 1)), false};
  uint32_t highest = 0;
  bool has_1f = false;
  for (const kvm_cpuid_entry2& entry : cpuid) {
    if (entry.function == 0) {
      highest = entry.eax;
      shape.amd = is_amd(entry);
    }
    has_1f = has_1f || entry.function == 0x1f;
  }

  std::vector<kvm_cpuid_entry2> arranged;
  arranged.reserve(cpuid.size() + 6);
  for (kvm_cpuid_entry2 entry : cpuid) {
    if (entry.function == 0xb || entry.function == 0x1f) continue;
    arrange(&entry, shape);
    arranged.push_back(entry);
  }
  for (const uint32_t function : {0xbu, 0x1fu}) {
    if (highest < function || (function == 0x1f && !has_1f)) continue;
    arranged.push_back(level(function, 0, 0, 1, kLevelThread));
    arranged.push_back(level(function, 1, shape.id_bits, vcpus, kLevelCore));
    arranged.push_back(level(function, 2, 0, 0, 0));
  }
  return arranged;
}

}  // namespace ft

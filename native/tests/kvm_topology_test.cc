// The arrangement of a guest's processors: the leaves that say it, for made-up hosts of both makes,
// and what KVM then shows each vCPU.
#include <doctest/doctest.h>
#include <sys/ioctl.h>

#include <cstring>

#include "kvm/cpuid_model.h"
#include "kvm/cpuid_topology.h"
#include "kvm/uapi.h"
#include "kvm_support.h"

using namespace ft;  // NOLINT: the test is about this namespace
using namespace ft::test;

namespace {

// As in uapi.h: the size in the number is the header's alone.
constexpr unsigned long kGetCpuid2 = _IOWR(KVMIO, 0x91, uapi::CpuidHeader);

kvm_cpuid_entry2 leaf(uint32_t function, uint32_t index, uint32_t eax, uint32_t ebx, uint32_t ecx,
                      uint32_t edx) {
  kvm_cpuid_entry2 entry = {};
  entry.function = function;
  entry.index = index;
  entry.eax = eax;
  entry.ebx = ebx;
  entry.ecx = ecx;
  entry.edx = edx;
  return entry;
}

// A large host: 64 cores of two threads, whose own arrangement must not shine through.
std::vector<kvm_cpuid_entry2> host(bool amd) {
  const uint32_t vendor = amd ? 0x68747541 : 0x756e6547;  // "Auth", "Genu"
  return {
      leaf(0, 0, 0x1f, vendor, 0, 0),
      leaf(1, 0, 0xa20f12, 0x5a800800, 0, ~0u),
      leaf(4, 0, 0xfc1fc121, 0, 0, 0),  // data cache, level 1
      leaf(4, 3, 0xfc1fc163, 0, 0, 0),  // unified, level 3
      leaf(4, 4, 0, 0, 0, 0),
      leaf(0xb, 0, 1, 2, 0x100, 90),
      leaf(0xb, 1, 7, 128, 0x201, 90),
      leaf(0x1f, 0, 1, 2, 0x100, 90),
      leaf(0x80000001, 0, 0, 0, 0xffffffff, 0),
      leaf(0x80000008, 0, 0x3030, 0, 0x2707f, 0),
      leaf(0x8000001d, 0, 0x1fc121, 0, 0, 0),
      leaf(0x8000001d, 3, 0x1fc163, 0, 0, 0),
      leaf(0x8000001e, 0, 90, 0x12d, 0x301, 0),
  };
}

const kvm_cpuid_entry2& find(const std::vector<kvm_cpuid_entry2>& cpuid, uint32_t function,
                             uint32_t index = 0) {
  static const kvm_cpuid_entry2 none = {};
  const kvm_cpuid_entry2* found = &none;
  for (const kvm_cpuid_entry2& entry : cpuid) {
    if (entry.function != function || entry.index != index) continue;
    CHECK(found == &none);  // each leaf once
    found = &entry;
  }
  REQUIRE(found != &none);
  return *found;
}

uint32_t bits(uint32_t word, unsigned low, unsigned width) {
  return (word >> low) & ((1u << width) - 1);
}

void check_levels(const std::vector<kvm_cpuid_entry2>& cpuid, uint32_t function, uint32_t vcpus,
                  uint32_t id_bits) {
  const auto& thread = find(cpuid, function, 0);
  CHECK(thread.eax == 0);
  CHECK(thread.ebx == 1);
  CHECK(thread.ecx == 0x100);
  const auto& core = find(cpuid, function, 1);
  CHECK(core.eax == id_bits);
  CHECK(core.ebx == vcpus);
  CHECK(core.ecx == 0x201);
  const auto& end = find(cpuid, function, 2);
  CHECK(end.ebx == 0);
  CHECK(end.ecx == 2);
  for (const auto* entry : {&thread, &core, &end}) {
    CHECK(entry->flags == KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
  }
}

}  // namespace

TEST_CASE("topology: one package of single-thread cores, whatever the host is") {
  struct Case {
    uint32_t vcpus, id_bits;
  };
  for (const Case& shape : {Case{1, 0}, Case{2, 1}, Case{3, 2}, Case{8, 3}}) {
    const uint32_t vcpus = shape.vcpus, id_bits = shape.id_bits;
    for (const bool amd : {false, true}) {
      CAPTURE(vcpus);
      CAPTURE(amd);
      const auto cpuid = with_topology(host(amd), vcpus);
      const uint32_t ids = 1u << id_bits;
      CHECK(bits(find(cpuid, 1).ebx, 16, 8) == (amd ? vcpus : ids));
      CHECK(bits(find(cpuid, 1).ebx, 0, 16) == 0x0800);  // what is no topology stays
      CHECK(bits(find(cpuid, 1).edx, 28, 1) == (vcpus > 1 ? 1 : 0));
      CHECK(bits(find(cpuid, 4, 0).eax, 14, 12) == 0);
      CHECK(bits(find(cpuid, 4, 0).eax, 26, 6) == ids - 1);
      CHECK(bits(find(cpuid, 4, 3).eax, 14, 12) == (amd ? vcpus : ids) - 1);
      CHECK(bits(find(cpuid, 4, 3).eax, 0, 14) == 0x163 % (1u << 14));
      CHECK(find(cpuid, 4, 4).eax == 0);
      check_levels(cpuid, 0xb, vcpus, id_bits);
      check_levels(cpuid, 0x1f, vcpus, id_bits);
      CHECK(bits(find(cpuid, 0x80000001).ecx, 1, 1) == (amd && vcpus > 1 ? 1 : 0));
      CHECK(find(cpuid, 0x80000008).ecx ==
            (amd ? 0x20000u | id_bits << 12 | (vcpus - 1) : 0x2707f));
      CHECK(bits(find(cpuid, 0x8000001d, 3).eax, 14, 12) == (amd ? vcpus : ids) - 1);
      CHECK(find(cpuid, 0x8000001e).ebx == 0);
      CHECK(find(cpuid, 0x8000001e).ecx == 0);
    }
  }
}

TEST_CASE("topology: the words that hosts compare do not hang on it") {
  const auto words = [](uint32_t vcpus) {
    return feature_words(CpuModel::kHost, with_topology(host(true), vcpus));
  };
  CHECK(words(1) == words(8));
}

TEST_CASE("topology: a processor without leaf 0xb is not given one") {
  std::vector<kvm_cpuid_entry2> old = {leaf(0, 0, 0x4, 0x756e6547, 0, 0), leaf(1, 0, 0, 0, 0, 0)};
  CHECK(with_topology(old, 2).size() == 2);
}

KVM_TEST_CASE("each vCPU has an APIC id of its own, in every leaf that names it") {
  const Kvm kvm = must(Kvm::open("/dev/kvm"));
  const Vm vm = must(Vm::create(kvm, kvm.caps().ring_bytes_max));
  const auto given = with_topology(must(kvm.supported_cpuid()), 4);
  for (uint32_t id = 0; id < 4; id++) {
    const Vcpu vcpu = must(Vcpu::create(kvm, vm, id, given));
    uapi::Cpuid table(given.size() + 16);
    REQUIRE(ioctl(vcpu.fd(), kGetCpuid2, table.head()) == 0);
    uint32_t named = 0;
    for (uint32_t i = 0; i < table.count(); i++) {
      const kvm_cpuid_entry2& entry = table.elements()[i];
      if (entry.function == 1) CHECK((entry.ebx >> 24) == id);
      if (entry.function == 0xb || entry.function == 0x1f) CHECK(entry.edx == id);
      if (entry.function == 0x8000001e) CHECK(entry.eax == id);
      if (entry.function == 0x8000001e) CHECK((entry.ebx & 0xff) == id);
      named += entry.function == 1 ? 1 : 0;
    }
    CHECK(named == 1);
    kvm_lapic_state lapic{};
    REQUIRE(ioctl(vcpu.fd(), KVM_GET_LAPIC, &lapic) == 0);
    CHECK(static_cast<uint8_t>(lapic.regs[0x23]) == id);
    kvm_mp_state state{};
    REQUIRE(ioctl(vcpu.fd(), KVM_GET_MP_STATE, &state) == 0);
    CHECK(state.mp_state == (id == 0 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED));
  }
}

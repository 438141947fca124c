// The processor models: what a baseline guest sees of made-up hosts, and that KVM takes it.
#include <doctest/doctest.h>

#include <cstring>

#include "kvm/cpuid_model.h"
#include "kvm_support.h"

using namespace ft;  // NOLINT: the test is about this namespace
using namespace ft::test;

namespace {

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

/// A host that has everything there is a bit for.
std::vector<kvm_cpuid_entry2> everything() {
  std::vector<kvm_cpuid_entry2> cpuid;
  for (uint32_t function : {0x0u, 0x1u, 0x7u, 0xau, 0xdu, 0x40000000u, 0x40000001u, 0x80000000u,
                            0x80000001u, 0x80000007u, 0x80000008u, 0x8000000au, 0x80000021u}) {
    cpuid.push_back(leaf(function, 0, ~0u, ~0u, ~0u, ~0u));
  }
  cpuid.push_back(leaf(0xd, 1, ~0u, ~0u, ~0u, ~0u));
  return cpuid;
}

const kvm_cpuid_entry2* find(const std::vector<kvm_cpuid_entry2>& cpuid, uint32_t function) {
  for (const kvm_cpuid_entry2& entry : cpuid) {
    if (entry.function == function) return &entry;
  }
  return nullptr;
}

bool same(const kvm_cpuid_entry2& a, const kvm_cpuid_entry2& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

}  // namespace

TEST_CASE("models have names; another name is refused with the ones there are") {
  CHECK(must(parse_cpu_model("host")) == CpuModel::kHost);
  CHECK(must(parse_cpu_model("baseline")) == CpuModel::kBaseline);
  for (const char* name : {"", "Host", "kvm64"}) {
    const auto model = parse_cpu_model(name);
    REQUIRE_FALSE(model.ok());
    CHECK(std::string(model.error().code) == "FT_ERR_CPU_MODEL");
    CHECK(model.error().message.find("host or baseline") != std::string::npos);
  }
}

TEST_CASE("host is what KVM supports, unchanged") {
  const auto host = everything();
  const auto given = narrow_cpuid(CpuModel::kHost, host);
  REQUIRE(given.size() == host.size());
  for (size_t i = 0; i < host.size(); i++) CHECK(same(given[i], host[i]));
}

TEST_CASE("baseline keeps SSE2 and what a 64-bit kernel needs, and nothing newer") {
  const auto given = narrow_cpuid(CpuModel::kBaseline, everything());
  const kvm_cpuid_entry2* basic = find(given, 0x1);
  REQUIRE(basic != nullptr);
  CHECK(basic->ecx == ((1u << 21) | (1u << 24) | (1u << 31)));  // x2apic, deadline, hypervisor
  for (unsigned kept : {0u, 4u, 5u, 6u, 8u, 9u, 15u, 24u, 25u, 26u}) {
    CAPTURE(kept);
    CHECK((basic->edx >> kept & 1) == 1);
  }
  for (uint32_t gone : {0x7u, 0xau, 0xdu, 0x80000007u, 0x8000000au, 0x80000021u}) {
    CAPTURE(gone);
    CHECK(find(given, gone) == nullptr);
  }
  const kvm_cpuid_entry2* extended = find(given, 0x80000001);
  REQUIRE(extended != nullptr);
  CHECK(extended->ecx == 1);
  CHECK((extended->edx & ((1u << 11) | (1u << 20) | (1u << 29))) ==
        ((1u << 11) | (1u << 20) | (1u << 29)));            // syscall, nx, lm
  CHECK((extended->edx & ((1u << 26) | (1u << 27))) == 0);  // 1 GiB pages, rdtscp
  CHECK(find(given, 0x80000008)->ebx == 0);
  CHECK(find(given, 0x80000008)->eax == ~0u);
}

TEST_CASE("baseline never gives what the host lacks") {
  const std::vector<kvm_cpuid_entry2> poor = {leaf(0x1, 0, 7, 8, 0, 1u << 26),
                                              leaf(0x80000001, 0, 0, 0, 0, 0)};
  const auto given = narrow_cpuid(CpuModel::kBaseline, poor);
  REQUIRE(given.size() == 2);
  CHECK(same(given[0], poor[0]));
  CHECK(same(given[1], poor[1]));
}

TEST_CASE("two unlike hosts agree on the baseline, not on their own") {
  auto newer = everything();
  auto older = everything();
  for (kvm_cpuid_entry2& entry : older) {
    if (entry.function == 0x1) entry.ecx &= ~((1u << 23) | (1u << 28));  // popcnt, avx
    if (entry.function == 0x7) entry.ebx = 0;
  }
  CHECK(feature_words(narrow_cpuid(CpuModel::kHost, newer)) !=
        feature_words(narrow_cpuid(CpuModel::kHost, older)));
  const auto words = feature_words(narrow_cpuid(CpuModel::kBaseline, newer));
  CHECK(words == feature_words(narrow_cpuid(CpuModel::kBaseline, older)));
  CHECK(words.size() == 6);
}

TEST_CASE("bits that follow the asking process are no features") {
  const auto words =
      feature_words({leaf(0x1, 0, 0, 0, 1u << 27, 0), leaf(0x7, 0, 0, 0, 1u << 4, 0)});
  for (const auto& word : words) {
    CAPTURE(word.first);
    CHECK(word.second == 0);
  }
  CHECK(words.size() == 5);
}

KVM_TEST_CASE("KVM takes the baseline, and it is part of what the host has") {
  const Kvm kvm = must(Kvm::open());
  const Vm vm = must(Vm::create(kvm, 65536));
  const auto host = must(kvm.supported_cpuid());
  const auto given = narrow_cpuid(CpuModel::kBaseline, host);
  CHECK(given.size() < host.size());
  const auto vcpu = Vcpu::create(kvm, vm, 0, given);
  CHECK(vcpu.ok());
  const auto offered = feature_words(host);
  for (const auto& word : feature_words(given)) {
    CAPTURE(word.first);
    uint32_t by_host = 0;
    for (const auto& other : offered) {
      if (other.first == word.first) by_host = other.second;
    }
    CHECK((word.second & ~by_host) == 0);
  }
}

// The processor models: what a baseline guest sees of made-up hosts, and that KVM takes it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>

#include "kvm/cpuid_model.h"
#include "kvm/guest_cpu.h"
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
  cpuid.push_back(leaf(0xd, 2, 256, 576, 0, 0));
  cpuid.push_back(leaf(0xd, 5, 64, 1088, 0, 0));
  return cpuid;
}

const kvm_cpuid_entry2* find(const std::vector<kvm_cpuid_entry2>& cpuid, uint32_t function,
                             uint32_t index = 0) {
  for (const kvm_cpuid_entry2& entry : cpuid) {
    if (entry.function == function && entry.index == index) return &entry;
  }
  return nullptr;
}

std::vector<kvm_cpuid_entry2> given_of(CpuModel model,
                                       const std::vector<kvm_cpuid_entry2>& supported) {
  return must(narrow_cpuid(model, supported));
}

/// The words that a standby (offered) lacks or has otherwise than the guest's; as the handshake
/// would find them, for feature bits.
std::vector<std::string> lacking(const std::vector<std::pair<std::string, uint32_t>>& given,
                                 const std::vector<std::pair<std::string, uint32_t>>& offered) {
  std::vector<std::string> names;
  for (const auto& [name, bits] : given) {
    uint32_t there = 0;
    for (const auto& [other, value] : offered) {
      if (other == name) there = value;
    }
    if ((bits & ~there) != 0) names.push_back(name);
  }
  return names;
}

bool same(const kvm_cpuid_entry2& a, const kvm_cpuid_entry2& b) {
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

}  // namespace

TEST_CASE("models have names; another name is refused with the ones there are") {
  for (const CpuModel model : kCpuModels) {
    CHECK(must(parse_cpu_model(cpu_model_name(model))) == model);
  }
  for (const char* name : {"", "Host", "kvm64", "x86-64-v4"}) {
    const auto model = parse_cpu_model(name);
    REQUIRE_FALSE(model.ok());
    CHECK(std::string(model.error().code) == "FT_ERR_CPU_MODEL");
    CHECK(model.error().message.find("host, baseline, x86-64-v2 or x86-64-v3") !=
          std::string::npos);
  }
  CHECK(cpu_model_name(static_cast<CpuModel>(99)) == nullptr);
}

TEST_CASE("host is what KVM supports, unchanged") {
  const auto host = everything();
  const auto given = given_of(CpuModel::kHost, host);
  REQUIRE(given.size() == host.size());
  for (size_t i = 0; i < host.size(); i++) CHECK(same(given[i], host[i]));
}

TEST_CASE("baseline keeps SSE2 and what a 64-bit kernel needs, and nothing newer") {
  const auto given = given_of(CpuModel::kBaseline, everything());
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
  const auto given = given_of(CpuModel::kBaseline, poor);
  REQUIRE(given.size() == 2);
  CHECK(same(given[0], poor[0]));
  CHECK(same(given[1], poor[1]));
}

TEST_CASE("each level adds its features and nothing else") {
  const auto two = given_of(CpuModel::kX8664V2, everything());
  const kvm_cpuid_entry2* basic = find(two, 0x1);
  REQUIRE(basic != nullptr);
  const uint32_t provided = (1u << 21) | (1u << 24) | (1u << 31);
  const uint32_t level2 = (1u << 0) | (1u << 9) | (1u << 13) | (1u << 19) | (1u << 20) | (1u << 23);
  CHECK(basic->ecx == (provided | level2));
  CHECK(find(two, 0x80000001)->ecx == 1);
  CHECK(find(two, 0x7) == nullptr);
  CHECK(find(two, 0xd) == nullptr);

  const auto three = given_of(CpuModel::kX8664V3, everything());
  const uint32_t level3 = (1u << 12) | (1u << 22) | (1u << 26) | (1u << 28) | (1u << 29);
  CHECK(find(three, 0x1)->ecx == (provided | level2 | level3));
  CHECK(find(three, 0x7)->ebx == ((1u << 3) | (1u << 5) | (1u << 8)));
  CHECK(find(three, 0x7)->ecx == 0);
  CHECK(find(three, 0x80000001)->ecx == ((1u << 0) | (1u << 5)));
  REQUIRE(find(three, 0xd) != nullptr);
  CHECK(find(three, 0xd)->eax == 7);
  CHECK(find(three, 0xd)->ecx == 832);
  CHECK(find(three, 0xd)->edx == 0);
  CHECK(find(three, 0xd, 1) == nullptr);
  CHECK(find(three, 0xd, 2)->ebx == 576);
  CHECK(find(three, 0xd, 5) == nullptr);
}

TEST_CASE("a host that lacks a part of a level is told which, by name and place") {
  auto host = everything();
  for (kvm_cpuid_entry2& entry : host) {
    if (entry.function == 0x1) entry.ecx &= ~((1u << 23) | (1u << 28));
    if (entry.function == 0x7) entry.ebx &= ~(1u << 5);
  }
  CHECK(narrow_cpuid(CpuModel::kBaseline, host).ok());
  const auto two = narrow_cpuid(CpuModel::kX8664V2, host);
  REQUIRE_FALSE(two.ok());
  CHECK(std::string(two.error().code) == "FT_ERR_CPU_LACKING");
  CHECK(two.error().message.find("x86-64-v2 gives: popcnt (cpuid.1.0.ecx bit 23);") !=
        std::string::npos);
  const auto three = narrow_cpuid(CpuModel::kX8664V3, host);
  REQUIRE_FALSE(three.ok());
  for (const char* name :
       {"popcnt (", "avx (cpuid.1.0.ecx bit 28)", "avx2 (cpuid.7.0.ebx bit 5)"}) {
    CHECK(three.error().message.find(name) != std::string::npos);
  }
  CHECK_FALSE(narrow_cpuid(CpuModel::kX8664V2, {}).ok());
}

TEST_CASE("two unlike hosts agree on a level; a newer host offers what an older one gave") {
  auto newer = everything();
  auto older = everything();
  for (kvm_cpuid_entry2& entry : older) {
    if (entry.function == 0x1) entry.ecx &= ~((1u << 25) | (1u << 30));  // aes, rdrand
    if (entry.function == 0x7) entry.ebx &= ~(1u << 16);                 // avx512f
  }
  const auto host_newer = feature_words(CpuModel::kHost, newer);
  const auto host_older = feature_words(CpuModel::kHost, older);
  CHECK(lacking(host_older, host_newer).empty());
  CHECK(lacking(host_newer, host_older) ==
        std::vector<std::string>{"cpuid.1.0.ecx", "cpuid.7.0.ebx"});
  for (const CpuModel model : {CpuModel::kBaseline, CpuModel::kX8664V2, CpuModel::kX8664V3}) {
    const auto words = feature_words(model, given_of(model, newer));
    CHECK(words == feature_words(model, given_of(model, older)));
    CHECK(lacking(words, host_older).empty());
  }
}

TEST_CASE("words say vendor and layout, and of the host itself family and model") {
  const std::vector<kvm_cpuid_entry2> host = {
      leaf(0x0, 0, 16, 1, 2, 3),           leaf(0x1, 0, 0xa20f12, 0, 0, 0),
      leaf(0xd, 0, 0x207, 1, 2, 0),        leaf(0xd, 2, 256, 576, 0, 0),
      leaf(0xd, 5, 64, 1088, 0, 0),        leaf(0xd, 9, 8, 2688, 0, 0),
      leaf(0x80000008, 0, 0x3030, 0, 0, 0)};
  using Words = std::vector<std::pair<std::string, uint32_t>>;
  CHECK(feature_words(CpuModel::kHost, host) == Words{{"cpuid.0.0.ebx", 1},
                                                      {"cpuid.0.0.ecx", 2},
                                                      {"cpuid.0.0.edx", 3},
                                                      {"cpuid.1.0.ecx", 0},
                                                      {"cpuid.1.0.edx", 0},
                                                      {"cpuid.d.0.eax", 0x207},
                                                      {"cpuid.80000008.0.eax", 0x30},
                                                      {"cpuid.80000008.0.ebx", 0},
                                                      {"cpuid.1.0.eax", 0xa20f10},
                                                      {"cpuid.d.2.eax", 256},
                                                      {"cpuid.d.2.ebx", 576},
                                                      {"cpuid.d.9.eax", 8},
                                                      {"cpuid.d.9.ebx", 2688}});
  for (const auto& word : feature_words(CpuModel::kBaseline, host)) {
    CHECK(word.first != "cpuid.1.0.eax");
  }
}

TEST_CASE("bits that follow the asking process are no features") {
  const auto words = feature_words(
      CpuModel::kBaseline, {leaf(0x1, 0, 0, 0, 1u << 27, 0), leaf(0x7, 0, 0, 0, 1u << 4, 0)});
  for (const auto& word : words) {
    CAPTURE(word.first);
    CHECK(word.second == 0);
  }
  CHECK(words.size() == 5);
}

KVM_TEST_CASE("KVM takes every model that the host has, and it is part of the host's") {
  const Kvm kvm = must(Kvm::open());
  const auto host = must(kvm.supported_cpuid());
  const auto offered = feature_words(CpuModel::kHost, host);
  for (const CpuModel model : kCpuModels) {
    CAPTURE(std::string(cpu_model_name(model)));
    const auto given = narrow_cpuid(model, host);
    if (!given.ok()) {
      CHECK(std::string(given.error().code) == "FT_ERR_CPU_LACKING");
      continue;
    }
    const Vm vm = must(Vm::create(kvm, 65536));
    CHECK(Vcpu::create(kvm, vm, 0, given.value()).ok());
    CHECK(lacking(feature_words(model, given.value()), offered).empty());
  }
}

TEST_CASE("the processor goes through the state and comes out the same") {
  const GuestCpu cpu = {CpuModel::kX8664V2, given_of(CpuModel::kX8664V2, everything())};
  StateWriter writer;
  writer.begin();
  cpu.capture(writer);
  const auto reader = must(StateReader::open(writer.finish()));
  const GuestCpu read = must(GuestCpu::read(reader));
  CHECK(read == cpu);
  CHECK(read.words() == cpu.words());
  GuestCpu other = cpu;
  other.model = CpuModel::kHost;
  CHECK_FALSE(other == cpu);
  other = cpu;
  other.leaves.back().edx ^= 1;
  CHECK_FALSE(other == cpu);
}

TEST_CASE("a processor in the state that cannot be is refused") {
  struct Case {
    uint32_t model, count, bytes;
  };
  for (const Case& c : {Case{9, 0, 8}, Case{0, 1, 8}, Case{0, 0, 7}, Case{0, 1, 49},
                        Case{0, ~0u, 8}, Case{0, 257, 8 + 257 * 40}}) {
    CAPTURE(c.count);
    CAPTURE(c.bytes);
    StateWriter writer;
    writer.begin();
    uint8_t* out = writer.add(StateKind::kCpuid, 0, c.bytes);
    std::memcpy(out, &c.model, 4);
    std::memcpy(out + 4, &c.count, std::min<size_t>(4, c.bytes - 4));
    const auto read = GuestCpu::read(must(StateReader::open(writer.finish())));
    REQUIRE_FALSE(read.ok());
    CHECK(std::string(read.error().code) == "FT_ERR_STATE_FORMAT");
  }
  StateWriter empty;
  empty.begin();
  CHECK_FALSE(GuestCpu::read(must(StateReader::open(empty.finish()))).ok());
}

KVM_TEST_CASE("a vCPU that has not run takes another model and keeps its MSRs") {
  const Kvm kvm = must(Kvm::open());
  const auto host = must(kvm.supported_cpuid());
  const Vm vm = must(Vm::create(kvm, 65536));
  Vcpu vcpu = must(Vcpu::create(kvm, vm, 0, host));
  VcpuStateAccess access = must(VcpuStateAccess::probe(kvm, vcpu));
  const std::vector<uint32_t> before(access.msrs().begin(), access.msrs().end());
  REQUIRE(vcpu.set_cpuid(must(narrow_cpuid(CpuModel::kBaseline, host))).ok());
  access.probe_again(vcpu);
  for (const uint32_t msr : access.msrs()) {
    CAPTURE(msr);
    CHECK(std::find(before.begin(), before.end(), msr) != before.end());
  }
  REQUIRE(vcpu.set_cpuid(host).ok());
  access.probe_again(vcpu);
  CHECK(std::equal(before.begin(), before.end(), access.msrs().begin(), access.msrs().end()));
}

// Opening KVM: every way in which a host can be unfit has its own error.
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "kvm_support.h"

using namespace ft;
using namespace ft::test;

namespace {

struct Required {
  int cap;
  const char* name;
};
constexpr Required kRequired[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    {KVM_CAP_PIT2, "KVM_CAP_PIT2"},
    {KVM_CAP_PIT_STATE2, "KVM_CAP_PIT_STATE2"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
    {KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
    {KVM_CAP_XSAVE, "KVM_CAP_XSAVE"},
    {KVM_CAP_XCRS, "KVM_CAP_XCRS"},
    {KVM_CAP_ADJUST_CLOCK, "KVM_CAP_ADJUST_CLOCK"},
};

/// A KVM with everything, but for what `without` names.
Result<KvmCaps> caps_without(std::initializer_list<int> without) {
  return read_caps([&](int cap) {
    for (int missing : without) {
      if (cap == missing) return 0;
    }
    return cap == KVM_CAP_DIRTY_LOG_RING || cap == KVM_CAP_DIRTY_LOG_RING_ACQ_REL ? 65536 : 4096;
  });
}

std::string code_of(const Result<Kvm>& opened) {
  return opened.ok() ? "" : opened.error().code;
}

}  // namespace

TEST_CASE("each capability that is required and missing is named") {
  for (const Required& required : kRequired) {
    CAPTURE(required.name);
    const auto caps = caps_without({required.cap});
    REQUIRE_FALSE(caps.ok());
    CHECK(std::string(caps.error().code) == "FT_ERR_KVM_CAPABILITY");
    CHECK(caps.error().message.find(std::string("lacks ") + required.name + " (") !=
          std::string::npos);
  }
}

TEST_CASE("one of the two dirty rings is enough, none is refused") {
  const auto both = caps_without({});
  REQUIRE(both.ok());
  CHECK(both.value().ring_acq_rel);
  CHECK(both.value().ring_bytes_max == 65536);
  const auto plain = caps_without({KVM_CAP_DIRTY_LOG_RING_ACQ_REL});
  REQUIRE(plain.ok());
  CHECK_FALSE(plain.value().ring_acq_rel);
  CHECK(plain.value().ring_bytes_max == 65536);
  const auto none = caps_without({KVM_CAP_DIRTY_LOG_RING_ACQ_REL, KVM_CAP_DIRTY_LOG_RING});
  REQUIRE_FALSE(none.ok());
  CHECK(none.error().message.find("KVM_CAP_DIRTY_LOG_RING") != std::string::npos);
}

TEST_CASE("what only makes things slower may be missing") {
  const auto caps = caps_without(
      {KVM_CAP_SYNC_REGS, KVM_CAP_XSAVE2, KVM_CAP_SREGS2, KVM_CAP_NESTED_STATE, KVM_CAP_TSC_CONTROL,
       KVM_CAP_EXCEPTION_PAYLOAD, KVM_CAP_X86_TRIPLE_FAULT_EVENT, KVM_CAP_MCE});
  REQUIRE(caps.ok());
  CHECK(caps.value().sync_regs == 0);
  CHECK_FALSE(caps.value().xsave2);
  CHECK(caps.value().xsave_bytes == 4096);
  CHECK(caps.value().nested_state_bytes == 0);
}

TEST_CASE("a path that leads nowhere, or to no KVM") {
  CHECK(code_of(Kvm::open("/dev/no-such-kvm")) == "FT_ERR_KVM_MISSING");
  CHECK(code_of(Kvm::open("/dev/null/kvm")) == "FT_ERR_KVM_MISSING");
  CHECK(code_of(Kvm::open("/")) == "FT_ERR_KVM_MISSING");
  const auto null = Kvm::open("/dev/null");
  CHECK(code_of(null) == "FT_ERR_KVM_VERSION");
  CHECK(null.error().message.find("/dev/null is not a KVM device") != std::string::npos);
}

TEST_CASE("a file that may not be opened") {
  char path[] = "/tmp/romulus-kvm-XXXXXX";
  const int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  REQUIRE(fchmod(fd, 0) == 0);
  // Root may open anything, so the test looks with another user's eyes.
  const bool root = geteuid() == 0;
  if (root) REQUIRE(seteuid(65534) == 0);
  const std::string code = code_of(Kvm::open(path));
  if (root) REQUIRE(seteuid(0) == 0);
  CHECK(code == "FT_ERR_KVM_PERMISSION");
  close(fd);
  unlink(path);
}

KVM_TEST_CASE("the host's KVM opens and tells its tables") {
  const Kvm kvm = must(Kvm::open());
  CHECK(kvm.caps().ring_bytes_max >= 4096);
  CHECK(kvm.caps().vcpu_mmap_bytes >= sizeof(kvm_run));
  const auto cpuid = must(kvm.supported_cpuid());
  std::map<uint32_t, int> leaves;
  for (const auto& leaf : cpuid) leaves[leaf.function]++;
  CHECK(leaves.count(0) == 1);
  CHECK(leaves.count(1) == 1);
  CHECK(leaves.count(0x80000001) == 1);
  const auto msrs = must(kvm.msr_indices());
  CHECK(std::find(msrs.begin(), msrs.end(), 0xc0000081u) != msrs.end());  // STAR
}

KVM_TEST_CASE("ring sizes that are impossible are refused") {
  const Kvm kvm = must(Kvm::open());
  const uint32_t most = kvm.caps().ring_bytes_max;
  for (uint32_t bytes : {0u, 1u, 1024u, 4096u + 16u, 12288u, most * 2, 0x80000000u}) {
    CAPTURE(bytes);
    const auto vm = Vm::create(kvm, bytes);
    REQUIRE_FALSE(vm.ok());
    CHECK(std::string(vm.error().code) == "FT_ERR_RING_SIZE");
  }
  CHECK(Vm::create(kvm, most).ok());
}

KVM_TEST_CASE("vCPU ids and their APIC ids") {
  const Kvm kvm = must(Kvm::open());
  const Vm vm = must(Vm::create(kvm, 65536));
  const auto cpuid = must(kvm.supported_cpuid());
  auto vcpu = must(Vcpu::create(kvm, vm, 3, cpuid));
  CHECK(vcpu.id() == 3);
  // The local APIC's id register holds what leaf 1 says.
  kvm_lapic_state lapic{};
  REQUIRE(ioctl(vcpu.fd(), KVM_GET_LAPIC, &lapic) == 0);
  CHECK(static_cast<uint8_t>(lapic.regs[0x23]) == 3);
  CHECK_FALSE(Vcpu::create(kvm, vm, 3, cpuid).ok());
  CHECK_FALSE(Vcpu::create(kvm, vm, 255, cpuid).ok());
}

KVM_TEST_CASE("memory slots KVM cannot take") {
  const Kvm kvm = must(Kvm::open());
  Vm vm = must(Vm::create(kvm, 65536));
  auto memory = must(MappedRegion::anonymous(1 << 20, "a test"));
  const auto unaligned = vm.set_memory(0, 0x123, memory.data(), 4096, true);
  REQUIRE_FALSE(unaligned.ok());
  CHECK(std::string(unaligned.error().code) == "FT_ERR_KVM_MEMORY");
  CHECK(unaligned.error().message.find("0x123") != std::string::npos);
  CHECK(vm.set_memory(0, 0, memory.data(), 1 << 20, true).ok());
  CHECK_FALSE(vm.set_memory(1, 0x80000, memory.data(), 4096, true).ok());  // overlaps
  CHECK(vm.set_memory(0, 0, memory.data(), 0, false).ok());                // taken away
  CHECK(vm.set_memory(1, 0x80000, memory.data(), 4096, true).ok());
}

// A small VM around the real /dev/kvm for the kvm_*_test.cc files: memory, vCPUs, two ways to start
// (real mode, and user mode in 64 bits without a kernel below it), and running for a while.
#pragma once

#include <doctest/doctest.h>
#include <linux/kvm.h>

#include <cstdint>
#include <cstring>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "core/mapped_region.h"
#include "kvm/kvm.h"
#include "kvm/state.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"

/// A test that needs /dev/kvm; skipped by name where there is none.
#define KVM_TEST_CASE(name) TEST_CASE("kvm: " name* doctest::skip(!ft::test::kvm_there()))

// Guest code is written as assembly in the test's own text: GUEST_CODE(name, ".code16", "…") makes
// the bytes between two labels available as ft::test::guest_bytes(name, name_end). Code is copied
// to where it runs, so it may use relative jumps and absolute guest addresses only.
#define GUEST_CODE(name, mode, text)                                     \
  extern "C" const uint8_t name[], name##_end[];                         \
  __asm__(".pushsection .rodata\n" mode "\n" #name ":\n" text "\n" #name \
          "_end:\n.code64\n.popsection\n")

namespace ft::test {

bool kvm_there();

/// The value, or the test ends with the error's message.
template <typename T>
T must(Result<T> result) {
  if (!result.ok()) FAIL(result.error().code << ": " << result.error().message);
  return result.take();
}

inline std::span<const uint8_t> guest_bytes(const uint8_t* begin, const uint8_t* end) {
  return {begin, static_cast<size_t>(end - begin)};
}

/// Where the guests of these tests live.
inline constexpr uint64_t kMemoryBytes = 8ull << 20;
inline constexpr uint64_t kCodeGpa = 0x10000;
inline constexpr uint64_t kDataGpa = 0x20000;
inline constexpr uint64_t kPagesGpa = 0x400000;   // pages that guests dirty
inline constexpr uint64_t kMmioGpa = 0xd0000000;  // nothing there: an access exits

struct GuestOptions {
  uint32_t ring_bytes = 65536 * 16;
  uint32_t vcpus = 1;
  bool log_dirty = true;
  std::optional<KvmCaps> caps;
  bool tsc_deadline = false;  // offer the deadline timer in CPUID
};

class Guest {
 public:
  explicit Guest(const GuestOptions& options = {});

  Vcpu& vcpu(size_t i = 0) { return vcpus_[i]; }
  Vm& vm() { return *vm_; }
  Kvm& kvm() { return kvm_; }
  VcpuStateAccess& access(size_t i = 0) { return access_[i]; }
  uint8_t* at(uint64_t gpa) { return memory_.data() + gpa; }
  template <typename T>
  T& value(uint64_t gpa) {
    return *reinterpret_cast<T*>(at(gpa));
  }
  void load(uint64_t gpa, std::span<const uint8_t> bytes) {
    std::memcpy(at(gpa), bytes.data(), bytes.size());
  }
  /// Real mode at `gpa` (below 1 MiB), every data segment from 0 to 4 GiB, stack below 0x8000.
  void start_real(uint64_t gpa, size_t vcpu = 0);
  /// 64-bit user mode (CPL 3) at kCodeGpa: all memory, kMmioGpa and the local APIC mapped one to
  /// one; SSE and AVX on. There is no kernel, so the guest may take neither fault nor interrupt.
  void start_user(uint64_t rsp = kDataGpa);
  void set_regs(const kvm_regs& regs, size_t vcpu = 0);
  kvm_regs regs(size_t vcpu = 0);

  /// Runs until the guest exits by itself.
  Vcpu::Exit run(size_t vcpu = 0) { return must(this->vcpu(vcpu).run()); }
  /// Runs for about `us` microseconds of wall time, then stops with nothing pending. Exits by the
  /// guest itself end it early.
  Vcpu::Exit run_for(int64_t us, size_t vcpu = 0);

  /// Everything but memory, as one blob.
  std::vector<uint8_t> capture();
  /// Puts a capture and the memory of `from` into this fresh VM.
  Status restore(const std::vector<uint8_t>& blob);
  void copy_memory_from(Guest& from) { std::memcpy(at(0), from.at(0), kMemoryBytes); }

  /// Page numbers (of all memory) that the ring of `vcpu` holds; `entries` counts duplicates too.
  std::set<uint64_t> harvest(uint32_t* entries = nullptr, size_t vcpu = 0);

 private:
  Kvm kvm_;
  MappedRegion memory_;
  std::optional<Vm> vm_;
  std::vector<Vcpu> vcpus_;
  std::vector<VcpuStateAccess> access_;
};

}  // namespace ft::test

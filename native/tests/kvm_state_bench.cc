// Times what a pause is made of on this host's KVM: each state ioctl, the whole capture of a vCPU
// and of a VM, a restore, resetting the rings. Not a test: it asserts nothing.
// Usage: kvm_state_bench. Built from the project's root by
//   g++ -std=c++20 -O2 -Inative native/tests/kvm_state_bench.cc native/kvm/*.cc -o kvm_state_bench
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "core/mapped_region.h"
#include "kvm/state.h"
#include "kvm/uapi.h"

namespace {

using namespace ft;

constexpr int kRounds = 4000;
constexpr uint64_t kMemoryBytes = 64 << 20;
constexpr uint64_t kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kCode = 0x10000;
constexpr uint64_t kPagesGpa = 0x400000;

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) {
    std::fprintf(stderr, "%s: %s\n", result.error().code, result.error().message.c_str());
    std::exit(1);
  }
  return result.take();
}

double now_us() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

void report(const char* name, std::vector<double>& us) {
  std::sort(us.begin(), us.end());
  std::printf("  %-44s %8.2f  (%.2f)\n", name, us[us.size() / 2], us[us.size() * 99 / 100]);
}

template <typename F>
void measure(const char* name, F&& what, int rounds = kRounds) {
  std::vector<double> us;
  us.reserve(static_cast<size_t>(rounds));
  for (int i = 0; i < rounds; i++) {
    const double begin = now_us();
    what();
    us.push_back(now_us() - begin);
  }
  report(name, us);
}

kvm_segment segment(uint16_t selector, uint8_t type, bool is_long) {
  kvm_segment s{};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = type;
  s.present = s.s = s.g = 1;
  s.dpl = 3;
  s.l = is_long ? 1 : 0;
  s.db = is_long ? 0 : 1;
  return s;
}

/// User mode, 64 bits, all memory one to one: writes RCX pages from RDI on, then an MMIO exit.
void start_user(Vcpu& vcpu, uint8_t* memory) {
  //   1: mov [rdi], rcx; add rdi, 4096; dec rcx; jnz 1b; mov [rsi], eax; jmp 1b
  const uint8_t code[] = {0x48, 0x89, 0x0f, 0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00,
                          0x48, 0xff, 0xc9, 0x75, 0xf1, 0x89, 0x06, 0xeb, 0xed};
  std::memcpy(memory + kCode, code, sizeof(code));
  auto entry = [&](uint64_t at, uint64_t value) { std::memcpy(memory + at, &value, 8); };
  entry(kPml4, kPdpt | 0x27);
  entry(kPdpt, kPd | 0x27);
  for (uint64_t gpa = 0; gpa < kMemoryBytes * 2; gpa += 2 << 20) {
    entry(kPd + (gpa >> 21) * 8, gpa | 0xe7);
  }
  kvm_sregs sregs{};
  if (ioctl(vcpu.fd(), KVM_GET_SREGS, &sregs) != 0) std::exit(1);
  sregs.cs = segment(0x33, 0xb, true);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = segment(0x2b, 3, false);
  sregs.cr3 = kPml4;
  sregs.cr4 = 0x20 | 0x600;
  sregs.cr0 = 0x80000033;
  sregs.efer = 0xd01;
  if (ioctl(vcpu.fd(), KVM_SET_SREGS, &sregs) != 0) std::exit(1);
  must(vcpu.refresh_synced_regs());
}

void write_pages(Vcpu& vcpu, uint64_t count) {
  kvm_regs regs{};
  regs.rip = kCode;
  regs.rflags = 2;
  regs.rdi = kPagesGpa;
  regs.rsi = kMemoryBytes + 4096;
  regs.rcx = count;
  if (ioctl(vcpu.fd(), KVM_SET_REGS, &regs) != 0) std::exit(1);
  if (must(vcpu.run()) != Vcpu::Exit::kMmio) {
    std::fprintf(stderr, "unexpected: %s\n", vcpu.describe_exit().c_str());
    std::exit(1);
  }
  must(vcpu.complete_pending_io());
}

void bench_ioctls(Vcpu& vcpu, VcpuStateAccess& access, const Vm& vm) {
  alignas(8) static uint8_t out[65536];
  const int fd = vcpu.fd();
  measure("(an empty measurement)", [] {});
  measure("KVM_GET_REGS", [&] { ioctl(fd, KVM_GET_REGS, out); });
  measure("KVM_GET_SREGS", [&] { ioctl(fd, KVM_GET_SREGS, out); });
  measure("KVM_GET_VCPU_EVENTS", [&] { ioctl(fd, KVM_GET_VCPU_EVENTS, out); });
  measure("KVM_GET_MP_STATE", [&] { ioctl(fd, KVM_GET_MP_STATE, out); });
  measure("KVM_GET_LAPIC", [&] { ioctl(fd, KVM_GET_LAPIC, out); });
  measure("KVM_GET_XSAVE2", [&] { ioctl(fd, uapi::kGetXsave2, out); });
  measure("KVM_GET_XCRS", [&] { ioctl(fd, KVM_GET_XCRS, out); });
  measure("KVM_GET_DEBUGREGS", [&] { ioctl(fd, KVM_GET_DEBUGREGS, out); });
  for (size_t count : {size_t{1}, access.msrs().size()}) {
    uapi::Msrs msrs(count);
    for (size_t i = 0; i < count; i++) msrs.elements()[i].index = access.msrs()[i];
    const std::string name = "KVM_GET_MSRS, " + std::to_string(count);
    measure(name.c_str(), [&] { ioctl(fd, uapi::kGetMsrs, msrs.head()); });
  }
  measure("KVM_RUN with immediate_exit", [&] { must(vcpu.complete_pending_io()); });
  kvm_irqchip chip{};
  kvm_pit_state2 pit{};
  kvm_clock_data clock{};
  measure("KVM_GET_IRQCHIP (IOAPIC)", [&] { must(vm.get_irqchip(2, &chip)); });
  measure("KVM_GET_PIT2", [&] { must(vm.get_pit2(&pit)); });
  measure("KVM_GET_CLOCK", [&] { must(vm.get_clock(&clock)); });
}

}  // namespace

int main() {
  const Kvm kvm = must(Kvm::open());
  Vm vm = must(Vm::create(kvm, kvm.caps().ring_bytes_max));
  auto memory = must(MappedRegion::anonymous(kMemoryBytes, "the guest"));
  must(vm.set_memory(0, 0, memory.data(), kMemoryBytes, true));
  const auto cpuid = must(kvm.supported_cpuid());
  Vcpu vcpu = must(Vcpu::create(kvm, vm, 0, cpuid));
  const double probe_begin = now_us();
  VcpuStateAccess access = must(VcpuStateAccess::probe(kvm, vcpu));
  std::printf("microseconds: median (99th percentile); %zu MSRs travel, found in %.0f us\n",
              access.msrs().size(), now_us() - probe_begin);
  start_user(vcpu, memory.data());
  write_pages(vcpu, 16);

  std::printf("single requests\n");
  bench_ioctls(vcpu, access, vm);

  std::printf("whole captures\n");
  StateWriter writer;
  measure("VM (irqchips, PIT, clock)", [&] {
    writer.begin();
    must(capture_vm_state(vm, writer));
  });
  measure("vCPU in user mode", [&] {
    writer.begin();
    must(access.capture(vcpu, writer));
  });
  measure("both", [&] {
    writer.begin();
    must(access.capture(vcpu, writer));
    must(capture_vm_state(vm, writer));
    writer.finish();
  });
  writer.begin();
  must(access.capture(vcpu, writer));
  must(capture_vm_state(vm, writer));
  const auto span = writer.finish();
  const std::vector<uint8_t> blob(span.begin(), span.end());
  measure("opening the blob for reading", [&] { must(StateReader::open(blob)); });
  measure(
      "restore of vCPU and VM",
      [&] {
        const auto reader = must(StateReader::open(blob));
        must(restore_vm_state(vm, reader));
        must(access.restore(vcpu, reader));
      },
      500);

  std::printf("harvest and reset\n");
  for (uint64_t pages : {0, 1, 16, 64, 512, 4096}) {
    std::vector<double> harvest_us, reset_us;
    for (int i = 0; i < (pages > 100 ? 100 : 1000); i++) {
      if (pages > 0) write_pages(vcpu, pages);
      const double begin = now_us();
      uint64_t sum = 0;
      const uint32_t n = vcpu.ring().harvest([&](const DirtyEntry& entry) { sum += entry.offset; });
      __asm__ volatile("" : : "r"(sum));
      const double harvested = now_us();
      must(vm.reset_dirty_rings(SignalsBlocked(), n));
      reset_us.push_back(now_us() - harvested);
      harvest_us.push_back(harvested - begin);
    }
    const std::string count = std::to_string(pages) + " pages: ";
    report((count + "harvest").c_str(), harvest_us);
    report((count + "reset").c_str(), reset_us);
  }
  return 0;
}

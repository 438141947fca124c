#include "kvm/vcpu_counters.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/mapped_region.h"
#include "kvm/uapi.h"
#include "kvm/vcpu.h"

namespace ft {
namespace {

// No KVM has nearly as many; a larger file is none that is understood here.
constexpr uint64_t kFileBytesMax = 1 << 20;

// In the order of VcpuCounters::Name.
constexpr std::string_view kCounterNames[] = {"insn_emulation", "exits", "pf_taken", "irq_exits"};

bool read_exactly(int fd, void* out, size_t bytes, uint64_t at) {
  return ::pread(fd, out, bytes, static_cast<off_t>(at)) == static_cast<ssize_t>(bytes);
}

}  // namespace

std::optional<VcpuCounters> VcpuCounters::open(int vcpu_fd) {
  VcpuCounters counters;
  counters.fd_ = UniqueFd(::ioctl(vcpu_fd, uapi::kGetStatsFd, 0));
  uapi::StatsHeader header;
  if (!counters.fd_.valid() || !read_exactly(counters.fd_.get(), &header, sizeof(header), 0)) {
    return std::nullopt;
  }
  // A descriptor, its name behind it, then the next one; the values stand apart.
  const uint64_t step = sizeof(uapi::StatsDescriptor) + header.name_bytes;
  if (header.name_bytes > 256 || header.descriptors * step > kFileBytesMax) return std::nullopt;
  std::vector<char> table(header.descriptors * step);
  if (!read_exactly(counters.fd_.get(), table.data(), table.size(), header.descriptors_at)) {
    return std::nullopt;
  }
  std::array<std::optional<uint64_t>, kNames> found;
  for (uint64_t i = 0; i < header.descriptors; i++) {
    const char* entry = table.data() + i * step;
    uapi::StatsDescriptor descriptor;
    std::memcpy(&descriptor, entry, sizeof(descriptor));
    const char* name = entry + sizeof(descriptor);
    const std::string_view text(name, ::strnlen(name, header.name_bytes));
    for (size_t n = 0; n < kNames; n++) {
      if (text == kCounterNames[n]) found[n] = uint64_t{header.data_at} + descriptor.offset;
    }
  }
  const auto missing = [](const auto& at) { return !at.has_value(); };
  if (std::any_of(found.begin(), found.end(), missing)) return std::nullopt;
  const auto [first, last] = std::minmax_element(found.begin(), found.end());
  counters.from_ = **first;
  counters.bytes_ = **last + sizeof(uint64_t) - **first;
  if (counters.bytes_ > sizeof(uint64_t) * 256) return std::nullopt;
  for (size_t n = 0; n < kNames; n++) counters.at_[n] = *found[n] - counters.from_;
  return counters;
}

std::optional<VcpuCounters::Counts> VcpuCounters::read() const {
  uint8_t bytes[sizeof(uint64_t) * 256];
  if (!read_exactly(fd_.get(), bytes, bytes_, from_)) return std::nullopt;
  const auto value = [&](Name name) {
    uint64_t out;
    std::memcpy(&out, bytes + at_[name], sizeof(out));
    return out;
  };
  return Counts{.emulated = value(kEmulated),
                .other_exits = value(kExits) - value(kPageFaults) - value(kHostInterrupts)};
}

namespace {

// What the trial runs, in kernel mode, and how many instructions that are before the last one.
constexpr uint8_t kTrial[] = {
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,  // nop
    0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,  //
    0xb9, 0x02, 0x01, 0x00, 0xc0,                    // mov ecx, KERNEL_GS_BASE
    0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30,              // xor eax, eax; xor edx, edx; wrmsr
    0x0f, 0x01, 0xf8, 0x0f, 0x01, 0xf8,              // swapgs, twice
    0x0f, 0x21, 0xf8, 0x0f, 0x23, 0xf8,              // mov rax, dr7; mov dr7, rax
    0xe6, 0x80,                                      // out 0x80, al: the end
};
constexpr uint64_t kTrialInstructions = 24;
constexpr uint64_t kTrialBytes = 4 << 20;
constexpr uint64_t kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kGdt = 0x4000, kCode = 0x5000;

Result<bool> try_kernel_mode(const Kvm& kvm) {
  auto vm = Vm::create(kvm, kvm.caps().ring_bytes_max);
  if (!vm.ok()) return vm.error();
  auto memory = MappedRegion::anonymous(kTrialBytes, "a trial guest");
  if (!memory.ok()) return memory.error();
  uint8_t* base = memory.value().data();
  FT_TRY(vm.value().set_memory(0, 0, base, kTrialBytes, false));
  const auto cpuid = kvm.supported_cpuid();
  if (!cpuid.ok()) return cpuid.error();
  auto vcpu = Vcpu::create(kvm, vm.value(), 0, cpuid.value());
  if (!vcpu.ok()) return vcpu.error();
  const auto counters = VcpuCounters::open(vcpu.value().fd());
  if (!counters) return false;

  const auto put = [base](uint64_t at, uint64_t value) { std::memcpy(base + at, &value, 8); };
  put(kPml4, kPdpt | 3);
  put(kPdpt, kPd | 3);
  put(kPd, 0x83);
  put(kPd + 8, (2 << 20) | 0x83);
  put(kGdt + 8, 0x00af9b000000ffff);
  put(kGdt + 16, 0x00cf93000000ffff);
  std::memcpy(base + kCode, kTrial, sizeof(kTrial));
  FT_TRY(vcpu.value().set_long_mode_entry({.rip = kCode,
                                           .boot_params_gpa = 0,
                                           .page_tables_gpa = kPml4,
                                           .gdt_gpa = kGdt,
                                           .gdt_bytes = 24,
                                           .code_selector = 8,
                                           .data_selector = 16}));
  const auto before = counters->read();
  const auto exit = vcpu.value().run();
  const auto after = counters->read();
  if (!exit.ok()) return exit.error();
  return exit.value() == Vcpu::Exit::kIo && before && after &&
         after->emulated - before->emulated >= kTrialInstructions;
}

}  // namespace

bool kernel_mode_is_counted(const Kvm& kvm) {
  static const bool counted = [&] {
    const auto tried = try_kernel_mode(kvm);
    return tried.ok() && tried.value();
  }();
  return counted;
}

}  // namespace ft

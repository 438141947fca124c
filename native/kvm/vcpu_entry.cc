// The state in which a vCPU enters a kernel that was just loaded.
#include <sys/ioctl.h>

#include <cerrno>

#include "kvm/vcpu.h"

namespace ft {
namespace {

constexpr uint64_t kCr0Pe = 1, kCr0Et = 1 << 4, kCr0Pg = 1ull << 31;
constexpr uint64_t kCr4Pae = 1 << 5;
constexpr uint64_t kEferLme = 1 << 8, kEferLma = 1 << 10;
constexpr uint8_t kCode = 0xb;  // executable, readable, accessed
constexpr uint8_t kData = 0x3;  // writable, accessed
constexpr uint8_t kBusyTss = 0xb;

kvm_segment flat_segment(uint16_t selector, uint8_t type) {
  kvm_segment s{};
  s.limit = 0xffffffff;
  s.selector = selector;
  s.type = type;
  s.present = 1;
  s.db = 1;
  s.s = 1;
  s.g = 1;
  return s;
}

// No task is ever switched to, but the processor wants the register to hold one.
kvm_segment task_segment() {
  kvm_segment s = flat_segment(0, kBusyTss);
  s.limit = 0x67;
  s.s = s.g = s.db = 0;
  return s;
}

Status state_error(const char* request) {
  return sys_error("FT_ERR_KVM_STATE", std::string(request) + " failed");
}

}  // namespace

Status Vcpu::enter_at(const kvm_sregs& sregs, const kvm_regs& regs) {
  if (::ioctl(fd_.get(), KVM_SET_SREGS, &sregs) != 0) return state_error("KVM_SET_SREGS");
  if (::ioctl(fd_.get(), KVM_SET_REGS, &regs) != 0) return state_error("KVM_SET_REGS");
  return refresh_synced_regs();
}

Status Vcpu::set_pvh_entry(uint32_t entry, uint32_t start_info_gpa) {
  kvm_sregs sregs{};
  if (::ioctl(fd_.get(), KVM_GET_SREGS, &sregs) != 0) return state_error("KVM_GET_SREGS");
  sregs.cs = flat_segment(0x08, kCode);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat_segment(0x10, kData);
  sregs.tr = task_segment();
  sregs.gdt = sregs.idt = kvm_dtable{};
  sregs.cr0 = kCr0Pe | kCr0Et;
  sregs.cr3 = sregs.cr4 = 0;
  sregs.efer = 0;
  kvm_regs regs{};
  regs.rip = entry;
  regs.rbx = start_info_gpa;
  regs.rflags = 2;
  return enter_at(sregs, regs);
}

Status Vcpu::set_long_mode_entry(const LongModeEntry& entry) {
  kvm_sregs sregs{};
  if (::ioctl(fd_.get(), KVM_GET_SREGS, &sregs) != 0) return state_error("KVM_GET_SREGS");
  sregs.cs = flat_segment(entry.code_selector, kCode);
  sregs.cs.db = 0;
  sregs.cs.l = 1;
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat_segment(entry.data_selector, kData);
  sregs.tr = task_segment();
  sregs.gdt = kvm_dtable{
      .base = entry.gdt_gpa, .limit = static_cast<uint16_t>(entry.gdt_bytes - 1), .padding = {}};
  sregs.idt = kvm_dtable{};
  sregs.cr0 = kCr0Pe | kCr0Et | kCr0Pg;
  sregs.cr3 = entry.page_tables_gpa;
  sregs.cr4 = kCr4Pae;
  sregs.efer = kEferLme | kEferLma;
  kvm_regs regs{};
  regs.rip = entry.rip;
  regs.rsi = entry.boot_params_gpa;
  regs.rflags = 2;
  return enter_at(sregs, regs);
}

}  // namespace ft

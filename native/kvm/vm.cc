// Creating a VM, its memory slots, its event descriptors and its VM-wide getters and setters.
#include "kvm/vm.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>

namespace ft {
namespace {

// Where Intel hosts keep four pages of their own for real-mode emulation: right below 4 GiB, above
// the local APIC, where neither memory nor a device of ours lives.
constexpr uint64_t kIdentityMapGpa = 0xfffbc000;
constexpr uint64_t kTssGpa = kIdentityMapGpa + 0x1000;

std::string hex(uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%" PRIx64, value);
  return text;
}

Status enable_cap(int fd, uint32_t cap, uint64_t arg, const char* name) {
  kvm_enable_cap enable{};
  enable.cap = cap;
  enable.args[0] = arg;
  if (::ioctl(fd, KVM_ENABLE_CAP, &enable) != 0) {
    return sys_error("FT_ERR_KVM_CREATE", std::string("KVM refuses to enable ") + name);
  }
  return Ok{};
}

Status check_ring_size(const KvmCaps& caps, uint32_t ring_bytes) {
  const auto page = static_cast<uint32_t>(::sysconf(_SC_PAGESIZE));
  const bool power_of_two = ring_bytes != 0 && (ring_bytes & (ring_bytes - 1)) == 0;
  if (power_of_two && ring_bytes >= page && ring_bytes <= caps.ring_bytes_max) return Ok{};
  return Error{"FT_ERR_RING_SIZE", 0,
               "A dirty ring of " + std::to_string(ring_bytes) +
                   " bytes is not possible here; choose a power of two from " +
                   std::to_string(page) + " to " + std::to_string(caps.ring_bytes_max) + "."};
}

Status create_chips(int fd) {
  if (::ioctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &kIdentityMapGpa) != 0) {
    return sys_error("FT_ERR_KVM_CREATE", "KVM_SET_IDENTITY_MAP_ADDR failed");
  }
  if (::ioctl(fd, KVM_SET_TSS_ADDR, kTssGpa) != 0) {
    return sys_error("FT_ERR_KVM_CREATE", "KVM_SET_TSS_ADDR failed");
  }
  if (::ioctl(fd, KVM_CREATE_IRQCHIP, 0) != 0) {
    return sys_error("FT_ERR_KVM_CREATE", "KVM_CREATE_IRQCHIP failed");
  }
  kvm_pit_config pit{};
  pit.flags = KVM_PIT_SPEAKER_DUMMY;  // port 0x61 is answered inside KVM too
  if (::ioctl(fd, KVM_CREATE_PIT2, &pit) != 0) {
    return sys_error("FT_ERR_KVM_CREATE", "KVM_CREATE_PIT2 failed");
  }
  return Ok{};
}

}  // namespace

Result<Vm> Vm::create(const Kvm& kvm, uint32_t ring_bytes) {
  const KvmCaps& caps = kvm.caps();
  FT_TRY(check_ring_size(caps, ring_bytes));

  int raw = -1;
  do {
    raw = ::ioctl(kvm.fd(), KVM_CREATE_VM, 0);
  } while (raw < 0 && errno == EINTR);
  if (raw < 0) return sys_error("FT_ERR_KVM_CREATE", "KVM_CREATE_VM failed");

  Vm vm;
  vm.fd_ = UniqueFd(raw);
  vm.ring_bytes_ = ring_bytes;
  vm.caps_ = caps;
  if (caps.ring_acq_rel) {
    FT_TRY(enable_cap(raw, KVM_CAP_DIRTY_LOG_RING_ACQ_REL, ring_bytes, "the dirty ring"));
  } else {
    FT_TRY(enable_cap(raw, KVM_CAP_DIRTY_LOG_RING, ring_bytes, "the dirty ring"));
  }
  // Both make KVM_GET_VCPU_EVENTS tell pending from delivered, so that nothing is delivered twice.
  if (caps.exception_payload) {
    FT_TRY(enable_cap(raw, KVM_CAP_EXCEPTION_PAYLOAD, 1, "exception payloads"));
  }
  if (caps.triple_fault_event) {
    FT_TRY(enable_cap(raw, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1, "triple fault events"));
  }
  FT_TRY(create_chips(raw));
  return vm;
}

Status Vm::put_slot(const kvm_userspace_memory_region& region) const {
  if (::ioctl(fd_.get(), KVM_SET_USER_MEMORY_REGION, &region) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_MEMORY", "KVM refuses memory slot " + std::to_string(region.slot) +
                                            " at " + hex(region.guest_phys_addr) + ", " +
                                            std::to_string(region.memory_size) + " bytes");
}

Status Vm::set_memory(uint32_t slot, uint64_t gpa, uint8_t* host, uint64_t bytes, bool log_dirty) {
  kvm_userspace_memory_region region{};
  region.slot = slot;
  region.flags = log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0;
  region.guest_phys_addr = gpa;
  region.memory_size = bytes;
  region.userspace_addr = reinterpret_cast<uint64_t>(host);
  FT_TRY(put_slot(region));

  std::erase_if(slots_, [slot](const auto& known) { return known.slot == slot; });
  if (bytes != 0) slots_.push_back(region);
  return Ok{};
}

Status Vm::add_ioeventfd(uint64_t gpa, uint32_t value, int event_fd) {
  kvm_ioeventfd io{};
  io.datamatch = value;
  io.addr = gpa;
  io.len = sizeof(value);
  io.fd = event_fd;
  io.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
  if (::ioctl(fd_.get(), KVM_IOEVENTFD, &io) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_EVENTFD", "KVM refuses an ioeventfd at " + hex(gpa));
}

Status Vm::add_irqfd(uint32_t gsi, int event_fd) {
  kvm_irqfd irq{};
  irq.fd = static_cast<uint32_t>(event_fd);
  irq.gsi = gsi;
  if (::ioctl(fd_.get(), KVM_IRQFD, &irq) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_EVENTFD", "KVM refuses an irqfd for line " + std::to_string(gsi));
}

Status Vm::get_irqchip(uint32_t chip, kvm_irqchip* out) const {
  out->chip_id = chip;
  if (::ioctl(fd_.get(), KVM_GET_IRQCHIP, out) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_STATE", "KVM_GET_IRQCHIP failed for chip " + std::to_string(chip));
}

Status Vm::set_irqchip(const kvm_irqchip& in) {
  if (::ioctl(fd_.get(), KVM_SET_IRQCHIP, &in) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_STATE",
                   "KVM_SET_IRQCHIP failed for chip " + std::to_string(in.chip_id));
}

Status Vm::get_pit2(kvm_pit_state2* out) const {
  if (::ioctl(fd_.get(), KVM_GET_PIT2, out) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_STATE", "KVM_GET_PIT2 failed");
}

Status Vm::set_pit2(const kvm_pit_state2& in) {
  if (::ioctl(fd_.get(), KVM_SET_PIT2, &in) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_STATE", "KVM_SET_PIT2 failed");
}

Status Vm::get_clock(kvm_clock_data* out) const {
  if (::ioctl(fd_.get(), KVM_GET_CLOCK, out) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_STATE", "KVM_GET_CLOCK failed");
}

Status Vm::set_clock(const kvm_clock_data& in) {
  // No flags: with KVM_CLOCK_REALTIME KVM would add the time that passed since the capture, and
  // the guest's clock would jump. Without it guest time goes on from the captured value.
  kvm_clock_data clock{};
  clock.clock = in.clock;
  if (::ioctl(fd_.get(), KVM_SET_CLOCK, &clock) == 0) return Ok{};
  return sys_error("FT_ERR_KVM_STATE", "KVM_SET_CLOCK failed");
}

}  // namespace ft

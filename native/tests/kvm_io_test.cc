// Accesses that exit, and accesses and interrupts that do not: completing what is half done before
// a capture, kicks, ioeventfd and irqfd.
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_support.h"

using namespace ft;
using namespace ft::test;

namespace {

constexpr uint64_t kRealCode = 0x9000;

bool signalled(int fd) {
  eventfd_t value = 0;
  return eventfd_read(fd, &value) == 0;
}

}  // namespace

GUEST_CODE(guest_ports, ".code16", R"(
    movb $0x41, %al
    outb %al, $0x60
    inb $0x68, %al
    movb %al, 0x6000
1:  outb %al, $0x70
    jmp 1b
)");

KVM_TEST_CASE("a port write is finished before capture, a port read keeps its value") {
  Guest a;
  a.load(kRealCode, guest_bytes(guest_ports, guest_ports_end));
  a.start_real(kRealCode);
  REQUIRE(a.run() == Vcpu::Exit::kIo);
  REQUIRE(must(a.vcpu().complete_pending_io()) == Vcpu::Exit::kInterrupted);
  CHECK(a.regs().rip == kRealCode + 4);
  CHECK(a.vcpu().run_page()->immediate_exit == 0);

  REQUIRE(a.run() == Vcpu::Exit::kIo);
  kvm_run* run = a.vcpu().run_page();
  REQUIRE(run->io.direction == KVM_EXIT_IO_IN);
  *(reinterpret_cast<uint8_t*>(run) + run->io.data_offset) = 0x77;
  REQUIRE(must(a.vcpu().complete_pending_io()) == Vcpu::Exit::kInterrupted);
  CHECK((run->s.regs.regs.rax & 0xff) == 0x77);  // the synced registers have it

  Guest b;
  const auto blob = a.capture();
  b.copy_memory_from(a);
  must(b.restore(blob));
  REQUIRE(b.run() == Vcpu::Exit::kIo);
  CHECK(b.value<uint8_t>(0x6000) == 0x77);
}

// Four bytes read across a page border where no memory is: KVM asks for them in two accesses.
GUEST_CODE(guest_straddle, ".code64", R"(
    movl $0xd0000ffe, %edx
    movl (%rdx), %eax
    movl %eax, 0x20000
    movl %eax, -0xffe(%rdx)
)");

KVM_TEST_CASE("an access across pages is completed in as many steps as KVM asks for") {
  Guest guest;
  guest.load(kCodeGpa, guest_bytes(guest_straddle, guest_straddle_end));
  guest.start_user();
  kvm_run* run = guest.vcpu().run_page();
  std::vector<uint64_t> asked;
  Vcpu::Exit exit = guest.run();
  uint8_t next = 0x11;
  while (exit == Vcpu::Exit::kMmio) {
    REQUIRE(run->mmio.is_write == 0);
    asked.push_back(run->mmio.phys_addr);
    for (uint32_t i = 0; i < run->mmio.len; i++, next += 0x11) run->mmio.data[i] = next;
    exit = must(guest.vcpu().complete_pending_io());
  }
  CHECK(exit == Vcpu::Exit::kInterrupted);
  CHECK(asked == std::vector<uint64_t>{0xd0000ffe, 0xd0001000});
  CHECK(static_cast<uint32_t>(guest.regs().rax) == 0x44332211);
}

KVM_TEST_CASE("a kick that waits is not taken by completing an access") {
  Guest guest;
  guest.load(kRealCode, guest_bytes(guest_ports, guest_ports_end));
  guest.start_real(kRealCode);
  REQUIRE(guest.run() == Vcpu::Exit::kIo);
  kvm_run* run = guest.vcpu().run_page();
  run->immediate_exit = 1;
  REQUIRE(must(guest.vcpu().complete_pending_io()) == Vcpu::Exit::kInterrupted);
  CHECK(run->immediate_exit == 1);
  CHECK(guest.run() == Vcpu::Exit::kInterrupted);
  CHECK(guest.regs().rip == kRealCode + 4);  // nothing ran
  run->immediate_exit = 0;
  CHECK(guest.run() == Vcpu::Exit::kIo);
}

GUEST_CODE(guest_notify, ".code64", R"(
    movl $0xd0000050, %edx
    movl $3, (%rdx)
    movl $4, (%rdx)
    movl $5, (%rdx)
)");

KVM_TEST_CASE("an ioeventfd takes the write it waits for, and only that") {
  Guest guest;
  guest.load(kCodeGpa, guest_bytes(guest_notify, guest_notify_end));
  guest.start_user();
  const int three = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  const int four = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  must(guest.vm().add_ioeventfd(kMmioGpa + 0x50, 3, three));
  must(guest.vm().add_ioeventfd(kMmioGpa + 0x50, 4, four));
  REQUIRE(guest.run() == Vcpu::Exit::kMmio);  // the 5 that nobody waits for
  CHECK(guest.vcpu().run_page()->mmio.data[0] == 5);
  CHECK(signalled(three));
  CHECK(signalled(four));
  CHECK_FALSE(signalled(three));
  const auto twice = guest.vm().add_ioeventfd(kMmioGpa + 0x50, 3, four);
  REQUIRE_FALSE(twice.ok());
  CHECK(std::string(twice.error().code) == "FT_ERR_KVM_EVENTFD");
  CHECK(twice.error().message.find("0xd0000050") != std::string::npos);
  CHECK_FALSE(guest.vm().add_ioeventfd(kMmioGpa, 3, -1).ok());
  CHECK_FALSE(guest.vm().add_irqfd(5, -1).ok());
  close(three);
  close(four);
}

// Interrupts through the old controller, line 4 as vector 0x44; one count each, then an exit.
GUEST_CODE(guest_irq, ".code16", R"(
    movb $0x11, %al
    outb %al, $0x20
    movb $0x40, %al
    outb %al, $0x21
    movb $0x04, %al
    outb %al, $0x21
    movb $0x01, %al
    outb %al, $0x21
    movb $0xef, %al
    outb %al, $0x21
1:  sti
    hlt
    cli
    outb %al, $0x66
    jmp 1b
)");
GUEST_CODE(guest_irq_handler, ".code16", R"(
    incl 0x6000
    movb $0x20, %al
    outb %al, $0x20
    iret
)");

KVM_TEST_CASE("an irqfd wakes a sleeping guest, once each time") {
  Guest guest;
  guest.load(kRealCode, guest_bytes(guest_irq, guest_irq_end));
  guest.load(0xa000, guest_bytes(guest_irq_handler, guest_irq_handler_end));
  guest.value<uint16_t>(0x44 * 4) = 0xa000;
  guest.start_real(kRealCode);
  kvm_mp_state state{};
  for (int i = 0; i < 1000 && state.mp_state != KVM_MP_STATE_HALTED; i++) {
    REQUIRE(guest.run_for(5000) == Vcpu::Exit::kInterrupted);
    REQUIRE(ioctl(guest.vcpu().fd(), KVM_GET_MP_STATE, &state) == 0);
  }
  REQUIRE(state.mp_state == KVM_MP_STATE_HALTED);
  const int line = eventfd(0, EFD_CLOEXEC);
  must(guest.vm().add_irqfd(4, line));
  for (uint32_t i = 1; i <= 20; i++) {
    REQUIRE(eventfd_write(line, 1) == 0);
    REQUIRE(guest.run() == Vcpu::Exit::kIo);
    CHECK(guest.value<uint32_t>(0x6000) == i);
  }
  close(line);
}

GUEST_CODE(guest_triple_fault, ".code64", "ud2");

KVM_TEST_CASE("a guest that has no handler for its fault shuts down") {
  Guest guest;
  guest.load(kCodeGpa, guest_bytes(guest_triple_fault, guest_triple_fault_end));
  guest.start_user();
  CHECK(guest.run() == Vcpu::Exit::kShutdown);
  CHECK(guest.vcpu().describe_exit() == "shutdown (triple fault)");
}

GUEST_CODE(guest_pvh, ".code32", R"(
    cmpl $0x7000, %ebx
    jne 1f
    movl %cr0, %eax
    testl $0x80000000, %eax
    jnz 1f
    movl $0x600d, 0x6000
1:  outb %al, $0x66
)");

KVM_TEST_CASE("PVH entry: 32 bits, flat, paging off, start info in EBX") {
  Guest guest;
  guest.load(0x100000, guest_bytes(guest_pvh, guest_pvh_end));
  must(guest.vcpu().set_pvh_entry(0x100000, 0x7000));
  CHECK(guest.vcpu().run_page()->s.regs.regs.rip == 0x100000);
  REQUIRE(guest.run() == Vcpu::Exit::kIo);
  CHECK(guest.value<uint32_t>(0x6000) == 0x600d);
}

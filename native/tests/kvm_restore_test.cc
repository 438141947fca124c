// A guest stopped in one VM goes on in another: what it counts, what wakes it, what is on its way
// to it, and its vector registers.
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_support.h"

using namespace ft;
using namespace ft::test;

namespace {

constexpr uint64_t kRealCode = 0x9000;
constexpr uint64_t kTicks = 0x20000;   // u32, counted by interrupt handlers
constexpr uint64_t kFlag = 0x20010;    // u32, set by the test
constexpr uint64_t kReady = 0x20014;   // u32, set by the guest once it is where it waits
constexpr uint64_t kHandler = 0xa000;  // real-mode interrupt handler

// EAX and memory count together; a difference between the two says that one of them was lost.
GUEST_CODE(guest_counter, ".code16", R"(
1:  cmpl %eax, 0x6000
    jne 2f
    incl %eax
    movl %eax, 0x6000
    jmp 1b
2:  outb %al, $0x66
)");

void set_vector(Guest& guest, uint8_t vector, uint16_t handler) {
  guest.value<uint16_t>(vector * 4u) = handler;
  guest.value<uint16_t>(vector * 4u + 2) = 0;
}

/// Moves the guest of `from`, which is stopped, into `to`.
void move_guest(Guest& from, Guest& to) {
  const auto blob = from.capture();
  to.copy_memory_from(from);
  must(to.restore(blob));
}

/// Runs until ten more ticks were counted; false when they do not come for ten seconds, far beyond
/// what a loaded machine needs for ten ticks of a millisecond at most.
bool keeps_ticking(Guest& guest) {
  const uint32_t enough = guest.value<uint32_t>(kTicks) + 10;
  for (int i = 0; i < 500 && guest.value<uint32_t>(kTicks) < enough; i++) {
    REQUIRE(guest.run_for(20'000) == Vcpu::Exit::kInterrupted);
  }
  return guest.value<uint32_t>(kTicks) >= enough;
}

/// Runs until the guest is where it waits for the flag.
void run_until_ready(Guest& guest) {
  for (int i = 0; i < 1000 && guest.value<uint32_t>(kReady) == 0; i++) guest.run_for(5000);
  REQUIRE(guest.value<uint32_t>(kReady) == 1);
}

/// Runs until `ticks` were counted, then a little longer, so that one too many is seen.
void run_until_ticks(Guest& guest, uint32_t ticks) {
  for (int i = 0; i < 500 && guest.value<uint32_t>(kTicks) < ticks; i++) guest.run_for(10'000);
  guest.run_for(10'000);
}

}  // namespace

KVM_TEST_CASE("a counter goes on where it was, through ten moves") {
  std::vector<Guest> guests;
  guests.reserve(11);
  guests.emplace_back();
  guests[0].load(kRealCode, guest_bytes(guest_counter, guest_counter_end));
  guests[0].start_real(kRealCode);
  uint32_t last = 0;
  for (int move = 0; move < 10; move++) {
    Guest& guest = guests.back();
    // The first entries into a new VM may take longer than the alarm.
    for (int i = 0; i < 100 && guest.value<uint32_t>(0x6000) == last; i++) {
      REQUIRE(guest.run_for(2000) == Vcpu::Exit::kInterrupted);
    }
    const auto counted = guest.value<uint32_t>(0x6000);
    CHECK(counted > last);
    last = counted;
    guests.emplace_back();
    move_guest(guest, guests.back());
    CHECK(guests.back().regs().rip == guest.regs().rip);
  }
}

// Local APIC timer, periodic, about every 200 µs; sleeps in between.
GUEST_CODE(guest_lapic_ticker, ".code16", R"(
    movl $0xfee00000, %ebx
    movl $0x1ff, %fs:0xf0(%ebx)
    movl $0x3, %fs:0x3e0(%ebx)
    movl $0x20040, %fs:0x320(%ebx)
    movl $12500, %fs:0x380(%ebx)
1:  sti
    hlt
    jmp 1b
)");
GUEST_CODE(guest_lapic_handler, ".code16", R"(
    push %ds
    movw $0x2000, %ax
    movw %ax, %ds
    incl 0x0
    movl $0xfee00000, %ebx
    movl $0, %fs:0xb0(%ebx)
    pop %ds
    iret
)");

KVM_TEST_CASE("a periodic LAPIC timer keeps ticking") {
  Guest a;
  a.load(kRealCode, guest_bytes(guest_lapic_ticker, guest_lapic_ticker_end));
  a.load(kHandler, guest_bytes(guest_lapic_handler, guest_lapic_handler_end));
  set_vector(a, 0x40, kHandler);
  a.start_real(kRealCode);
  CHECK(keeps_ticking(a));
  for (int i = 0; i < 5; i++) {
    Guest b;
    move_guest(a, b);
    CHECK(keeps_ticking(b));
  }
}

// One-shot: each handler run arms the next, so that one lost interrupt ends it for ever.
GUEST_CODE(guest_oneshot, ".code16", R"(
    movl $0xfee00000, %ebx
    movl $0x1ff, %fs:0xf0(%ebx)
    movl $0x3, %fs:0x3e0(%ebx)
    movl $0x40, %fs:0x320(%ebx)
    movl $12500, %fs:0x380(%ebx)
1:  sti
    incl %ecx
    jmp 1b
)");
GUEST_CODE(guest_oneshot_handler, ".code16", R"(
    push %ds
    movw $0x2000, %ax
    movw %ax, %ds
    incl 0x0
    movl $0xfee00000, %ebx
    movl $12500, %fs:0x380(%ebx)
    movl $0, %fs:0xb0(%ebx)
    pop %ds
    iret
)");

KVM_TEST_CASE("a one-shot LAPIC timer that arms itself survives thirty moves at odd moments") {
  std::vector<Guest> guests;
  guests.reserve(31);
  guests.emplace_back();
  guests[0].load(kRealCode, guest_bytes(guest_oneshot, guest_oneshot_end));
  guests[0].load(kHandler, guest_bytes(guest_oneshot_handler, guest_oneshot_handler_end));
  set_vector(guests[0], 0x40, kHandler);
  guests[0].start_real(kRealCode);
  for (int i = 0; i < 30; i++) {
    guests.back().run_for(300 + i * 67);
    Guest& from = guests.back();
    guests.emplace_back();
    move_guest(from, guests.back());
  }
  CHECK(keeps_ticking(guests.back()));
}

// The deadline timer: EDX:EAX = TSC + 500,000, about 200 µs ahead, armed anew by the handler.
GUEST_CODE(guest_deadline, ".code16", R"(
    movl $0xfee00000, %ebx
    movl $0x1ff, %fs:0xf0(%ebx)
    movl $0x40040, %fs:0x320(%ebx)
    rdtsc
    addl $500000, %eax
    adcl $0, %edx
    movl $0x6e0, %ecx
    wrmsr
1:  sti
    hlt
    jmp 1b
)");
GUEST_CODE(guest_deadline_handler, ".code16", R"(
    push %ds
    movw $0x2000, %ax
    movw %ax, %ds
    incl 0x0
    rdtsc
    addl $500000, %eax
    adcl $0, %edx
    movl $0x6e0, %ecx
    wrmsr
    movl $0xfee00000, %ebx
    movl $0, %fs:0xb0(%ebx)
    pop %ds
    iret
)");

KVM_TEST_CASE("a TSC deadline timer keeps firing") {
  GuestOptions options;
  options.tsc_deadline = true;
  Guest a(options);
  a.load(kRealCode, guest_bytes(guest_deadline, guest_deadline_end));
  a.load(kHandler, guest_bytes(guest_deadline_handler, guest_deadline_handler_end));
  set_vector(a, 0x40, kHandler);
  a.start_real(kRealCode);
  CHECK(keeps_ticking(a));
  for (int i = 0; i < 5; i++) {
    Guest b(options);
    move_guest(a, b);
    CHECK(keeps_ticking(b));
  }
}

// Arms the deadline 100 ms ahead, exits, and then sleeps until it has passed.
GUEST_CODE(guest_far_deadline, ".code16", R"(
    movl $0xfee00000, %ebx
    movl $0x1ff, %fs:0xf0(%ebx)
    movl $0x40040, %fs:0x320(%ebx)
    rdtsc
    addl $260000000, %eax
    adcl $0, %edx
    movl $0x6e0, %ecx
    wrmsr
    outb %al, $0x66
1:  sti
    hlt
    jmp 1b
)");

KVM_TEST_CASE("a deadline that lies ahead at the capture is kept") {
  GuestOptions options;
  options.tsc_deadline = true;
  Guest a(options), b(options);
  a.load(kRealCode, guest_bytes(guest_far_deadline, guest_far_deadline_end));
  a.load(kHandler, guest_bytes(guest_lapic_handler, guest_lapic_handler_end));
  set_vector(a, 0x40, kHandler);
  a.start_real(kRealCode);
  REQUIRE(a.run() == Vcpu::Exit::kIo);
  REQUIRE(must(a.vcpu().complete_pending_io()) == Vcpu::Exit::kInterrupted);
  move_guest(a, b);
  CHECK(b.value<uint32_t>(kTicks) == 0);
  run_until_ticks(b, 1);
  CHECK(b.value<uint32_t>(kTicks) == 1);
}

// Timer chip, channel 0, rate generator at about 1,193 Hz, through the old interrupt controller.
GUEST_CODE(guest_pit, ".code16", R"(
    movb $0x11, %al
    outb %al, $0x20
    movb $0x40, %al
    outb %al, $0x21
    movb $0x04, %al
    outb %al, $0x21
    movb $0x01, %al
    outb %al, $0x21
    movb $0xfe, %al
    outb %al, $0x21
    movb $0x34, %al
    outb %al, $0x43
    movb $0xe8, %al
    outb %al, $0x40
    movb $0x03, %al
    outb %al, $0x40
1:  sti
    hlt
    jmp 1b
)");
GUEST_CODE(guest_pit_handler, ".code16", R"(
    push %ds
    movw $0x2000, %ax
    movw %ax, %ds
    incl 0x0
    movb $0x20, %al
    outb %al, $0x20
    pop %ds
    iret
)");

KVM_TEST_CASE("the timer chip keeps ticking through the old interrupt controller") {
  Guest a;
  a.load(kRealCode, guest_bytes(guest_pit, guest_pit_end));
  a.load(kHandler, guest_bytes(guest_pit_handler, guest_pit_handler_end));
  set_vector(a, 0x40, kHandler);
  a.start_real(kRealCode);
  CHECK(keeps_ticking(a));
  Guest b;
  move_guest(a, b);
  CHECK(keeps_ticking(b));
}

// IOAPIC line 5, edge, vector 0x45, the old controller masked (it gets the line as well). Waits
// with interrupts off until the flag is set.
GUEST_CODE(guest_line, ".code16", R"(
    movb $0xff, %al
    outb %al, $0x21
    outb %al, $0xa1
    movl $0xfee00000, %ebx
    movl $0x1ff, %fs:0xf0(%ebx)
    movl $0xfec00000, %edi
    movl $0x1a, %fs:(%edi)
    movl $0x45, %fs:0x10(%edi)
    movl $0x1b, %fs:(%edi)
    movl $0, %fs:0x10(%edi)
    movw $0x2000, %ax
    movw %ax, %ds
    movl $1, 0x14
1:  cmpl $0, 0x10
    je 1b
2:  sti
    hlt
    jmp 2b
)");

KVM_TEST_CASE("an interrupt that is pending at the capture arrives once") {
  Guest a;
  a.load(kRealCode, guest_bytes(guest_line, guest_line_end));
  a.load(kHandler, guest_bytes(guest_lapic_handler, guest_lapic_handler_end));
  set_vector(a, 0x45, kHandler);
  a.start_real(kRealCode);
  run_until_ready(a);
  const int line = eventfd(0, EFD_CLOEXEC);
  must(a.vm().add_irqfd(5, line));
  REQUIRE(eventfd_write(line, 1) == 0);
  a.run_for(5000);
  CHECK(a.value<uint32_t>(kTicks) == 0);  // interrupts are off

  Guest b;
  move_guest(a, b);
  b.run_for(5000);
  CHECK(b.value<uint32_t>(kTicks) == 0);
  b.value<uint32_t>(kFlag) = 1;
  run_until_ticks(b, 1);
  CHECK(b.value<uint32_t>(kTicks) == 1);
  // The line still works in the new VM, by a descriptor of its own.
  const int other = eventfd(0, EFD_CLOEXEC);
  must(b.vm().add_irqfd(5, other));
  REQUIRE(eventfd_write(other, 1) == 0);
  run_until_ticks(b, 2);
  CHECK(b.value<uint32_t>(kTicks) == 2);
  close(line);
  close(other);
}

// Fills all sixteen vector registers and the x87 stack's control word, waits, writes them out.
GUEST_CODE(guest_vectors, ".code64", R"(
    movl $0x30000, %esi
    movl $0x38000, %edi
    vmovdqu 0(%rsi), %ymm0
    vmovdqu 32(%rsi), %ymm1
    vmovdqu 64(%rsi), %ymm2
    vmovdqu 224(%rsi), %ymm7
    vmovdqu 256(%rsi), %ymm8
    vmovdqu 480(%rsi), %ymm15
    fldpi
    movl $0x1f80, (%rsp)
    orl $0x6000, (%rsp)
    ldmxcsr (%rsp)
    movl $1, 0x20014
1:  cmpl $0, 0x20010
    je 1b
    vmovdqu %ymm0, 0(%rdi)
    vmovdqu %ymm1, 32(%rdi)
    vmovdqu %ymm2, 64(%rdi)
    vmovdqu %ymm7, 224(%rdi)
    vmovdqu %ymm8, 256(%rdi)
    vmovdqu %ymm15, 480(%rdi)
    fstpl 512(%rdi)
    stmxcsr 520(%rdi)
    movl $0xd0000000, %edx
    movl %eax, (%rdx)
)");

KVM_TEST_CASE("vector registers, x87 stack and MXCSR arrive intact") {
  if (!__builtin_cpu_supports("avx")) return;
  Guest a;
  a.load(kCodeGpa, guest_bytes(guest_vectors, guest_vectors_end));
  for (uint32_t i = 0; i < 512; i++)
    a.value<uint8_t>(0x30000 + i) = static_cast<uint8_t>(i * 7 + 1);
  a.start_user(0x3f000);
  run_until_ready(a);

  Guest b;
  move_guest(a, b);
  std::memset(b.at(0x30000), 0, 512);  // the registers are the only place left
  b.value<uint32_t>(kFlag) = 1;
  REQUIRE(b.run() == Vcpu::Exit::kMmio);
  for (uint32_t reg : {0u, 1u, 2u, 7u, 8u, 15u}) {
    CAPTURE(reg);
    CHECK(std::memcmp(b.at(0x38000 + reg * 32), a.at(0x30000 + reg * 32), 32) == 0);
  }
  CHECK(b.value<double>(0x38000 + 512) == doctest::Approx(3.14159265358979));
  CHECK(b.value<uint32_t>(0x38000 + 520) == 0x7f80);
}

// kvmclock: the guest's page, written by KVM, after the MSR was set by the guest.
GUEST_CODE(guest_clock, ".code16", R"(
    movl $0x4b564d01, %ecx
    movl $0x30001, %eax
    xorl %edx, %edx
    wrmsr
1:  incl %eax
    jmp 1b
)");

KVM_TEST_CASE("guest time goes on from the captured value and never back") {
  Guest a;
  a.load(kRealCode, guest_bytes(guest_clock, guest_clock_end));
  a.start_real(kRealCode);
  for (int i = 0; i < 1000 && a.value<uint64_t>(0x30010) == 0; i++) a.run_for(5000);
  REQUIRE(a.value<uint64_t>(0x30010) != 0);  // system_time of the guest's page
  // An hour has passed for the guest, more than the next VM is old.
  kvm_clock_data hour{};
  hour.clock = 3600'000'000'000;
  must(a.vm().set_clock(hour));
  REQUIRE(a.run_for(20'000) == Vcpu::Exit::kInterrupted);
  Guest b;
  const auto blob = a.capture();
  kvm_clock_data captured{};
  must(read_state_struct(must(StateReader::open(blob)), StateKind::kClock, 0, &captured));
  CHECK(captured.clock > hour.clock);
  CHECK(captured.flags == 0);
  CHECK(captured.host_tsc == 0);
  usleep(300'000);
  b.copy_memory_from(a);
  must(b.restore(blob));
  kvm_clock_data after{};
  must(b.vm().get_clock(&after));
  CHECK(after.clock >= captured.clock);
  CHECK(after.clock < captured.clock + 200'000'000);  // the 300 ms since did not pass for the guest
  b.run_for(20'000);
  CHECK(b.value<uint64_t>(0x30010) >= captured.clock);
}

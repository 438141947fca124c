// The guest of machine_rig.h, and how it is started.
#include "machine_rig.h"

#include <sys/ioctl.h>

using namespace ft;
using namespace ft::test;

namespace {

constexpr uint64_t kFirst = 0x9000, kOthers = 0xb000, kCount = 0xc000, kBack = 0xd000;
constexpr uint64_t kOtherCount = 0x7004;

GUEST_CODE(smp_first, ".code16", R"(
    movl $0x1b, %ecx
    rdmsr
    orl $0xc00, %eax
    wrmsr
    xorl %edx, %edx
    movl $0x80f, %ecx
    movl $0x1ff, %eax
    wrmsr
    movl $0x830, %ecx
    movl $0xc4500, %eax
    wrmsr
    movl $0xc460b, %eax
    wrmsr
1:  movl 0x7000, %eax
    cmpl 0x7004, %eax
    jne 1b
2:  movl 0x7004, %eax
    addl %eax, 0x7008
    movl $0x830, %ecx
    movl $0xc4040, %eax
    xorl %edx, %edx
    wrmsr
3:  cli
    movl 0x700c, %eax
    cmpl 0x7008, %eax
    je 4f
    sti
    hlt
    jmp 3b
4:  sti
    incl 0x7010
    movl 0x7010, %eax
    movl %eax, 0x1000
    outb %al, $0x66
    jmp 2b
)");
GUEST_CODE(smp_others, ".code16", R"(
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movl $0x100, %eax
    lock xaddl %eax, 0x7014
    movl $0x6000, %esp
    subl %eax, %esp
    movl $0x1b, %ecx
    rdmsr
    orl $0xc00, %eax
    wrmsr
    xorl %edx, %edx
    movl $0x80f, %ecx
    movl $0x1ff, %eax
    wrmsr
    lock incl 0x7000
1:  sti
    hlt
    outb %al, $0x67
    lock incl 0x2000
    jmp 1b
)");
GUEST_CODE(smp_count, ".code16", R"(
    pushl %eax
    pushl %ecx
    pushl %edx
    lock incl 0x700c
    xorl %eax, %eax
    xorl %edx, %edx
    movl $0x80b, %ecx
    wrmsr
    movl $0x830, %ecx
    movl $0x4041, %eax
    wrmsr
    popl %edx
    popl %ecx
    popl %eax
    iretw
)");
GUEST_CODE(smp_back, ".code16", R"(
    pushl %eax
    pushl %ecx
    pushl %edx
    xorl %eax, %eax
    xorl %edx, %edx
    movl $0x80b, %ecx
    wrmsr
    popl %edx
    popl %ecx
    popl %eax
    iretw
)");

void put(GuestMemory& memory, uint64_t gpa, const uint8_t* begin, const uint8_t* end) {
  REQUIRE(memory.write(gpa, guest_bytes(begin, end)));
}

}  // namespace

namespace ft::test {

void VcpuRig::boot() {
  put(memory, kFirst, smp_first, smp_first_end);
  put(memory, kOthers, smp_others, smp_others_end);
  put(memory, kCount, smp_count, smp_count_end);
  put(memory, kBack, smp_back, smp_back_end);
  REQUIRE(memory.write_value<uint32_t>(0x40 * 4, kCount));
  REQUIRE(memory.write_value<uint32_t>(0x41 * 4, kBack));
  REQUIRE(memory.write_value<uint32_t>(kOtherCount, static_cast<uint32_t>(vcpus.size() - 1)));
  kvm_sregs sregs{};
  REQUIRE(ioctl(vcpus[0].fd(), KVM_GET_SREGS, &sregs) == 0);
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  REQUIRE(ioctl(vcpus[0].fd(), KVM_SET_SREGS, &sregs) == 0);
  kvm_regs regs{};
  regs.rip = kFirst;
  regs.rsp = 0x8000;
  regs.rflags = 2;
  REQUIRE(ioctl(vcpus[0].fd(), KVM_SET_REGS, &regs) == 0);
  must(vcpus[0].refresh_synced_regs());
  threads->start();
}

}  // namespace ft::test

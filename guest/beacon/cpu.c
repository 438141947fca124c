/* Kernel mode (CPL0), general registers only: the few steps that CPL3 cannot take, and the
 * register line that ends a guest that went wrong. */
#include "cpu.h"

#include "console.h"
#include "layout.h"
#include "pvclock.h"

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01
#define KVM_FEATURE_CLOCKSOURCE2 (1u << 3)

HOT volatile u8 wake[2] __attribute__((aligned(8)));
HOT u64 boot_tsc;

/* What fault_common pushed, lowest address first, then what the CPU pushed. */
struct FaultFrame {
  u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  u64 vector, code;
  u64 rip, cs, rflags, rsp, ss;
};

void fault_report(const struct FaultFrame* frame) __attribute__((noreturn));

static void cpuid(u32 leaf, u32* eax, u32* ebx, u32* ecx, u32* edx) {
  __asm__ volatile("cpuid" : "=a"(*eax), "=b"(*ebx), "=c"(*ecx), "=d"(*edx) : "a"(leaf), "c"(0));
}

static void write_msr(u32 msr, u64 value) {
  __asm__ volatile("wrmsr" ::"c"(msr), "a"((u32)value), "d"((u32)(value >> 32)) : "memory");
}

/* What cpu_end() leaves in rax for its invalid opcode. */
#define END_MAGIC 0x646e656e6f636165ull
#define VECTOR_INVALID_OPCODE 6

static void __attribute__((noreturn)) halt_for_ever(void) {
  for (;;) __asm__ volatile("cli; hlt" ::: "memory");
}

void kernel_init(void) {
  boot_tsc = read_tsc();
  out_byte(0x21, 0xff);
  out_byte(0xa1, 0xff);

  u32 eax, ebx, ecx, edx;
  cpuid(0x40000000, &eax, &ebx, &ecx, &edx);
  bool kvm = ebx == 0x4b4d564b && ecx == 0x564b4d56 && edx == 0x4d; /* "KVMKVMKVM" */
  if (kvm) cpuid(0x40000001, &eax, &ebx, &ecx, &edx);
  if (!kvm || (eax & KVM_FEATURE_CLOCKSOURCE2) == 0) {
    console_print(
        "beacon: no kvmclock on this machine, and there is no other clock here; run it under "
        "KVM\n");
    halt_for_ever();
  }
  write_msr(MSR_KVM_SYSTEM_TIME_NEW, (u64)&pvclock_page | 1);
}

/* CPL0, since CPL3 may not do any of this. */
static void end_machine(u64 how) {
  if (how == kEndPowerOff) __asm__ volatile("outw %0, %1" ::"a"((u16)0x2000), "Nd"((u16)0x604));
  if (how == kEndKeyboardReset) out_byte(0x64, 0xfe);
  if (how == kEndPortReset) out_byte(0xcf9, 0x06);
  if (how == kEndTripleFault) {
    /* Without an interrupt table the next fault finds no handler, nor does the fault of that. The
     * address is one that no memory can have. */
    volatile u8* nowhere = (volatile u8*)(1ull << 62);
    static const struct PACKED {
      u16 limit;
      u64 base;
    } no_table = {0, 0};
    __asm__ volatile("lidt %0" ::"m"(no_table));
    *nowhere = 0;
  }
}

void fault_report(const struct FaultFrame* frame) {
  if (frame->vector == VECTOR_INVALID_OPCODE && frame->rax == END_MAGIC) {
    end_machine(frame->rdi);
    halt_for_ever();
  }
  u64 cr2;
  __asm__ volatile("movq %%cr2, %0" : "=r"(cr2));
  const struct {
    const char* name;
    u64 value;
  } fields[] = {
      {"exception ", frame->vector},
      {" code ", frame->code},
      {" rip ", frame->rip},
      {" cs ", frame->cs},
      {" rflags ", frame->rflags},
      {" rsp ", frame->rsp},
      {" cr2 ", cr2},
      {" rax ", frame->rax},
      {" rbx ", frame->rbx},
      {" rcx ", frame->rcx},
      {" rdx ", frame->rdx},
      {" rsi ", frame->rsi},
      {" rdi ", frame->rdi},
      {" rbp ", frame->rbp},
      {" r8 ", frame->r8},
      {" r9 ", frame->r9},
      {" r10 ", frame->r10},
      {" r11 ", frame->r11},
      {" r12 ", frame->r12},
      {" r13 ", frame->r13},
      {" r14 ", frame->r14},
      {" r15 ", frame->r15},
  };
  console_print("beacon: stopped by a fault: ");
  for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
    console_print(fields[i].name);
    console_hex(fields[i].value, 1);
  }
  console_print("\n");
  halt_for_ever();
}

void cpu_end(enum CpuEnd how) {
  __asm__ volatile("ud2" ::"a"(END_MAGIC), "D"((u64)how) : "memory");
  cpu_stop();
}

void cpu_stop(void) {
  for (;;) {
    wake[WAKE_DEVICE] = 0;
    wake[WAKE_TIMER] = 0;
    cpu_sleep();
  }
}

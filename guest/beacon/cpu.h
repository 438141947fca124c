/* What needs kernel mode: the clock page, the old interrupt controller, the end after a fault. */
#pragma once

#include "types.h"

/* Set by the interrupt handlers (layout.h says which byte), cleared at CPL3. */
extern volatile u8 wake[2];
/* TSC when kernel_init() began. */
extern u64 boot_tsc;

/* CPL0, once: gives kvmclock its page, masks the PIC. Stops with a message without kvmclock. */
void kernel_init(void);

/* CPL3: halts until an interrupt has set a wake flag; returns at once if one is set already. */
static inline void cpu_sleep(void) {
  __asm__ volatile("int3" ::: "memory");
}
/* How a guest can end itself; the numbers are those of the request. */
enum CpuEnd { kEndPowerOff = 0, kEndKeyboardReset = 1, kEndPortReset = 2, kEndTripleFault = 3 };
/* CPL3: switches the machine off or resets it. Where the machine takes no notice, as cpu_stop(). */
void cpu_end(enum CpuEnd how) __attribute__((noreturn));
/* CPL3: ends the guest, after a message was printed. The vCPU halts and stays halted. */
void cpu_stop(void) __attribute__((noreturn));

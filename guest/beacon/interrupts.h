/* The local APIC (with its one-shot timer) and the I/O APIC, driven from CPL3 through MMIO. */
#pragma once

#include "types.h"

/* Enables the LAPIC and masks its pins. */
void interrupts_init(void);
/* Routes I/O APIC pin `irq` (edge, fixed) to this CPU. */
void interrupts_route(u32 irq);
/* One timer interrupt after `ns` (at most 4 s); replaces one that is still to come. */
void timer_arm_ns(u32 ns);

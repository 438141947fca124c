/* Numbers shared by the assembler, the linker script and C: addresses of the static tables,
 * selectors and vectors. */
#pragma once

#define DESCRIPTORS 0x106000
#define TSS (DESCRIPTORS + 0x500)
#define TRAPS 0x107000
#define TRAP_BYTES 64

#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_DATA 0x1b
#define USER_CODE 0x23
#define TSS_SELECTOR 0x28

/* Vectors 0 to 31 are exceptions; every one but VECTOR_SLEEP ends the guest. */
#define VECTOR_SLEEP 3 /* int3 from CPL3: halt until something wakes us */
#define VECTOR_DEVICE 0x20
#define VECTOR_TIMER 0x21
#define VECTOR_SPURIOUS 0x2f
#define VECTORS 0x30

/* Wake flags: the bytes of `wake`, set by the handlers, cleared at CPL3. */
#define WAKE_DEVICE 0
#define WAKE_TIMER 1

#define LAPIC_EOI 0xfee000b0

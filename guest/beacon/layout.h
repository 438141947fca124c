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
#define CODE_32 0x38         /* CPL0, for a processor on its way up */
#define AP_TSS_SELECTOR 0x40 /* of the first one besides the boot processor; 16 bytes each */
#define APS_MAX 7

/* Vectors 0 to 31 are exceptions; every one but VECTOR_SLEEP ends the guest. */
#define VECTOR_SLEEP 3 /* int3 from CPL3: halt until something wakes us */
#define VECTOR_DEVICE 0x20
#define VECTOR_TIMER 0x21
#define VECTOR_WAKE 0x22 /* from one processor to another: look at your orders */
#define VECTOR_SPURIOUS 0x2f
#define VECTORS 0x30

/* Wake flags: the bytes of `wake`, set by the handlers, cleared at CPL3. */
#define WAKE_DEVICE 0
#define WAKE_TIMER 1

#define LAPIC_EOI 0xfee000b0

/* Where a processor besides the boot processor begins, in real mode; and its page: state, user
 * stack, TSS, kernel stack. */
#define TRAMPOLINE 0x8000
#define AP_WAKE 0
#define AP_TSS_SELECTOR_AT 4
#define AP_USER_STACK_TOP 0xa00
#define AP_TSS_AT 0xa00
#define AP_TSS_BYTES 104
#define AP_KERNEL_STACK_TOP 0x1000

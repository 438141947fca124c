/* How a processor besides the boot processor comes up, and its traps.
 *
 *   start-up signal ─▶ real mode at TRAMPOLINE (a copy of ap_trampoline) ─▶ 32-bit ap_entry
 *     ─▶ paging and long mode, CPL0 ─▶ ap_main() at CPL3, for good
 *
 * Each has one page for all that is its own (layout.h): the traps find it through their stack
 * pointer, which lies in it. Only one comes up at a time; `ap_starting` is its page.
 */
#include "layout.h"

        .section .rodata
        .code16
        .globl  ap_trampoline, ap_trampoline_end
ap_trampoline:
        cli
        cld
        movw    %cs, %ax
        movw    %ax, %ds
        lgdtl   ap_gdt - ap_trampoline
        movl    %cr0, %eax
        orl     $1, %eax
        movl    %eax, %cr0
        ljmpl   $CODE_32, $ap_entry
        .align  4
ap_gdt:
        .word   gdt_limit
        .long   DESCRIPTORS + 0x400
ap_trampoline_end:

        .text
        .code32
ap_entry:
        movl    $KERNEL_DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movl    $page_map, %eax
        movl    %eax, %cr3
        movl    %cr4, %eax
        orl     $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax            /* EFER.LME */
        wrmsr
        movl    %cr0, %eax
        andl    $~0x6000000c, %eax      /* caches on; no EM, no TS: CPL3 uses SSE */
        orl     $0x80010022, %eax       /* PG, WP, NE, MP */
        movl    %eax, %cr0
        ljmp    $KERNEL_CODE, $ap_long_mode

        .code64
ap_long_mode:
        movl    $KERNEL_DATA, %eax
        movl    %eax, %ss
        movl    $USER_DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        movq    ap_starting, %rbx
        leaq    AP_KERNEL_STACK_TOP(%rbx), %rsp
        lidt    ap_idt_pointer
        movl    AP_TSS_SELECTOR_AT(%rbx), %eax
        ltr     %ax
        pushq   $USER_DATA
        leaq    AP_USER_STACK_TOP - 8(%rbx), %rax
        pushq   %rax
        pushq   $0x202                  /* interrupts on */
        pushq   $USER_CODE
        pushq   $ap_user_entry
        movq    %rbx, %rdi
        iretq

ap_user_entry:
        fninit
        xorl    %ebp, %ebp
        jmp     ap_main

/* As in traps.S, with the wake flag in the processor's own page. */
        .globl  ap_trap_sleep, ap_trap_interrupt
ap_trap_sleep:
        pushq   %rax
        movq    %rsp, %rax
        andq    $-4096, %rax
        cmpb    $0, AP_WAKE(%rax)
        popq    %rax
        jne     1f
        sti
ap_sleep_halt:
        hlt
ap_sleep_woken:
        cli
1:      iretq

ap_trap_interrupt:
        pushq   %rax
        movq    %rsp, %rax
        andq    $-4096, %rax
        movb    $1, AP_WAKE(%rax)
        movl    $LAPIC_EOI, %eax
        movl    $0, (%rax)
        popq    %rax
        cmpq    $ap_sleep_halt, (%rsp)
        je      ap_step_over_halt
        iretq
ap_step_over_halt:
        movq    $ap_sleep_woken, (%rsp)
        iretq

        .section .data
        .align  8
        .word   0, 0, 0
ap_idt_pointer:
        .word   VECTORS * 16 - 1
        .quad   ap_idt

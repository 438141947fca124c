/* The trap stubs: vector n begins at TRAPS + 64 n, where the static IDT expects it.
 *
 * Interrupts only set a wake flag and end themselves; all work happens at CPL3. Sleeping is int3:
 *
 *   CPL3: look at the rings, nothing there ──int3──▶ CPL0, interrupts off
 *                                                    a wake flag is set? ──yes──▶ back at once
 *                                                    sti; hlt  (woken by an interrupt)
 *                                                    cli; iretq
 *
 * Between sti and hlt no interrupt can come, on a machine that keeps the interrupt shadow. Should
 * it be lost there (the guest can be stopped, saved and restored between any two instructions),
 * the interrupt handler finds itself called at the hlt and steps over it: no wake-up is ever lost.
 */
#include "layout.h"

        .section .traps, "ax", @progbits

        .macro  fault vector, has_code
        .org    \vector * TRAP_BYTES
        .if     \has_code == 0
        pushq   $0
        .endif
        pushq   $\vector
        jmp     fault_common
        .endm

        .macro  interrupt vector, flag
        .org    \vector * TRAP_BYTES
        movb    $1, wake + \flag
        pushq   %rax
        movl    $LAPIC_EOI, %eax
        movl    $0, (%rax)
        popq    %rax
        cmpq    $sleep_halt, (%rsp)
        je      step_over_halt
        iretq
        .endm

        .set    vector, 0
        .rept   VECTORS
        .if     vector == VECTOR_SLEEP
        .org    VECTOR_SLEEP * TRAP_BYTES
        cmpw    $0, wake
        jne     1f
        sti
sleep_halt:
        hlt
sleep_woken:
        cli
1:      iretq
        .elseif vector == VECTOR_DEVICE
        interrupt VECTOR_DEVICE, WAKE_DEVICE
        .elseif vector == VECTOR_TIMER
        interrupt VECTOR_TIMER, WAKE_TIMER
        .elseif vector == VECTOR_SPURIOUS
        .org    VECTOR_SPURIOUS * TRAP_BYTES
        iretq
        .elseif vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
        fault   vector, 1
        .else
        fault   vector, 0
        .endif
        .set    vector, vector + 1
        .endr

step_over_halt:
        movq    $sleep_woken, (%rsp)
        iretq

/* Saves the registers in the order of struct FaultFrame (cpu.c) and reports. Never returns. */
fault_common:
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rbx
        pushq   %rbp
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, %rdi
        andq    $-16, %rsp
        call    fault_report

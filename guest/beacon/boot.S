/* Entry and the static machine tables.
 *
 * PVH hands over in 32-bit protected mode without paging, EBX = start_info. From here: paging and
 * long mode, kernel_init() at CPL0, then IRETQ into user_main() at CPL3, for good. Every table is
 * laid down by the assembler, because kernel mode may be emulated and slow: there is next to
 * nothing left to do for it.
 *
 *   selector  0x08 code CPL0   0x10 data CPL0   0x18 data CPL3   0x20 code CPL3   0x28 TSS
 *             0x38 code CPL0, 32 bit   0x40 … TSS of the other processors (smp_boot.S)
 */
#include "layout.h"

        .section .note.Xen, "a", @note
        .align  4
        .long   4, 8, 18                /* name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .quad   pvh_entry

/* ---- identity map of the first 4 GiB in 2 MiB pages, user accessible, A and D already set so
 *      that the CPU need not write here; the fourth GiB (devices) uncached ---- */
        .section .paging, "aw", @progbits
        .align  4096
        .globl  page_map
page_map:
        .quad   page_directory_pointers + 0x27
        .fill   511, 8, 0
page_directory_pointers:
        .quad   page_directories + 0x0000 + 0x27
        .quad   page_directories + 0x1000 + 0x27
        .quad   page_directories + 0x2000 + 0x27
        .quad   page_directories + 0x3000 + 0x27
        .fill   508, 8, 0
page_directories:
        .set    page, 0
        .rept   1536
        .quad   page * 0x200000 + 0xe7
        .set    page, page + 1
        .endr
        .rept   512
        .quad   page * 0x200000 + 0xff
        .set    page, page + 1
        .endr

/* ---- IDT at +0, GDT at +0x400, TSS at +0x500 of the page at DESCRIPTORS ---- */
        .macro  gate vector, dpl, ist
        .word   (TRAPS + \vector * TRAP_BYTES) & 0xffff
        .word   KERNEL_CODE
        .byte   \ist, 0x8e | (\dpl << 5)
        .word   TRAPS >> 16
        .long   0, 0
        .endm

        .section .descriptors, "aw", @progbits
descriptors:
        .set    vector, 0
        .rept   VECTORS
        .if     vector == VECTOR_SLEEP
        gate    vector, 3, 0
        .elseif vector >= VECTOR_DEVICE
        gate    vector, 0, 0
        .else
        gate    vector, 0, 1
        .endif
        .set    vector, vector + 1
        .endr

        .org    0x400
        .quad   0
        .quad   0x00af9b000000ffff      /* code CPL0, 64 bit */
        .quad   0x00cf93000000ffff      /* data CPL0 */
        .quad   0x00cff3000000ffff      /* data CPL3 */
        .quad   0x00affb000000ffff      /* code CPL3, 64 bit */
        .word   TSS_BYTES - 1, TSS & 0xffff
        .byte   (TSS >> 16) & 0xff, 0x89, 0, (TSS >> 24) & 0xff
        .quad   0
        .quad   0x00cf9b000000ffff      /* code CPL0, 32 bit */
        .fill   2 * APS_MAX, 8, 0       /* a TSS for each processor besides this one, see smp.c */
        .set    GDT_BYTES, . - descriptors - 0x400

        .org    0x500
        .long   0
        .quad   kernel_stack_top        /* rsp0 */
        .quad   0, 0, 0
        .quad   fault_stack_top         /* ist1: exceptions that end it all */
        .quad   0, 0, 0, 0, 0, 0, 0
        .word   0, 104                  /* the I/O bitmap follows at once */
        .fill   0x3f8 / 8, 1, 0xff      /* set: denied */
        .byte   0                       /* ports 0x3f8 to 0x3ff, the serial port: allowed */
        .byte   0xff
        .set    TSS_BYTES, . - descriptors - 0x500

        .globl  gdt_limit
        .set    gdt_limit, GDT_BYTES - 1

        .align  8
        .globl  gdt_pointer
gdt_pointer:
        .word   GDT_BYTES - 1
        .quad   DESCRIPTORS + 0x400
        .align  8
idt_pointer:
        .word   VECTORS * 16 - 1
        .quad   DESCRIPTORS

/* ---- stacks; the user stack is placed by the linker script ---- */
        .section .bss.hot, "aw", @nobits
        .align  64
        .skip   256
kernel_stack_top:

        .bss
        .align  64
        .skip   4096
        .globl  fault_stack_top
fault_stack_top:

/* ---- entry ---- */
        .text
        .code32
        .globl  pvh_entry
pvh_entry:
        cli
        cld
        movl    $page_map, %eax
        movl    %eax, %cr3
        movl    %cr4, %eax
        orl     $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx
        rdmsr
        orl     $0x100, %eax            /* EFER.LME */
        wrmsr
        lgdt    gdt_pointer
        movl    %cr0, %eax
        andl    $~0xc, %eax             /* no EM, no TS: CPL3 uses SSE */
        orl     $0x80010022, %eax       /* PG, WP, NE, MP */
        movl    %eax, %cr0
        ljmp    $KERNEL_CODE, $long_mode

        .code64
        .globl  long_mode
long_mode:
        movl    $KERNEL_DATA, %eax
        movl    %eax, %ss
        movl    $USER_DATA, %eax
        movl    %eax, %ds
        movl    %eax, %es
        xorl    %eax, %eax
        movl    %eax, %fs
        movl    %eax, %gs
        movl    $user_stack_top, %esp
        lidt    idt_pointer
        movl    $TSS_SELECTOR, %eax
        ltr     %ax
        movl    %ebx, %ebx              /* start_info: 32 bits, the upper half is not defined */
        call    kernel_init

        pushq   $USER_DATA
        pushq   $user_stack_top - 8     /* as after a call: 8 below a 16-byte boundary */
        pushq   $0x202                  /* interrupts on; every source is masked as yet */
        pushq   $USER_CODE
        pushq   $user_entry
        movq    %rbx, %rdi
        iretq

user_entry:
        fninit                          /* CPL3: native, so x87 instructions are there */
        xorl    %ebp, %ebp
        jmp     user_main

/* PVH entry of the hostile guest: 32-bit protected mode, EBX = start_info. Turns on long mode with
 * the first 4 GiB mapped one to one, and calls hostile_main() at CPL0, interrupts off, no IDT: any
 * exception ends the machine with a triple fault, which the test takes for a failure.
 */
        .section .note.Xen, "a", @note
        .align  4
        .long   4, 8, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .quad   entry

        .section .paging, "aw", @progbits
        .align  4096
level4:
        .quad   level3 + 3
        .fill   511, 8, 0
level3:
        .set    n, 0
        .rept   4
        .quad   level2 + n * 4096 + 3
        .set    n, n + 1
        .endr
        .fill   508, 8, 0
level2:
        .set    n, 0
        .rept   2048
        .quad   n * 0x200000 + 0xe3     /* present, writable, accessed, dirty, 2 MiB */
        .set    n, n + 1
        .endr

        .section .rodata
        .align  16
gdt:
        .quad   0
        .quad   0x00af9b000000ffff      /* 0x08 code, 64 bit */
        .quad   0x00cf93000000ffff      /* 0x10 data */
gdt_pointer:
        .word   . - gdt - 1
        .long   gdt

        .text
        .code32
        .globl  entry
entry:
        cli
        lgdt    gdt_pointer
        movl    $level4, %eax
        movl    %eax, %cr3
        movl    %cr4, %eax
        orl     $0x20, %eax             /* PAE */
        movl    %eax, %cr4
        movl    $0xc0000080, %ecx       /* EFER */
        rdmsr
        orl     $0x100, %eax            /* LME */
        wrmsr
        movl    %cr0, %eax
        orl     $0x80000001, %eax       /* PG, PE */
        movl    %eax, %cr0
        ljmp    $0x08, $in_long_mode

        .code64
in_long_mode:
        movl    $0x10, %eax
        movl    %eax, %ds
        movl    %eax, %es
        movl    %eax, %ss
        movq    $stack_top, %rsp
        call    hostile_main
1:      hlt
        jmp     1b

        .section .bss
        .align  16
        .skip   16384
stack_top:
        .section .note.GNU-stack, "", @progbits

/* A guest that answers on its serial console: prints "echo: ready", then every byte that is typed,
 * small letters as capitals, so that what comes back was in the guest. PVH entry, and it stays there:
 * 32-bit protected mode, no paging, no interrupts; it asks the port again and again.
 *
 *   0x3f8   data      0x3fd   line status, bit 0: a byte was received
 */
        .section .note.Xen, "a", @note
        .align  4
        .long   4, 8, 18                /* XEN_ELFNOTE_PHYS32_ENTRY */
        .asciz  "Xen"
        .quad   entry

        .text
        .code32
        .globl  entry
entry:
        cli
        movl    $greeting, %esi
        movl    $0x3f8, %edx
1:      movb    (%esi), %al
        testb   %al, %al
        jz      wait
        outb    %al, %dx
        incl    %esi
        jmp     1b

wait:
        movl    $200, %ecx              /* not every moment: each look is an exit */
2:      decl    %ecx
        jnz     2b
        movl    $0x3fd, %edx
        inb     %dx, %al
        testb   $1, %al
        jz      wait
        movl    $0x3f8, %edx
        inb     %dx, %al
        cmpb    $'a', %al
        jb      3f
        cmpb    $'z', %al
        ja      3f
        subb    $32, %al
3:      outb    %al, %dx
        jmp     wait

        .section .rodata
greeting:
        .asciz  "echo: ready\r\n"
        .section .note.GNU-stack, "", @progbits

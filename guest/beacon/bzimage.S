/* The beacon as a Linux bzImage: a setup header, and the 64-bit entry of the boot protocol.
 *
 *   file      memory
 *   0x000     -          boot sector and setup code: nothing but the header at 0x1f1
 *   0x400     0x100000   protected-mode code; +0x200 is the entry, with RSI = zero page
 *
 * The loader enters in long mode with tables and selectors of its own. From here: what the zero page
 * says is put into the form of PVH's start info, the beacon's own tables are switched on, and
 * boot.S goes on as if it had come from its PVH entry. Source: Linux Documentation/arch/x86/boot.rst.
 */
#include "layout.h"

        .section .setup, "a", @progbits
setup:
        .org    0x1f1
        .byte   1                       /* setup_sects: the code follows at 0x400 */
        .word   0                       /* root_flags */
        .long   bz_code_paragraphs      /* syssize, in 16 bytes */
        .word   0                       /* ram_size */
        .word   0xffff                  /* vid_mode: normal */
        .word   0                       /* root_dev */
        .word   0xaa55                  /* boot_flag */
        .byte   0xeb, header_end - header
header:
        .ascii  "HdrS"
        .word   0x020c                  /* version 2.12 */
        .long   0                       /* realmode_switch */
        .word   0                       /* start_sys_seg */
        .word   version - setup - 0x200 /* kernel_version */
        .byte   0                       /* type_of_loader */
        .byte   1                       /* loadflags: LOADED_HIGH */
        .word   0                       /* setup_move_size */
        .long   0x100000                /* code32_start */
        .long   0, 0, 0                 /* ramdisk_image, ramdisk_size, bootsect_kludge */
        .word   0                       /* heap_end_ptr */
        .byte   0, 0                    /* ext_loader_ver, ext_loader_type */
        .long   0                       /* cmd_line_ptr */
        .long   0x7fffffff              /* initrd_addr_max */
        .long   0x1000                  /* kernel_alignment */
        .byte   0, 12                   /* relocatable_kernel: no; min_alignment: a page */
        .word   1                       /* xloadflags: XLF_KERNEL_64 */
        .long   1023                    /* cmdline_size */
        .long   0                       /* hardware_subarch */
        .quad   0
        .long   0, 0                    /* payload_offset, payload_length */
        .quad   0                       /* setup_data */
        .quad   0x100000                /* pref_address */
        .long   bz_memory_bytes         /* init_size */
        .long   0                       /* handover_offset */
header_end:
version:
        .asciz  "beacon"
        .org    0x400

        .section .entry, "ax", @progbits
        .code64
        .org    0x200
        .globl  bz_entry
bz_entry:
        cli
        cld
        movl    $user_stack_top, %esp
        movq    %rsi, %rdi
        call    start_info_from_zero_page
        movl    %eax, %ebx
        movl    $page_map, %eax
        movq    %rax, %cr3
        movq    %cr4, %rax
        orl     $0x620, %eax            /* PAE, OSFXSR, OSXMMEXCPT */
        movq    %rax, %cr4
        lgdt    gdt_pointer
        movq    %cr0, %rax
        andl    $~0xc, %eax             /* no EM, no TS: CPL3 uses SSE */
        orl     $0x10022, %eax          /* WP, NE, MP */
        movq    %rax, %cr0
        pushq   $KERNEL_CODE
        pushq   $long_mode
        lretq

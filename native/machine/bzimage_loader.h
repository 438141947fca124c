// Puts a Linux bzImage into guest memory for its 64-bit entry, with the boot data that it expects:
// zero page, command line, initrd, page tables that map the first 4 GiB one to one, and a GDT with
// flat segments.
//
//   run-time address = pref_address, rounded up to kernel_alignment if the kernel is relocatable
//   │ protected-mode code │ room to unpack … │        initrd │
//   └ +0x200: entry       └ up to init_size  ┘  below initrd_addr_max and the end of memory
//
// The kernel unpacks itself at the run-time address, in long mode, with our page tables.
// Sources: Linux Documentation/arch/x86/boot.rst, "64-bit boot protocol"; boot_params.h.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"
#include "kvm/vcpu.h"
#include "machine/guest_memory.h"
#include "machine/kernel_file.h"

namespace ft {

/// Loads `file` into `memory`, which must be fresh (all zero), with `cmdline` and, with a non-empty
/// `initrd_path`, that file. On an error memory may hold part of the kernel; do not run it.
/// Errors: FT_ERR_KERNEL_TRUNCATED (the header or the code lies past the file's end),
/// FT_ERR_KERNEL_PROTOCOL (a boot protocol before 2.12, or no code that is loaded high),
/// FT_ERR_KERNEL_ARCH (no 64-bit entry), FT_ERR_KERNEL_LAYOUT (an address or an alignment that
/// cannot be), FT_ERR_KERNEL_TOO_LARGE (needs, has), FT_ERR_CMDLINE_TOO_LONG (of this kernel's own
/// limit too), and those of load_initrd. Before the vCPUs run; any one thread.
Result<LongModeEntry> load_bzimage(GuestMemory& memory, const KernelFile& file,
                                   const std::string& cmdline, const std::string& initrd_path);

}  // namespace ft

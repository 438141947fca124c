// Puts a kernel with a PVH entry into guest memory, with the boot data that it expects.
//
//   start_info ─▶ module list, memory map, command line      (where: memory_layout.h)
//
// Sources: ELF gABI (program headers, notes); Xen public headers: elfnote.h (note 18,
// PHYS32_ENTRY), arch-x86/hvm/start_info.h.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"
#include "machine/guest_memory.h"
#include "machine/kernel_file.h"
#include "machine/memory_layout.h"

namespace ft {

/// What Vcpu::set_pvh_entry() needs.
struct PvhEntry {
  uint32_t entry;
  uint32_t start_info_gpa;
};

/// Loads the ELF `file` (32 or 64 bits, x86) into `memory`, which must be fresh (all zero: the part
/// of a segment that the file does not fill is not written), and places start_info, memory map and
/// `cmdline`; with a non-empty `initrd_path` that file too, as the only module. On an error memory
/// may hold part of the kernel; do not run it.
/// Errors: FT_ERR_KERNEL_FORMAT (no ELF), FT_ERR_KERNEL_TRUNCATED (a header or segment lies past
/// the file's end), FT_ERR_KERNEL_ARCH (of another machine, which is named),
/// FT_ERR_KERNEL_NO_PVH_NOTE, FT_ERR_KERNEL_TOO_LARGE (needs, has), FT_ERR_KERNEL_LAYOUT (a segment
/// on top of the boot data or of the reserved hole, or an entry outside the segments),
/// FT_ERR_CMDLINE_TOO_LONG, and those of load_initrd. Before the vCPUs run; any one thread.
Result<PvhEntry> load_pvh(GuestMemory& memory, const KernelFile& file, const std::string& cmdline,
                          const std::string& initrd_path = "");

}  // namespace ft

// Puts a kernel with a PVH entry into guest memory, with the boot data that it expects.
//
//   0x00006000  start_info (56 bytes)            ┐
//   0x00006100  module list, 32 bytes an entry   │
//   0x00007000  memory map, 24 bytes an entry    ├ boot data, in declared RAM
//   0x00020000  command line, NUL-terminated     ┘
//   0x0009fc00  EBDA .. 0x00100000               reserved
//   0x00100000  kernel segments, at their physical addresses
//   …           initrd, the only module, below the end of memory (boot_initrd.h)
//
// Sources: ELF gABI (program headers, notes); Xen public headers: elfnote.h (note 18,
// PHYS32_ENTRY), arch-x86/hvm/start_info.h.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"
#include "machine/guest_memory.h"

namespace ft {

inline constexpr uint64_t kPvhStartInfoGpa = 0x6000;
inline constexpr uint64_t kPvhModlistGpa = 0x6100;
inline constexpr uint64_t kPvhMemmapGpa = 0x7000;
inline constexpr uint64_t kPvhCmdlineGpa = 0x20000;
inline constexpr uint64_t kEbdaGpa = 0x9fc00;
inline constexpr uint64_t kHighMemoryGpa = 0x100000;
/// Longest command line without its NUL (what a Linux guest keeps).
inline constexpr size_t kCmdlineBytesMax = 2047;

/// What Vcpu::set_pvh_entry() needs.
struct PvhEntry {
  uint32_t entry;
  uint32_t start_info_gpa;
};

/// Loads the ELF (32 or 64 bits, x86) at `path` into `memory`, which must be fresh (all zero: the
/// part of a segment that the file does not fill is not written), and places start_info, memory map
/// and `cmdline`; with a non-empty `initrd_path` that file too, as the only module. On an error
/// memory may hold part of the kernel; do not run it.
/// Errors: FT_ERR_KERNEL_OPEN (cannot be read, or is no regular file), FT_ERR_KERNEL_NOT_ELF,
/// FT_ERR_KERNEL_TRUNCATED (a header or segment lies past the file's end), FT_ERR_KERNEL_ARCH,
/// FT_ERR_KERNEL_NO_PVH_NOTE, FT_ERR_KERNEL_TOO_LARGE (needs, has), FT_ERR_KERNEL_LAYOUT (a segment
/// on top of the boot data or of the reserved hole, or an entry outside the segments),
/// FT_ERR_CMDLINE_TOO_LONG, and those of load_initrd. Before the vCPUs run; any one thread.
Result<PvhEntry> load_pvh(GuestMemory& memory, const std::string& path, const std::string& cmdline,
                          const std::string& initrd_path = "");

}  // namespace ft

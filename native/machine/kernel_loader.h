// Any kernel that can be booted here, told apart by what its file begins with.
//
//   7f 45 4c 46 at 0       an ELF image      ─▶ pvh_loader.h      32-bit entry, start info
//   "HdrS" at 0x202        a Linux bzImage   ─▶ bzimage_loader.h  64-bit entry, zero page
//   anything else          refused, and called by its name if it has a known one
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"
#include "machine/bzimage_loader.h"
#include "machine/guest_memory.h"
#include "machine/pvh_loader.h"

namespace ft {

/// What a guest boots from. An empty `initrd_path`: none.
struct BootSources {
  std::string kernel_path;
  std::string initrd_path;
  std::string cmdline;
};

enum class BootProtocol : uint8_t { kPvh, kLinux64 };

/// Where the first vCPU begins. For kPvh `pvh` is filled in, for kLinux64 `linux64`.
struct BootEntry {
  BootProtocol protocol;
  PvhEntry pvh;
  LongModeEntry linux64;
};

/// Loads what `sources` name into `memory`, which must be fresh (all zero). On an error memory may
/// hold part of it; do not run it.
/// Errors: FT_ERR_KERNEL_OPEN, FT_ERR_KERNEL_FORMAT (neither kind; the sentence names what it is),
/// FT_ERR_KERNEL_ARCH (for another processor), and those of load_pvh and load_bzimage. Before the
/// vCPUs run; any one thread.
Result<BootEntry> load_kernel(GuestMemory& memory, const BootSources& sources);

/// Puts `vcpu`, which has not run, at the kernel's entry. Error: FT_ERR_KVM_STATE.
Status enter_kernel(Vcpu& vcpu, const BootEntry& entry);

}  // namespace ft

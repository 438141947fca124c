// Puts an initial RAM disk into guest memory, as high as it goes.
//
//   kernel end            initrd, whole pages         end of guest memory, or of what
//                                                     the kernel reaches
//   ──────┴───── free ─────┴──────────────────────────┴
//
// High, because a kernel that unpacks itself or grows its tables does so upwards from its own end.
#pragma once

#include <cstdint>
#include <string>

#include "core/result.h"
#include "machine/guest_memory.h"

namespace ft {

/// Where the initrd lies: `gpa` is a multiple of 4096, `bytes` is the file's length.
struct InitrdRange {
  uint64_t gpa;
  uint64_t bytes;
};

/// Copies the file at `path` to the highest page boundary from which it fits below `end_max` (at
/// most the end of `memory`); nothing below `free_from` is touched. The pages are fresh (all zero),
/// so what follows the file in its last page reads as zero. Errors: FT_ERR_INITRD_OPEN (cannot be
/// read, is no regular file, is empty, or shrank meanwhile), FT_ERR_INITRD_TOO_LARGE (with what is
/// needed and what there is). Before the vCPUs run; any one thread.
Result<InitrdRange> load_initrd(GuestMemory& memory, const std::string& path, uint64_t free_from,
                                uint64_t end_max);

}  // namespace ft

// Where everything that the VMM itself puts into a guest's memory lies, and the memory map that
// tells the guest so. The PVH and the bzImage loader share it; each uses its own part.
//
//   0x00001000  global descriptor table                  ┐ bzImage
//   0x00002000  zero page (struct boot_params), one page ┘
//   0x00006000  start_info, 56 bytes                     ┐
//   0x00006100  module list, 32 bytes an entry           │ PVH
//   0x00007000  memory map, 24 bytes an entry            ┘
//   0x00009000  page tables: PML4, PDPT, 4 directories     bzImage: 4 GiB in pages of 2 MiB
//   0x00020000  command line, NUL-terminated               both
//   0x0009fc00  MP table (multiprocessor specification)  ┐ reserved: the guest finds it there and
//   0x000a0000  legacy video, option ROMs, BIOS          ┘ lets it be
//   0x00100000  kernel, at its own address
//   …           initrd, below the end of memory (boot_initrd.h)
//
// All but the reserved ranges is plain RAM to the guest, which reads it once and then reuses it.
// Sources: Linux Documentation/arch/x86/boot.rst, "memory layout"; MultiProcessor Specification
// 1.4, section 4 (where the floating pointer is looked for: the last KiB of base memory).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ft {

inline constexpr uint64_t kBootGdtGpa = 0x1000;
inline constexpr uint64_t kBootParamsGpa = 0x2000;
inline constexpr uint64_t kPvhStartInfoGpa = 0x6000;
inline constexpr uint64_t kPvhModlistGpa = 0x6100;
inline constexpr uint64_t kPvhMemmapGpa = 0x7000;
inline constexpr uint64_t kBootPageTablesGpa = 0x9000;
inline constexpr uint64_t kCmdlineGpa = 0x20000;
/// Longest command line without its NUL (what a Linux guest keeps).
inline constexpr size_t kCmdlineBytesMax = 2047;

/// The end of base memory; the MP table begins here. The whole of it lies in a reserved range.
inline constexpr uint64_t kEbdaGpa = 0x9fc00;
inline constexpr uint64_t kMpTableGpa = kEbdaGpa;
inline constexpr uint64_t kMpTableBytesMax = 0x400;
inline constexpr uint64_t kHighMemoryGpa = 0x100000;

/// What a range of the map is; the numbers are those of PVH's map and of e820 alike.
enum class MemoryRangeType : uint32_t {
  kRam = 1,
  kReserved = 2,
};

struct MemoryRange {
  uint64_t gpa;
  uint64_t bytes;
  MemoryRangeType type;
};

/// The map of a guest with `memory_bytes` (at least 1 MiB), ascending, without gaps or overlap:
/// base memory, the reserved ranges up to 1 MiB, and what lies above.
std::vector<MemoryRange> memory_map(uint64_t memory_bytes);

}  // namespace ft

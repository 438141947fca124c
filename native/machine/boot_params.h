// The Linux boot protocol's structures, as far as a loader fills them in.
//
//   the image                                            the zero page (struct boot_params)
//   0x000  real-mode boot sector                         0x000  …                      zero
//   0x1f1  setup header ──────── copied ───────────────▶ 0x1f1  setup header
//   0x202 + byte at 0x201   its end                      0x1e8  number of e820 entries
//   …      setup code, not run                           0x2d0  e820 table, 20 bytes an entry
//   (setup_sects + 1) × 512
//          protected-mode code, syssize × 16 bytes; 64-bit entry 0x200 behind its beginning
//
// Sources: Linux Documentation/arch/x86/boot.rst, zero-page.rst.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ft {

/// The setup header up to and with what protocol 2.12 knows. In the image and in the zero page it
/// lies at kSetupHeaderAt; its fields follow one another without gaps.
struct [[gnu::packed]] SetupHeader {
  uint8_t setup_sects;  // 512-byte sectors of setup code; 0 means 4
  uint16_t root_flags;
  uint32_t syssize;  // protected-mode code, in units of 16 bytes
  uint16_t ram_size;
  uint16_t vid_mode;
  uint16_t root_dev;
  uint16_t boot_flag;  // 0xaa55
  uint8_t jump;
  uint8_t header_length;  // the header ends at 0x202 + this
  uint32_t magic;         // "HdrS"
  uint16_t version;       // major << 8 | minor
  uint32_t realmode_switch;
  uint16_t start_sys_seg;
  uint16_t kernel_version;
  uint8_t type_of_loader;
  uint8_t loadflags;
  uint16_t setup_move_size;
  uint32_t code32_start;
  uint32_t ramdisk_image;
  uint32_t ramdisk_size;
  uint32_t bootsect_kludge;
  uint16_t heap_end_ptr;
  uint8_t ext_loader_ver;
  uint8_t ext_loader_type;
  uint32_t cmd_line_ptr;
  uint32_t initrd_addr_max;   // the highest address that the initrd may occupy
  uint32_t kernel_alignment;  // of the run-time address, if relocatable
  uint8_t relocatable_kernel;
  uint8_t min_alignment;
  uint16_t xloadflags;
  uint32_t cmdline_size;  // longest command line, without its NUL
  uint32_t hardware_subarch;
  uint64_t hardware_subarch_data;
  uint32_t payload_offset;
  uint32_t payload_length;
  uint64_t setup_data;    // a list of further data; none
  uint64_t pref_address;  // where the kernel wants to run
  uint32_t init_size;     // contiguous memory that it needs there before it reads the memory map
  uint32_t handover_offset;
};
inline constexpr size_t kSetupHeaderAt = 0x1f1;
static_assert(kSetupHeaderAt + offsetof(SetupHeader, boot_flag) == 0x1fe);
static_assert(kSetupHeaderAt + offsetof(SetupHeader, magic) == 0x202);
static_assert(kSetupHeaderAt + offsetof(SetupHeader, code32_start) == 0x214);
static_assert(kSetupHeaderAt + offsetof(SetupHeader, initrd_addr_max) == 0x22c);
static_assert(kSetupHeaderAt + offsetof(SetupHeader, pref_address) == 0x258);
static_assert(kSetupHeaderAt + sizeof(SetupHeader) == 0x268);

inline constexpr uint16_t kBootFlag = 0xaa55;
inline constexpr uint32_t kSetupMagic = 0x53726448;  // "HdrS"
inline constexpr uint16_t kBootProtocolMin = 0x020c;
inline constexpr uint8_t kLoadedHigh = 1;    // loadflags
inline constexpr uint16_t kXlfKernel64 = 1;  // xloadflags: there is a 64-bit entry
inline constexpr uint8_t kLoaderUndefined = 0xff;

/// What the zero page has room for; a longer header is cut off there.
inline constexpr size_t kSetupHeaderEndMax = 0x290;
inline constexpr size_t kE820CountAt = 0x1e8;
inline constexpr size_t kE820TableAt = 0x2d0;

struct [[gnu::packed]] E820Entry {
  uint64_t gpa;
  uint64_t bytes;
  uint32_t type;
};
static_assert(sizeof(E820Entry) == 20);

/// The 64-bit entry, behind the beginning of the protected-mode code.
inline constexpr uint64_t kLinux64EntryAt = 0x200;

}  // namespace ft

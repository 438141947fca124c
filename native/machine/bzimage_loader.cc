// Puts a Linux bzImage into guest memory for its 64-bit entry, with the boot data that it expects.
#include "machine/bzimage_loader.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "machine/boot_initrd.h"
#include "machine/boot_params.h"
#include "machine/memory_layout.h"

namespace ft {

namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kSectorBytes = 512;
constexpr uint64_t kLargePageBytes = 2ull << 20;

// Page table entries: present, writable, accessed, and for the 2 MiB pages dirty and large. With
// accessed and dirty set the processor need not write here.
constexpr uint64_t kTableFlags = 0x23;
constexpr uint64_t kLargePageFlags = 0xe3;
constexpr size_t kTableEntries = 512;
constexpr size_t kDirectories = 4;

// Selectors 0x10 and 0x18, as the protocol asks: flat 64-bit code and flat data, both accessed.
constexpr std::array<uint64_t, 4> kGdt = {0, 0, 0x00af9b000000ffff, 0x00cf93000000ffff};

// What was read from the image and checked.
struct Image {
  SetupHeader header;
  std::vector<uint8_t> raw_header;  // as much of it as the zero page takes
  uint64_t code_at;                 // in the file
  uint64_t code_bytes;
  uint64_t gpa;           // where it is loaded and runs
  uint64_t memory_bytes;  // what it takes there
};

Status check_header(const KernelFile& file, const SetupHeader& header) {
  if (header.boot_flag != kBootFlag || header.magic != kSetupMagic) {
    return file.error("FT_ERR_KERNEL_FORMAT",
                      "its boot sector has no mark 0xaa55; give a bzImage for x86-64");
  }
  if (header.version < kBootProtocolMin) {
    return file.error("FT_ERR_KERNEL_PROTOCOL",
                      "it speaks boot protocol " + std::to_string(header.version >> 8) + "." +
                          std::to_string(header.version & 0xff) +
                          "; 2.12 or later is needed (Linux 3.8 or later)");
  }
  if ((header.xloadflags & kXlfKernel64) == 0) {
    return file.error("FT_ERR_KERNEL_ARCH",
                      "this is a 32-bit x86 kernel (it has no 64-bit entry); an x86-64 kernel is "
                      "needed");
  }
  if ((header.loadflags & kLoadedHigh) == 0) {
    return file.error("FT_ERR_KERNEL_PROTOCOL",
                      "it is a zImage, which runs below 1 MiB; give a bzImage");
  }
  if (kSetupHeaderAt + offsetof(SetupHeader, magic) + header.header_length <
      kSetupHeaderAt + offsetof(SetupHeader, handover_offset)) {
    return file.error("FT_ERR_KERNEL_PROTOCOL",
                      "its setup header ends before the fields of protocol 2.12");
  }
  return Ok{};
}

Status read_header(const KernelFile& file, Image* image) {
  SetupHeader& header = image->header;
  FT_TRY(file.read_at(kSetupHeaderAt, {reinterpret_cast<uint8_t*>(&header), sizeof(header)},
                      "its setup header"));
  FT_TRY(check_header(file, header));
  const size_t end = std::min(kSetupHeaderAt + offsetof(SetupHeader, magic) + header.header_length,
                              kSetupHeaderEndMax);
  image->raw_header.resize(end - kSetupHeaderAt);
  FT_TRY(file.read_at(kSetupHeaderAt, image->raw_header, "its setup header"));

  const uint64_t sectors = header.setup_sects == 0 ? 4 : header.setup_sects;
  image->code_at = (sectors + 1) * kSectorBytes;
  image->code_bytes = uint64_t{header.syssize} * 16;
  if (!file.contains(image->code_at, image->code_bytes)) {
    return file.truncated("its code (" + std::to_string(image->code_bytes) + " bytes from offset " +
                          std::to_string(image->code_at) + ")");
  }
  if (image->code_at < end || image->code_bytes <= kLinux64EntryAt) {
    return file.error("FT_ERR_KERNEL_LAYOUT",
                      "its code has " + std::to_string(image->code_bytes) + " bytes from offset " +
                          std::to_string(image->code_at) + ": the 64-bit entry is not in it");
  }
  return Ok{};
}

// The run-time address and what the kernel takes there; see the drawing in the header file.
Status place(const KernelFile& file, uint64_t memory_bytes, Image* image) {
  const SetupHeader& header = image->header;
  image->memory_bytes = std::max<uint64_t>(image->code_bytes, header.init_size);
  const uint64_t preferred = header.pref_address;
  image->gpa = preferred;
  if (header.relocatable_kernel != 0) {
    const uint64_t align = header.kernel_alignment;
    if (align == 0 || (align & (align - 1)) != 0) {
      return file.error("FT_ERR_KERNEL_LAYOUT",
                        "its alignment " + hex_text(align) + " is no power of two");
    }
    const uint64_t wanted = std::max(preferred, kHighMemoryGpa);
    // Beyond memory there is nothing to round; too_large says so below.
    image->gpa = wanted > kMemoryBytesMax ? wanted : (wanted + align - 1) / align * align;
  } else if (preferred < kHighMemoryGpa) {
    return file.error("FT_ERR_KERNEL_LAYOUT", "it wants to run at " + hex_text(preferred) +
                                                  ", below 1 MiB, and is not relocatable");
  }
  if (image->gpa > memory_bytes || image->memory_bytes > memory_bytes - image->gpa) {
    const uint64_t room = UINT64_MAX - image->gpa;
    return file.too_large(image->gpa + std::min(image->memory_bytes, room), memory_bytes);
  }
  return Ok{};
}

// PML4 ─▶ PDPT ─▶ four directories of 2 MiB pages, in six pages in a row.
void place_tables(GuestMemory& memory) {
  const uint64_t pdpt = kBootPageTablesGpa + kPageBytes;
  const uint64_t directories = pdpt + kPageBytes;
  bool placed = memory.write_value(kBootPageTablesGpa, pdpt | kTableFlags);
  for (uint64_t d = 0; d < kDirectories; d++) {
    const uint64_t at = directories + d * kPageBytes;
    placed = placed && memory.write_value(pdpt + d * sizeof(uint64_t), at | kTableFlags);
    std::array<uint64_t, kTableEntries> entries;
    for (uint64_t i = 0; i < kTableEntries; i++) {
      entries[i] = (d * kTableEntries + i) * kLargePageBytes | kLargePageFlags;
    }
    placed = placed && memory.write_value(at, entries);
  }
  placed = placed && memory.write_value(kBootGdtGpa, kGdt);
  FT_CHECK(placed, "boot tables do not fit the least guest memory");
}

// `initrd` of zero bytes: there is none. What the protocol calls the loader's to fill in is filled
// in; the rest of the header goes over as it is.
void place_zero_page(GuestMemory& memory, const Image& image, const std::string& cmdline,
                     const InitrdRange& initrd) {
  SetupHeader header = image.header;
  header.type_of_loader = kLoaderUndefined;
  header.code32_start = static_cast<uint32_t>(image.gpa);
  header.ramdisk_image = static_cast<uint32_t>(initrd.gpa);
  header.ramdisk_size = static_cast<uint32_t>(initrd.bytes);
  header.cmd_line_ptr = static_cast<uint32_t>(kCmdlineGpa);
  header.setup_data = 0;

  std::array<uint8_t, kPageBytes> page = {};
  std::memcpy(page.data() + kSetupHeaderAt, image.raw_header.data(), image.raw_header.size());
  // Of a header that is shorter than ours, only what it has.
  std::memcpy(page.data() + kSetupHeaderAt, &header,
              std::min(sizeof(header), image.raw_header.size()));
  size_t at = kE820TableAt;
  for (const MemoryRange& range : memory_map(memory.size())) {
    const E820Entry entry = {range.gpa, range.bytes, static_cast<uint32_t>(range.type)};
    std::memcpy(page.data() + at, &entry, sizeof(entry));
    at += sizeof(entry);
    page[kE820CountAt]++;
  }
  const auto* text = reinterpret_cast<const uint8_t*>(cmdline.c_str());
  bool placed = memory.write(kBootParamsGpa, page);
  placed = placed && memory.write(kCmdlineGpa, {text, cmdline.size() + 1});
  FT_CHECK(placed, "boot data does not fit the least guest memory");
}

}  // namespace

Result<LongModeEntry> load_bzimage(GuestMemory& memory, const KernelFile& file,
                                   const std::string& cmdline, const std::string& initrd_path) {
  Image image = {};
  FT_TRY(read_header(file, &image));
  FT_TRY(check_cmdline(cmdline, std::min<uint64_t>(image.header.cmdline_size, kCmdlineBytesMax)));
  FT_TRY(place(file, memory.size(), &image));
  FT_TRY(
      file.read_at(image.code_at, memory.writable_view(image.gpa, image.code_bytes), "its code"));
  InitrdRange initrd = {0, 0};
  if (!initrd_path.empty()) {
    const uint64_t end = std::min(memory.size(), uint64_t{image.header.initrd_addr_max} + 1);
    const auto loaded = load_initrd(memory, initrd_path, image.gpa + image.memory_bytes, end);
    if (!loaded.ok()) return loaded.error();
    initrd = loaded.value();
  }
  place_tables(memory);
  place_zero_page(memory, image, cmdline, initrd);
  return LongModeEntry{
      .rip = image.gpa + kLinux64EntryAt,
      .boot_params_gpa = kBootParamsGpa,
      .page_tables_gpa = kBootPageTablesGpa,
      .gdt_gpa = kBootGdtGpa,
      .gdt_bytes = sizeof(kGdt),
      .code_selector = 0x10,
      .data_selector = 0x18,
  };
}

}  // namespace ft

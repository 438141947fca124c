// Puts a kernel with a PVH entry into guest memory, with the boot data that it expects.
#include "machine/pvh_loader.h"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "machine/boot_initrd.h"

namespace ft {

namespace {

constexpr uint32_t kNotePhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
constexpr char kNoteName[] = "Xen";        // with its NUL
constexpr size_t kNoteBytesMax = 64 << 10;
constexpr uint32_t kStartInfoMagic = 0x336ec578;
constexpr uint64_t kAddressMax32 = std::numeric_limits<uint32_t>::max();

// xen/include/public/arch-x86/hvm/start_info.h, version 1.
struct StartInfo {
  uint32_t magic = kStartInfoMagic;
  uint32_t version = 1;
  uint32_t flags = 0;
  uint32_t nr_modules = 0;
  uint64_t modlist_paddr = 0;
  uint64_t cmdline_paddr = 0;
  uint64_t rsdp_paddr = 0;
  uint64_t memmap_paddr = 0;
  uint32_t memmap_entries = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(StartInfo) == 56);

struct ModuleEntry {
  uint64_t paddr;
  uint64_t size;
  uint64_t cmdline_paddr;
  uint64_t reserved;
};
static_assert(sizeof(ModuleEntry) == 32);

struct MemmapEntry {
  uint64_t addr;
  uint64_t size;
  uint32_t type;
  uint32_t reserved;
};
static_assert(sizeof(MemmapEntry) == 24);

// What of a program header matters, for both widths.
struct Segment {
  uint32_t type;
  uint64_t offset;
  uint64_t file_bytes;
  uint64_t gpa;
  uint64_t memory_bytes;
  uint64_t align;
};

// The physical ranges that no segment may touch.
struct Range {
  uint64_t begin;
  uint64_t end;
  const char* what;
};
constexpr Range kTaken[] = {
    {kPvhStartInfoGpa, kPvhMemmapGpa + 0x1000, "the start info and memory map"},
    {kCmdlineGpa, kCmdlineGpa + kCmdlineBytesMax + 1, "the command line"},
    {kEbdaGpa, kHighMemoryGpa, "the reserved hole below 1 MiB"},
};

// Names of the processors that kernels are built for, as people call them (ELF gABI, e_machine).
struct MachineName {
  uint16_t machine;
  const char* name;
};
constexpr MachineName kMachineNames[] = {
    {EM_386, "32-bit x86"}, {EM_68K, "m68k"},        {EM_MIPS, "MIPS"},    {EM_PPC, "PowerPC"},
    {EM_PPC64, "PowerPC"},  {EM_S390, "s390"},       {EM_ARM, "ARM"},      {EM_SPARCV9, "SPARC"},
    {EM_IA_64, "Itanium"},  {EM_AARCH64, "aarch64"}, {EM_RISCV, "RISC-V"}, {258, "LoongArch"},
};

// One kernel image: the open file and what its headers say.
class Image {
 public:
  explicit Image(const KernelFile& file) : file_(file) {}
  Status read_headers();
  Result<uint32_t> find_entry() const;
  /// The end of the highest segment.
  uint64_t bytes_needed() const;
  Status check_layout(uint64_t memory_bytes, uint32_t entry) const;
  Status load(GuestMemory& memory) const;

 private:
  Error error(const char* code, const std::string& what) const { return file_.error(code, what); }
  Error wrong_machine(uint16_t machine) const;
  template <typename Header, typename Program>
  Status read_program_headers(uint16_t machine_a, uint16_t machine_b);
  Result<uint32_t> entry_from_notes(std::span<const uint8_t> notes, uint64_t align) const;

  const KernelFile& file_;
  std::vector<Segment> segments_;
};

Error Image::wrong_machine(uint16_t machine) const {
  const char* name = "another processor's";
  for (const MachineName& known : kMachineNames) {
    if (known.machine == machine) name = known.name;
  }
  return error("FT_ERR_KERNEL_ARCH", std::string("this is an ELF image for ") + name +
                                         " (ELF machine " + std::to_string(machine) +
                                         "); an x86-64 kernel is needed");
}

Status Image::read_headers() {
  uint8_t ident[EI_NIDENT + 4] = {};  // with the type and the machine, alike in all ELF files
  FT_TRY(file_.read_at(0, ident, "the ELF header"));
  if (std::memcmp(ident, ELFMAG, SELFMAG) != 0) {
    return error("FT_ERR_KERNEL_FORMAT", "it is no ELF file");
  }
  if (ident[EI_DATA] != ELFDATA2LSB) {
    return wrong_machine(static_cast<uint16_t>(ident[EI_NIDENT + 2] << 8 | ident[EI_NIDENT + 3]));
  }
  switch (ident[EI_CLASS]) {
    case ELFCLASS64:
      return read_program_headers<Elf64_Ehdr, Elf64_Phdr>(EM_X86_64, EM_X86_64);
    case ELFCLASS32:
      return read_program_headers<Elf32_Ehdr, Elf32_Phdr>(EM_386, EM_X86_64);
    default:
      return error("FT_ERR_KERNEL_ARCH", "its ELF class is " + std::to_string(ident[EI_CLASS]) +
                                             ", neither 32 nor 64 bits");
  }
}

template <typename Header, typename Program>
Status Image::read_program_headers(uint16_t machine_a, uint16_t machine_b) {
  Header header = {};
  FT_TRY(file_.read_at(0, {reinterpret_cast<uint8_t*>(&header), sizeof(header)}, "the ELF header"));
  if (header.e_machine != machine_a && header.e_machine != machine_b) {
    return wrong_machine(header.e_machine);
  }
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) {
    return error("FT_ERR_KERNEL_ARCH",
                 "it is no executable image (ELF type " + std::to_string(header.e_type) + ")");
  }
  if (header.e_phnum != 0 && header.e_phentsize != sizeof(Program)) {
    return error("FT_ERR_KERNEL_ARCH", "its program headers have " +
                                           std::to_string(header.e_phentsize) +
                                           " bytes instead of " + std::to_string(sizeof(Program)));
  }
  std::vector<Program> programs(header.e_phnum);
  FT_TRY(file_.read_at(
      header.e_phoff,
      {reinterpret_cast<uint8_t*>(programs.data()), programs.size() * sizeof(Program)},
      "the program header table"));
  for (const Program& p : programs) {
    if (p.p_type != PT_LOAD && p.p_type != PT_NOTE) continue;
    if (!file_.contains(p.p_offset, p.p_filesz)) {
      return file_.truncated("the segment at file offset " + std::to_string(p.p_offset));
    }
    segments_.push_back(Segment{p.p_type, p.p_offset, p.p_filesz, p.p_paddr,
                                std::max<uint64_t>(p.p_memsz, p.p_filesz), p.p_align});
  }
  return Ok{};
}

Result<uint32_t> Image::find_entry() const {
  for (const Segment& s : segments_) {
    if (s.type != PT_NOTE) continue;
    std::vector<uint8_t> notes(std::min<uint64_t>(s.file_bytes, kNoteBytesMax));
    FT_TRY(file_.read_at(s.offset, notes, "a note segment"));
    auto entry = entry_from_notes(notes, s.align);
    if (!entry.ok() || entry.value() != 0) return entry;
  }
  return error("FT_ERR_KERNEL_NO_PVH_NOTE",
               "it has no PVH entry (ELF note 18 named Xen); build Linux with CONFIG_PVH=y");
}

// A note segment is a row of { u32 name bytes; u32 value bytes; u32 type; name; value }, name and
// value each padded to the segment's alignment. Zero when no note of ours is there.
Result<uint32_t> Image::entry_from_notes(std::span<const uint8_t> notes, uint64_t align) const {
  const uint64_t step = align == 8 ? 8 : 4;
  const auto padded = [&](uint64_t n) { return (n + step - 1) / step * step; };
  uint64_t at = 0;
  while (at + sizeof(Elf64_Nhdr) <= notes.size()) {
    Elf64_Nhdr note;
    std::memcpy(&note, notes.data() + at, sizeof(note));
    const uint64_t name_at = at + sizeof(note);
    const uint64_t value_at = at + padded(sizeof(note) + uint64_t{note.n_namesz});
    if (value_at + note.n_descsz > notes.size()) break;
    if (note.n_type == kNotePhys32Entry && note.n_namesz == sizeof(kNoteName) &&
        std::memcmp(notes.data() + name_at, kNoteName, sizeof(kNoteName)) == 0 &&
        (note.n_descsz == 4 || note.n_descsz == 8)) {
      uint64_t entry = 0;
      std::memcpy(&entry, notes.data() + value_at, note.n_descsz);
      if (entry == 0 || entry > kAddressMax32) {
        return error("FT_ERR_KERNEL_LAYOUT",
                     "its PVH entry " + hex_text(entry) + " is no 32-bit physical address");
      }
      return static_cast<uint32_t>(entry);
    }
    at = value_at + padded(note.n_descsz);
  }
  return uint32_t{0};
}

uint64_t Image::bytes_needed() const {
  uint64_t needs = 0;
  for (const Segment& s : segments_) {
    if (s.type != PT_LOAD || s.memory_bytes == 0) continue;
    const uint64_t room = std::numeric_limits<uint64_t>::max() - s.gpa;
    needs = std::max(needs, s.gpa + std::min(s.memory_bytes, room));
  }
  return needs;
}

Status Image::check_layout(uint64_t memory_bytes, uint32_t entry) const {
  const uint64_t needs = bytes_needed();
  if (needs > memory_bytes) return file_.too_large(needs, memory_bytes);
  bool entry_inside = false;
  for (const Segment& s : segments_) {
    if (s.type != PT_LOAD || s.memory_bytes == 0) continue;
    const uint64_t end = s.gpa + s.memory_bytes;
    for (const Range& taken : kTaken) {
      if (s.gpa >= taken.end || taken.begin >= end) continue;
      return error("FT_ERR_KERNEL_LAYOUT", "its segment " + hex_text(s.gpa) + ".." + hex_text(end) +
                                               " lies on top of " + taken.what +
                                               "; link it at 1 MiB or above");
    }
    entry_inside = entry_inside || (entry >= s.gpa && entry < end);
  }
  if (!entry_inside) {
    return error("FT_ERR_KERNEL_LAYOUT",
                 "its PVH entry " + hex_text(entry) + " is in none of its segments");
  }
  return Ok{};
}

Status Image::load(GuestMemory& memory) const {
  for (const Segment& s : segments_) {
    if (s.type != PT_LOAD || s.file_bytes == 0) continue;
    FT_TRY(file_.read_at(s.offset, memory.writable_view(s.gpa, s.file_bytes), "a segment"));
  }
  return Ok{};
}

// `initrd` of zero bytes: there is none.
void place_boot_data(GuestMemory& memory, const std::string& cmdline, const InitrdRange& initrd) {
  std::vector<MemmapEntry> map;
  for (const MemoryRange& range : memory_map(memory.size())) {
    map.push_back({range.gpa, range.bytes, static_cast<uint32_t>(range.type), 0});
  }
  StartInfo info;
  info.cmdline_paddr = kCmdlineGpa;
  info.memmap_paddr = kPvhMemmapGpa;
  info.memmap_entries = static_cast<uint32_t>(map.size());
  const ModuleEntry module = {initrd.gpa, initrd.bytes, 0, 0};
  if (initrd.bytes != 0) {
    info.nr_modules = 1;
    info.modlist_paddr = kPvhModlistGpa;
  }
  const auto* text = reinterpret_cast<const uint8_t*>(cmdline.c_str());
  const auto* entries = reinterpret_cast<const uint8_t*>(map.data());
  // All of it lies in the first mebibyte, which every guest has.
  bool placed = memory.write_value(kPvhStartInfoGpa, info);
  placed = placed && memory.write_value(kPvhModlistGpa, module);
  placed = placed && memory.write(kPvhMemmapGpa, {entries, map.size() * sizeof(MemmapEntry)});
  placed = placed && memory.write(kCmdlineGpa, {text, cmdline.size() + 1});
  FT_CHECK(placed, "boot data does not fit the least guest memory");
}

}  // namespace

Result<PvhEntry> load_pvh(GuestMemory& memory, const KernelFile& file, const std::string& cmdline,
                          const std::string& initrd_path) {
  FT_TRY(check_cmdline(cmdline, kCmdlineBytesMax));
  Image image(file);
  FT_TRY(image.read_headers());
  const auto entry = image.find_entry();
  if (!entry.ok()) return entry.error();
  FT_TRY(image.check_layout(memory.size(), entry.value()));
  FT_TRY(image.load(memory));
  InitrdRange initrd = {0, 0};
  if (!initrd_path.empty()) {
    const uint64_t kernel_end = std::max(image.bytes_needed(), kHighMemoryGpa);
    const auto loaded = load_initrd(memory, initrd_path, kernel_end, memory.size());
    if (!loaded.ok()) return loaded.error();
    initrd = loaded.value();
  }
  place_boot_data(memory, cmdline, initrd);
  return PvhEntry{entry.value(), static_cast<uint32_t>(kPvhStartInfoGpa)};
}

}  // namespace ft

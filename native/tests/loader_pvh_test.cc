// The PVH loader: images made here byte by byte, sound ones placed where they belong, each kind of
// bad one refused by its own name.
#include <doctest/doctest.h>
#include <elf.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "loader_support.h"
#include "machine/pvh_loader.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr size_t kTextAt = 0x1000, kTextBytes = 0x1234, kNoteAt = 0x400;
constexpr uint64_t kTextGpa = 0x100000;
constexpr uint32_t kEntry = 0x100040;

// One loadable segment of kTextBytes at 1 MiB (twice that in memory) and one note segment with a
// foreign note before ours.
template <typename Header, typename Program>
Bytes make_image(uint8_t elf_class, uint16_t machine, uint32_t note_value_bytes) {
  Bytes image(kTextAt + kTextBytes);
  Header header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = elf_class;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_machine = machine;
  header.e_phoff = sizeof(Header);
  header.e_phentsize = sizeof(Program);
  header.e_phnum = 2;
  put(image, 0, header);
  Program text = {};
  text.p_type = PT_LOAD;
  text.p_offset = kTextAt;
  text.p_paddr = kTextGpa;
  text.p_vaddr = static_cast<decltype(text.p_vaddr)>(0xffffffff81000000ull);
  text.p_filesz = kTextBytes;
  text.p_memsz = 2 * kTextBytes;
  put(image, sizeof(Header), text);
  Program note = {};
  note.p_type = PT_NOTE;
  note.p_offset = kNoteAt;
  note.p_filesz = 20 + 16 + note_value_bytes;
  note.p_align = 4;
  put(image, sizeof(Header) + sizeof(Program), note);
  put(image, kNoteAt, Elf64_Nhdr{4, 3, 1});
  std::memcpy(image.data() + kNoteAt + 12, "GNU\0abc", 8);
  put(image, kNoteAt + 20, Elf64_Nhdr{4, note_value_bytes, 18});
  std::memcpy(image.data() + kNoteAt + 32, "Xen", 4);
  put(image, kNoteAt + 36, kEntry);
  for (size_t i = 0; i < kTextBytes; i++) image[kTextAt + i] = static_cast<uint8_t>(i * 31 + 7);
  return image;
}

Bytes image64() {
  return make_image<Elf64_Ehdr, Elf64_Phdr>(ELFCLASS64, EM_X86_64, 8);
}
Bytes image32() {
  return make_image<Elf32_Ehdr, Elf32_Phdr>(ELFCLASS32, EM_386, 4);
}

Result<PvhEntry> load_path(GuestMemory& memory, const std::string& path, const std::string& cmdline,
                           const std::string& initrd = "") {
  const auto file = KernelFile::open(path);
  if (!file.ok()) return file.error();
  return load_pvh(memory, file.value(), cmdline, initrd);
}

Result<PvhEntry> load(GuestMemory& memory, const Bytes& image, const std::string& cmdline = "") {
  const File file(image);
  return load_path(memory, file.path, cmdline);
}

Elf64_Phdr* program(Bytes& image, int index) {
  return reinterpret_cast<Elf64_Phdr*>(image.data() + sizeof(Elf64_Ehdr)) + index;
}
Elf64_Ehdr* header(Bytes& image) {
  return reinterpret_cast<Elf64_Ehdr*>(image.data());
}

}  // namespace

TEST_CASE("loader: a sound image, 64 and 32 bits, is placed with its boot data") {
  for (const Bytes& image : {image64(), image32()}) {
    GuestMemory memory = make_memory();
    memory.set_tracking(true);
    const auto entry = load(memory, image, "console=ttyS0 quiet");
    REQUIRE(entry.ok());
    CHECK(entry.value().entry == kEntry);
    CHECK(entry.value().start_info_gpa == kPvhStartInfoGpa);
    Bytes text(kTextBytes);
    REQUIRE(memory.read(kTextGpa, text));
    CHECK(std::memcmp(text.data(), image.data() + kTextAt, kTextBytes) == 0);
    CHECK(peek<uint64_t>(memory, kTextGpa + kTextBytes) == 0);

    const uint64_t info = kPvhStartInfoGpa;
    CHECK(peek<uint32_t>(memory, info) == 0x336ec578);
    CHECK(peek<uint32_t>(memory, info + 4) == 1);
    CHECK(peek<uint64_t>(memory, info + 24) == kCmdlineGpa);
    CHECK(peek<uint64_t>(memory, info + 40) == kPvhMemmapGpa);
    CHECK(peek<uint32_t>(memory, info + 48) == 3);
    const uint64_t expected[3][3] = {
        {0, 0x9fc00, 1}, {0x9fc00, 0x60400, 2}, {0x100000, (4 << 20) - 0x100000, 1}};
    for (uint64_t i = 0; i < 3; i++) {
      CHECK(peek<uint64_t>(memory, kPvhMemmapGpa + 24 * i) == expected[i][0]);
      CHECK(peek<uint64_t>(memory, kPvhMemmapGpa + 24 * i + 8) == expected[i][1]);
      CHECK(peek<uint32_t>(memory, kPvhMemmapGpa + 24 * i + 16) == expected[i][2]);
    }
    char cmdline[20] = {};
    REQUIRE(memory.read(kCmdlineGpa, {reinterpret_cast<uint8_t*>(cmdline), sizeof(cmdline)}));
    CHECK(std::string(cmdline) == "console=ttyS0 quiet");
    CHECK(memory.dirty_gfns().size() == 2 + 3);  // two pages of text, three of boot data
  }
}

TEST_CASE("loader: the command line has a longest length") {
  GuestMemory memory = make_memory();
  CHECK(load(memory, image64(), std::string(kCmdlineBytesMax, 'x')).ok());
  check_code(load(memory, image64(), std::string(kCmdlineBytesMax + 1, 'x')),
             "FT_ERR_CMDLINE_TOO_LONG");
}

TEST_CASE("loader: what cannot be opened or is no ELF says so") {
  GuestMemory memory = make_memory();
  check_code(load_path(memory, "/no/such/kernel", ""), "FT_ERR_KERNEL_OPEN");
  check_code(load_path(memory, "/", ""), "FT_ERR_KERNEL_OPEN");
  check_code(load_path(memory, "/dev/null", ""), "FT_ERR_KERNEL_OPEN");
  check_code(load(memory, {}), "FT_ERR_KERNEL_TRUNCATED");
  Bytes text(5000, 'M');
  check_code(load(memory, text), "FT_ERR_KERNEL_FORMAT");
}

TEST_CASE("loader: an image cut off at any byte is refused, never loaded") {
  const Bytes whole = image64();
  GuestMemory memory = make_memory();
  for (size_t size = 4; size < whole.size(); size += size < 0x500 ? 1 : 97) {
    CAPTURE(size);
    const auto result = load(memory, Bytes(whole.begin(), whole.begin() + static_cast<long>(size)));
    check_code(result, "FT_ERR_KERNEL_TRUNCATED");
  }
}

TEST_CASE("loader: every bad header has its error") {
  struct Case {
    const char* name;
    const char* code;
    std::function<void(Bytes&)> change;
  };
  const Case cases[] = {
      {"big-endian", "FT_ERR_KERNEL_ARCH", [](Bytes& b) { b[EI_DATA] = ELFDATA2MSB; }},
      {"no class", "FT_ERR_KERNEL_ARCH", [](Bytes& b) { b[EI_CLASS] = 3; }},
      {"big-endian s390", "FT_ERR_KERNEL_ARCH",
       [](Bytes& b) {
         b[EI_DATA] = ELFDATA2MSB;
         header(b)->e_machine = EM_S390 << 8;
       }},
      {"another machine", "FT_ERR_KERNEL_ARCH",
       [](Bytes& b) { header(b)->e_machine = EM_AARCH64; }},
      {"an object file", "FT_ERR_KERNEL_ARCH", [](Bytes& b) { header(b)->e_type = ET_REL; }},
      {"odd program headers", "FT_ERR_KERNEL_ARCH", [](Bytes& b) { header(b)->e_phentsize = 55; }},
      {"program headers far away", "FT_ERR_KERNEL_TRUNCATED",
       [](Bytes& b) { header(b)->e_phoff = ~0ull - 8; }},
      {"too many program headers", "FT_ERR_KERNEL_TRUNCATED",
       [](Bytes& b) { header(b)->e_phnum = 0xffff; }},
      {"segment beyond the file", "FT_ERR_KERNEL_TRUNCATED",
       [](Bytes& b) { program(b, 0)->p_filesz = kTextBytes + 1; }},
      {"segment wraps in the file", "FT_ERR_KERNEL_TRUNCATED",
       [](Bytes& b) { program(b, 0)->p_offset = ~0ull - 16; }},
      {"note beyond the file", "FT_ERR_KERNEL_TRUNCATED",
       [](Bytes& b) { program(b, 1)->p_filesz = 1 << 20; }},
      {"no program headers", "FT_ERR_KERNEL_NO_PVH_NOTE", [](Bytes& b) { header(b)->e_phnum = 0; }},
      {"no note segment", "FT_ERR_KERNEL_NO_PVH_NOTE",
       [](Bytes& b) { program(b, 1)->p_type = PT_NULL; }},
      {"note of another type", "FT_ERR_KERNEL_NO_PVH_NOTE",
       [](Bytes& b) { put<uint32_t>(b, kNoteAt + 28, 17); }},
      {"note of another name", "FT_ERR_KERNEL_NO_PVH_NOTE",
       [](Bytes& b) { b[kNoteAt + 32] = 'Y'; }},
      {"note with a huge name", "FT_ERR_KERNEL_NO_PVH_NOTE",
       [](Bytes& b) { put<uint32_t>(b, kNoteAt, 0xfffffffc); }},
      {"note with a huge value", "FT_ERR_KERNEL_NO_PVH_NOTE",
       [](Bytes& b) { put<uint32_t>(b, kNoteAt + 24, 0xffffffff); }},
      {"note that ends after its head", "FT_ERR_KERNEL_NO_PVH_NOTE",
       [](Bytes& b) { program(b, 1)->p_filesz = 32; }},
      {"note that ends within its value", "FT_ERR_KERNEL_NO_PVH_NOTE",
       [](Bytes& b) { program(b, 1)->p_filesz = 43; }},
      {"entry zero", "FT_ERR_KERNEL_LAYOUT", [](Bytes& b) { put<uint64_t>(b, kNoteAt + 36, 0); }},
      {"entry above 4 GiB", "FT_ERR_KERNEL_LAYOUT",
       [](Bytes& b) { put<uint64_t>(b, kNoteAt + 36, 1ull << 32); }},
      {"entry outside the segments", "FT_ERR_KERNEL_LAYOUT",
       [](Bytes& b) { put<uint64_t>(b, kNoteAt + 36, kTextGpa + 2 * kTextBytes); }},
      {"on the start info", "FT_ERR_KERNEL_LAYOUT",
       [](Bytes& b) { program(b, 0)->p_paddr = kPvhStartInfoGpa - 1; }},
      {"on the command line", "FT_ERR_KERNEL_LAYOUT",
       [](Bytes& b) { program(b, 0)->p_paddr = kCmdlineGpa + 100; }},
      {"in the hole", "FT_ERR_KERNEL_LAYOUT", [](Bytes& b) { program(b, 0)->p_paddr = 0xa0000; }},
      {"beyond memory", "FT_ERR_KERNEL_TOO_LARGE",
       [](Bytes& b) { program(b, 0)->p_memsz = 4 << 20; }},
      {"starts beyond memory", "FT_ERR_KERNEL_TOO_LARGE",
       [](Bytes& b) { program(b, 0)->p_paddr = 1ull << 40; }},
      {"wraps around", "FT_ERR_KERNEL_TOO_LARGE", [](Bytes& b) { program(b, 0)->p_memsz = ~0ull; }},
      {"file part larger than its memory", "FT_ERR_KERNEL_TOO_LARGE",
       [](Bytes& b) {
         program(b, 0)->p_memsz = 1;
         program(b, 0)->p_paddr = (4 << 20) - 16;
       }},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.name));
    Bytes image = image64();
    c.change(image);
    GuestMemory memory = make_memory();
    check_code(load(memory, image), c.code);
    CHECK(peek<uint64_t>(memory, kTextGpa) == 0);  // nothing was placed
  }
}

TEST_CASE("loader: the kernel of another processor is called by its name") {
  const std::pair<uint16_t, const char*> machines[] = {
      {EM_AARCH64, "aarch64"}, {EM_RISCV, "RISC-V"}, {EM_386, "32-bit x86"}, {999, "machine 999"}};
  for (const auto& [machine, name] : machines) {
    Bytes image = image64();
    header(image)->e_machine = machine;
    GuestMemory memory = make_memory();
    const auto result = load(memory, image);
    check_code(result, "FT_ERR_KERNEL_ARCH");
    CHECK(result.error().message.find(name) != std::string::npos);
  }
}

TEST_CASE("loader: too large says what is needed and what there is") {
  GuestMemory memory = make_memory(1 << 20);
  const auto result = load(memory, image64());
  check_code(result, "FT_ERR_KERNEL_TOO_LARGE");
  const std::string& message = result.error().message;
  CHECK(message.find(std::to_string(kTextGpa + 2 * kTextBytes)) != std::string::npos);
  CHECK(message.find("1048576") != std::string::npos);
}

TEST_CASE("loader: without an initrd there is no module") {
  GuestMemory memory = make_memory();
  REQUIRE(load(memory, image64()).ok());
  CHECK(peek<uint32_t>(memory, kPvhStartInfoGpa + 12) == 0);
  CHECK(peek<uint64_t>(memory, kPvhStartInfoGpa + 16) == 0);
}

TEST_CASE("loader: an initrd lies in the highest pages, and the start info names it") {
  const File kernel(image64());
  for (const size_t size : {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{70000}}) {
    CAPTURE(size);
    Bytes bytes(size);
    for (size_t i = 0; i < size; i++) bytes[i] = static_cast<uint8_t>(i * 13 + 1);
    const File initrd(bytes);
    GuestMemory memory = make_memory();
    REQUIRE(load_path(memory, kernel.path, "quiet", initrd.path).ok());
    CHECK(peek<uint32_t>(memory, kPvhStartInfoGpa + 12) == 1);
    CHECK(peek<uint64_t>(memory, kPvhStartInfoGpa + 16) == kPvhModlistGpa);
    const uint64_t gpa = memory.size() - (size + 4095) / 4096 * 4096;
    CHECK(peek<uint64_t>(memory, kPvhModlistGpa) == gpa);
    CHECK(peek<uint64_t>(memory, kPvhModlistGpa + 8) == size);
    CHECK(peek<uint64_t>(memory, kPvhModlistGpa + 16) == 0);
    Bytes placed(size);
    REQUIRE(memory.read(gpa, placed));
    CHECK(placed == bytes);
    CHECK(peek<uint64_t>(memory, gpa - 8) == 0);
  }
}

TEST_CASE("loader: an initrd fits up to the kernel's end and not a byte further") {
  const File kernel(image64());
  const uint64_t kernel_end = (kTextGpa + 2 * kTextBytes + 4095) / 4096 * 4096;
  const uint64_t room = (4 << 20) - kernel_end;
  const File fitting(Bytes(room, 0xab));
  GuestMemory memory = make_memory();
  REQUIRE(load_path(memory, kernel.path, "", fitting.path).ok());
  CHECK(peek<uint64_t>(memory, kPvhModlistGpa) == kernel_end);
  CHECK(peek<uint8_t>(memory, kernel_end) == 0xab);
  CHECK(peek<uint8_t>(memory, kernel_end - 1) == 0);

  const File excess(Bytes(room + 1, 0xab));
  GuestMemory other = make_memory();
  const auto result = load_path(other, kernel.path, "", excess.path);
  check_code(result, "FT_ERR_INITRD_TOO_LARGE");
  CHECK(result.error().message.find(std::to_string(room + 1)) != std::string::npos);
  CHECK(result.error().message.find(" " + std::to_string(room) + ";") != std::string::npos);
}

TEST_CASE("loader: an initrd that cannot be read says so") {
  const File kernel(image64());
  const File empty(Bytes{});
  for (const std::string& path :
       {std::string("/no/such/initrd"), std::string("/"), std::string("/dev/null"), empty.path}) {
    CAPTURE(path);
    GuestMemory memory = make_memory();
    const auto result = load_path(memory, kernel.path, "", path);
    check_code(result, "FT_ERR_INITRD_OPEN");
    CHECK(result.error().message.find(path) != std::string::npos);
  }
}

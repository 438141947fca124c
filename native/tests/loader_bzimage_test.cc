// The bzImage loader: images made here byte by byte, sound ones placed where the boot protocol
// says, each kind of bad one refused by its own name.
#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "loader_support.h"
#include "machine/boot_params.h"
#include "machine/bzimage_loader.h"
#include "machine/memory_layout.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

constexpr size_t kSetupSects = 3, kCodeAt = (kSetupSects + 1) * 512, kCodeBytes = 0x1230;
constexpr uint64_t kPreferred = 0x200000, kInitBytes = 0x5000;
constexpr uint64_t kMemoryBytes = 8 << 20;

SetupHeader sound_header() {
  SetupHeader header = {};
  header.setup_sects = kSetupSects;
  header.syssize = kCodeBytes / 16;
  header.vid_mode = 0xffff;
  header.boot_flag = kBootFlag;
  header.jump = 0xeb;
  header.header_length = 0x66;  // up to 0x268
  header.magic = kSetupMagic;
  header.version = 0x020f;
  header.loadflags = kLoadedHigh;
  header.initrd_addr_max = 0x7fffffff;
  header.kernel_alignment = 0x100000;
  header.relocatable_kernel = 1;
  header.xloadflags = kXlfKernel64;
  header.cmdline_size = 255;
  header.setup_data = 0x1234567;  // whatever the file says, we give none
  header.pref_address = kPreferred;
  header.init_size = kInitBytes;
  return header;
}

Bytes make_image(const SetupHeader& header, size_t code_bytes = kCodeBytes) {
  Bytes image(kCodeAt + code_bytes);
  put(image, kSetupHeaderAt, header);
  put<uint32_t>(image, 0x268, 0xabcdef01);  // behind the fields that we know
  for (size_t i = 0; i < code_bytes; i++) image[kCodeAt + i] = static_cast<uint8_t>(i * 31 + 7);
  return image;
}

Result<LongModeEntry> load(GuestMemory& memory, const Bytes& image, const std::string& cmdline = "",
                           const std::string& initrd = "") {
  const File file(image);
  const auto kernel = KernelFile::open(file.path);
  REQUIRE(kernel.ok());
  return load_bzimage(memory, kernel.value(), cmdline, initrd);
}

Result<LongModeEntry> load_changed(GuestMemory& memory,
                                   const std::function<void(SetupHeader&)>& change) {
  SetupHeader header = sound_header();
  change(header);
  return load(memory, make_image(header));
}

SetupHeader placed_header(const GuestMemory& memory) {
  return peek<SetupHeader>(memory, kBootParamsGpa + kSetupHeaderAt);
}

}  // namespace

TEST_CASE("bzimage: the code lies at the preferred address, with entry, zero page and tables") {
  GuestMemory memory = make_memory(kMemoryBytes);
  memory.set_tracking(true);
  const Bytes image = make_image(sound_header());
  const auto entry = load(memory, image, "console=ttyS0 quiet");
  REQUIRE(entry.ok());
  CHECK(entry.value().rip == kPreferred + 0x200);
  CHECK(entry.value().boot_params_gpa == kBootParamsGpa);
  CHECK(entry.value().code_selector == 0x10);
  CHECK(entry.value().data_selector == 0x18);
  Bytes code(kCodeBytes);
  REQUIRE(memory.read(kPreferred, code));
  CHECK(std::memcmp(code.data(), image.data() + kCodeAt, kCodeBytes) == 0);
  CHECK(peek<uint64_t>(memory, kPreferred + kCodeBytes) == 0);

  const SetupHeader header = placed_header(memory);
  CHECK(+header.magic == kSetupMagic);
  CHECK(+header.type_of_loader == 0xff);
  CHECK(+header.code32_start == kPreferred);
  CHECK(+header.cmd_line_ptr == kCmdlineGpa);
  CHECK(+header.ramdisk_image == 0);
  CHECK(+header.ramdisk_size == 0);
  CHECK(+header.setup_data == 0);
  CHECK(+header.vid_mode == 0xffff);
  CHECK(+header.init_size == kInitBytes);
  CHECK(peek<uint32_t>(memory, kBootParamsGpa + 0x268) == 0);  // the header ends at 0x268
  CHECK(peek<uint8_t>(memory, kBootParamsGpa + 0x1ef) == 0);   // the sentinel
  char cmdline[20] = {};
  REQUIRE(memory.read(kCmdlineGpa, {reinterpret_cast<uint8_t*>(cmdline), sizeof(cmdline)}));
  CHECK(std::string(cmdline) == "console=ttyS0 quiet");
  // Two pages of code; the tables, the zero page, the GDT and the command line.
  CHECK(memory.dirty_gfns().size() == 2 + 6 + 3);
}

TEST_CASE("bzimage: the zero page tells the memory map") {
  GuestMemory memory = make_memory(kMemoryBytes);
  REQUIRE(load(memory, make_image(sound_header())).ok());
  const E820Entry expected[] = {
      {0, 0x9fc00, 1}, {0x9fc00, 0x60400, 2}, {0x100000, kMemoryBytes - 0x100000, 1}};
  CHECK(peek<uint8_t>(memory, kBootParamsGpa + kE820CountAt) == 3);
  for (size_t i = 0; i < 3; i++) {
    const auto entry = peek<E820Entry>(memory, kBootParamsGpa + kE820TableAt + 20 * i);
    CHECK(+entry.gpa == +expected[i].gpa);
    CHECK(+entry.bytes == +expected[i].bytes);
    CHECK(+entry.type == +expected[i].type);
  }
}

TEST_CASE("bzimage: the tables map 4 GiB one to one, and the GDT is flat") {
  GuestMemory memory = make_memory(kMemoryBytes);
  const auto loaded = load(memory, make_image(sound_header()));
  REQUIRE(loaded.ok());
  constexpr uint64_t kAddress = 0x000ffffffffff000;
  for (uint64_t gpa = 0; gpa < 4ull << 30; gpa += 2 << 20) {
    CAPTURE(gpa);
    uint64_t table = loaded.value().page_tables_gpa;
    for (int shift : {39, 30, 21}) {
      const auto entry = peek<uint64_t>(memory, table + (gpa >> shift & 511) * 8);
      REQUIRE((entry & 3) == 3);
      REQUIRE((entry >> 7 & 1) == (shift == 21 ? 1 : 0));
      table = entry & kAddress;
    }
    REQUIRE(table == gpa);
  }
  CHECK(loaded.value().gdt_bytes == 0x20);
  CHECK(peek<uint64_t>(memory, loaded.value().gdt_gpa + 0x10) == 0x00af9b000000ffff);
  CHECK(peek<uint64_t>(memory, loaded.value().gdt_gpa + 0x18) == 0x00cf93000000ffff);
}

TEST_CASE("bzimage: where it runs hangs on preference, alignment and whether it can move") {
  struct Case {
    uint64_t preferred;
    uint32_t alignment;
    uint8_t relocatable;
    uint64_t gpa;
  };
  const Case cases[] = {
      {0x200000, 0x100000, 1, 0x200000}, {0x210000, 0x100000, 1, 0x300000},
      {0x210000, 0x100000, 0, 0x210000}, {0x0, 0x100000, 1, 0x100000},
      {0x0, 0x200000, 1, 0x200000},      {0x100000, 1, 1, 0x100000},
  };
  for (const Case& c : cases) {
    CAPTURE(c.preferred);
    CAPTURE(c.alignment);
    GuestMemory memory = make_memory(kMemoryBytes);
    const auto entry = load_changed(memory, [&](SetupHeader& h) {
      h.pref_address = c.preferred;
      h.kernel_alignment = c.alignment;
      h.relocatable_kernel = c.relocatable;
    });
    REQUIRE(entry.ok());
    CHECK(entry.value().rip == c.gpa + 0x200);
    CHECK(+placed_header(memory).code32_start == c.gpa);
    CHECK(peek<uint8_t>(memory, c.gpa + 1) == 31 + 7);
  }
}

TEST_CASE("bzimage: a header that is longer or shorter than ours is taken as it is") {
  GuestMemory longer = make_memory(kMemoryBytes);
  REQUIRE(load_changed(longer, [](SetupHeader& h) { h.header_length = 0x6a; }).ok());
  CHECK(peek<uint32_t>(longer, kBootParamsGpa + 0x268) == 0xabcdef01);
  GuestMemory longest = make_memory(kMemoryBytes);
  REQUIRE(load_changed(longest, [](SetupHeader& h) { h.header_length = 0xff; }).ok());
  CHECK(peek<uint8_t>(longest, kBootParamsGpa + kE820CountAt) == 3);
  CHECK(peek<uint64_t>(longest, kBootParamsGpa + kE820TableAt + 8) == 0x9fc00);
  GuestMemory shorter = make_memory(kMemoryBytes);
  REQUIRE(load_changed(shorter, [](SetupHeader& h) {
            h.header_length = 0x62;
            h.handover_offset = 77;
          }).ok());
  CHECK(+placed_header(shorter).handover_offset == 0);
}

TEST_CASE("bzimage: no sectors means four, and init_size may be smaller than the code") {
  GuestMemory memory = make_memory(kMemoryBytes);
  SetupHeader header = sound_header();
  header.setup_sects = 0;
  header.init_size = 0;
  Bytes image(5 * 512 + kCodeBytes, 0x5a);
  put(image, kSetupHeaderAt, header);
  REQUIRE(load(memory, image).ok());
  CHECK(peek<uint8_t>(memory, kPreferred) == 0x5a);
  CHECK(peek<uint8_t>(memory, kPreferred + kCodeBytes - 1) == 0x5a);
}

TEST_CASE("bzimage: an image cut off at any byte is refused, never loaded") {
  const Bytes whole = make_image(sound_header());
  GuestMemory memory = make_memory(kMemoryBytes);
  for (size_t size = 0; size < whole.size(); size += size < 0x300 ? 1 : 97) {
    CAPTURE(size);
    check_code(load(memory, Bytes(whole.begin(), whole.begin() + static_cast<long>(size))),
               "FT_ERR_KERNEL_TRUNCATED");
  }
  check_code(load(memory, Bytes(whole.begin(), whole.end() - 1)), "FT_ERR_KERNEL_TRUNCATED");
  CHECK(peek<uint64_t>(memory, kPreferred) == 0);
}

TEST_CASE("bzimage: every bad header has its error") {
  struct Case {
    const char* name;
    const char* code;
    std::function<void(SetupHeader&)> change;
  };
  using H = SetupHeader;
  const Case cases[] = {
      {"no boot flag", "FT_ERR_KERNEL_FORMAT", [](H& h) { h.boot_flag = 0; }},
      {"no magic", "FT_ERR_KERNEL_FORMAT", [](H& h) { h.magic++; }},
      {"protocol 2.11", "FT_ERR_KERNEL_PROTOCOL", [](H& h) { h.version = 0x020b; }},
      {"protocol 0", "FT_ERR_KERNEL_PROTOCOL", [](H& h) { h.version = 0; }},
      {"a short header", "FT_ERR_KERNEL_PROTOCOL", [](H& h) { h.header_length = 0x61; }},
      {"no 64-bit entry", "FT_ERR_KERNEL_ARCH", [](H& h) { h.xloadflags = 0xfffe; }},
      {"zImage", "FT_ERR_KERNEL_PROTOCOL", [](H& h) { h.loadflags = 0; }},
      {"all sectors", "FT_ERR_KERNEL_TRUNCATED", [](H& h) { h.setup_sects = 255; }},
      {"code on top of the header", "FT_ERR_KERNEL_LAYOUT",
       [](H& h) {
         h.setup_sects = 1;
         h.header_length = 0xff;
         h.syssize = 0x20;
       }},
      {"no code", "FT_ERR_KERNEL_LAYOUT", [](H& h) { h.syssize = 0; }},
      {"code that ends before the entry", "FT_ERR_KERNEL_LAYOUT", [](H& h) { h.syssize = 0x20; }},
      {"code without end", "FT_ERR_KERNEL_TRUNCATED", [](H& h) { h.syssize = ~0u; }},
      {"no alignment", "FT_ERR_KERNEL_LAYOUT", [](H& h) { h.kernel_alignment = 0; }},
      {"odd alignment", "FT_ERR_KERNEL_LAYOUT", [](H& h) { h.kernel_alignment = 0x300000; }},
      {"alignment beyond memory", "FT_ERR_KERNEL_TOO_LARGE",
       [](H& h) { h.kernel_alignment = 1u << 31; }},
      {"fixed below 1 MiB", "FT_ERR_KERNEL_LAYOUT",
       [](H& h) {
         h.relocatable_kernel = 0;
         h.pref_address = 0x90000;
       }},
      {"fixed beyond memory", "FT_ERR_KERNEL_TOO_LARGE",
       [](H& h) {
         h.relocatable_kernel = 0;
         h.pref_address = kMemoryBytes;
       }},
      {"an address that wraps", "FT_ERR_KERNEL_TOO_LARGE", [](H& h) { h.pref_address = ~0ull; }},
      {"a fixed address that wraps", "FT_ERR_KERNEL_TOO_LARGE",
       [](H& h) {
         h.relocatable_kernel = 0;
         h.pref_address = ~0ull;
       }},
      {"init_size beyond memory", "FT_ERR_KERNEL_TOO_LARGE", [](H& h) { h.init_size = ~0u; }},
      {"init_size a byte too large", "FT_ERR_KERNEL_TOO_LARGE",
       [](H& h) { h.init_size = kMemoryBytes - kPreferred + 1; }},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.name));
    GuestMemory memory = make_memory(kMemoryBytes);
    memory.set_tracking(true);
    check_code(load_changed(memory, c.change), c.code);
    CHECK(memory.dirty_gfns().empty());  // nothing was placed
  }
  GuestMemory memory = make_memory(kMemoryBytes);
  CHECK(load_changed(memory, [](H& h) { h.init_size = kMemoryBytes - kPreferred; }).ok());
}

TEST_CASE("bzimage: too large says what is needed and what there is") {
  GuestMemory memory = make_memory(2 << 20);
  const auto result = load(memory, make_image(sound_header()));
  check_code(result, "FT_ERR_KERNEL_TOO_LARGE");
  CHECK(result.error().message.find(std::to_string(kPreferred + kInitBytes)) != std::string::npos);
  CHECK(result.error().message.find("2097152") != std::string::npos);
}

TEST_CASE("bzimage: the command line is as long as the kernel takes, and as we have room for") {
  GuestMemory memory = make_memory(kMemoryBytes);
  SetupHeader header = sound_header();
  CHECK(load(memory, make_image(header), std::string(255, 'x')).ok());
  const auto result = load(memory, make_image(header), std::string(256, 'x'));
  check_code(result, "FT_ERR_CMDLINE_TOO_LONG");
  CHECK(result.error().message.find("at most 255") != std::string::npos);
  header.cmdline_size = ~0u;
  CHECK(load(memory, make_image(header), std::string(kCmdlineBytesMax, 'x')).ok());
  check_code(load(memory, make_image(header), std::string(kCmdlineBytesMax + 1, 'x')),
             "FT_ERR_CMDLINE_TOO_LONG");
}

TEST_CASE("bzimage: an initrd lies as high as memory and the kernel allow") {
  struct Case {
    uint32_t addr_max;
    uint64_t end;
  };
  const Case cases[] = {{0x7fffffff, kMemoryBytes}, {0x4fffff, 0x500000}, {0x500800, 0x500000}};
  for (const Case& c : cases) {
    CAPTURE(c.addr_max);
    const File initrd(Bytes(5000, 0xab));
    GuestMemory memory = make_memory(kMemoryBytes);
    SetupHeader header = sound_header();
    header.initrd_addr_max = c.addr_max;
    REQUIRE(load(memory, make_image(header), "", initrd.path).ok());
    CHECK(+placed_header(memory).ramdisk_image == c.end - 8192);
    CHECK(+placed_header(memory).ramdisk_size == 5000);
    CHECK(peek<uint8_t>(memory, c.end - 8192) == 0xab);
    CHECK(peek<uint8_t>(memory, c.end - 8193) == 0);
    CHECK(peek<uint8_t>(memory, c.end - 8192 + 5000) == 0);
  }
}

TEST_CASE("bzimage: an initrd without room between the kernel and its limit is refused") {
  const uint64_t room = 0x300000 - (kPreferred + kInitBytes);
  SetupHeader header = sound_header();
  header.initrd_addr_max = 0x2fffff;
  GuestMemory memory = make_memory(kMemoryBytes);
  CHECK(load(memory, make_image(header), "", File(Bytes(room, 1)).path).ok());
  const auto result = load(memory, make_image(header), "", File(Bytes(room + 1, 1)).path);
  check_code(result, "FT_ERR_INITRD_TOO_LARGE");
  CHECK(result.error().message.find(std::to_string(room + 1)) != std::string::npos);
  header.initrd_addr_max = 0;
  check_code(load(memory, make_image(header), "", File(Bytes(1, 1)).path),
             "FT_ERR_INITRD_TOO_LARGE");
  check_code(load(memory, make_image(header), "", "/no/such/initrd"), "FT_ERR_INITRD_OPEN");
}

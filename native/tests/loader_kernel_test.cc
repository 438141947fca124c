// Telling kernels apart by what their files begin with, and naming what is none.
#include <doctest/doctest.h>
#include <elf.h>

#include <string>
#include <utility>

#include "loader_support.h"
#include "machine/boot_params.h"
#include "machine/kernel_loader.h"
#include "machine/memory_layout.h"

using namespace ft;        // NOLINT: the test is about this namespace
using namespace ft::test;  // NOLINT

namespace {

Result<BootEntry> load(const Bytes& image) {
  GuestMemory memory = make_memory();
  const File file(image);
  return load_kernel(memory, {file.path, "", ""});
}

Bytes text(std::string_view words, size_t at = 0, size_t bytes = 4096) {
  Bytes image(bytes);
  std::memcpy(image.data() + at, words.data(), words.size());
  return image;
}

}  // namespace

TEST_CASE("kernel: an ELF goes to one loader, a setup header to the other") {
  Bytes bzimage(4096);
  SetupHeader header = {};
  header.setup_sects = 1;
  header.syssize = (4096 - 1024) / 16;
  header.boot_flag = kBootFlag;
  header.magic = kSetupMagic;
  header.header_length = 0x66;
  header.version = kBootProtocolMin;
  header.loadflags = kLoadedHigh;
  header.xloadflags = kXlfKernel64;
  header.pref_address = 0x100000;
  put(bzimage, kSetupHeaderAt, header);
  const auto entry = load(bzimage);
  REQUIRE(entry.ok());
  CHECK(entry.value().protocol == BootProtocol::kLinux64);
  CHECK(entry.value().linux64.rip == 0x100200);

  // An ELF without anything in it has no PVH note, says the PVH loader.
  Elf64_Ehdr elf = {};
  std::memcpy(elf.e_ident, ELFMAG, SELFMAG);
  elf.e_ident[EI_CLASS] = ELFCLASS64;
  elf.e_ident[EI_DATA] = ELFDATA2LSB;
  elf.e_type = ET_EXEC;
  elf.e_machine = EM_X86_64;
  Bytes image;
  put(image, 0, elf);
  check_code(load(image), "FT_ERR_KERNEL_NO_PVH_NOTE");
  elf.e_machine = EM_AARCH64;
  put(image, 0, elf);
  const auto foreign = load(image);
  check_code(foreign, "FT_ERR_KERNEL_ARCH");
  CHECK(foreign.error().message.find("aarch64") != std::string::npos);
}

TEST_CASE("kernel: what is none is refused and called by its name") {
  const auto arm64 = std::string_view("ARM\x64");
  struct Case {
    Bytes image;
    const char* code;
    const char* word;
  };
  const Case cases[] = {
      {{}, "FT_ERR_KERNEL_FORMAT", "empty"},
      {{0x7f, 'E', 'L'}, "FT_ERR_KERNEL_FORMAT", "7f 45 4c"},
      {{0x7f, 'E', 'L', 'F'}, "FT_ERR_KERNEL_TRUNCATED", "ELF header"},
      {text("\x1f\x8b"), "FT_ERR_KERNEL_FORMAT", "gzip"},
      {text("\x28\xb5\x2f\xfd"), "FT_ERR_KERNEL_FORMAT", "zstd"},
      {text("BZh91AY"), "FT_ERR_KERNEL_FORMAT", "bzip2"},
      {text("070701"), "FT_ERR_KERNEL_FORMAT", "cpio"},
      {text("#!/bin/sh"), "FT_ERR_KERNEL_FORMAT", "script"},
      {text("MZ"), "FT_ERR_KERNEL_FORMAT", "EFI"},
      {text(arm64, 56), "FT_ERR_KERNEL_ARCH", "aarch64"},
      {text("RSC\x05", 56), "FT_ERR_KERNEL_ARCH", "RISC-V"},
      {text("hello, world"), "FT_ERR_KERNEL_FORMAT", "68 65 6c 6c 6f 2c 20 77"},
      {text("HdrS", 0x202), "FT_ERR_KERNEL_FORMAT", "0xaa55"},
      {text("HdrS", 0x202, 0x206), "FT_ERR_KERNEL_TRUNCATED", "setup header"},
  };
  for (const Case& c : cases) {
    CAPTURE(std::string(c.word));
    const auto result = load(c.image);
    check_code(result, c.code);
    CHECK(result.error().message.find(c.word) != std::string::npos);
  }
}

TEST_CASE("kernel: what cannot be opened says so") {
  GuestMemory memory = make_memory();
  for (const char* path : {"/no/such/kernel", "/", "/dev/null"}) {
    check_code(load_kernel(memory, {path, "", ""}), "FT_ERR_KERNEL_OPEN");
  }
}

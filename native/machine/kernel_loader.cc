// Any kernel that can be booted here, told apart by what its file begins with.
#include "machine/kernel_loader.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "machine/kernel_file.h"

namespace ft {

namespace {

using namespace std::literals;

// As much of a file as its kind is told from.
constexpr size_t kHeadBytes = 0x206;

// What people give by mistake: compressed images, other processors' boot images, no kernel at all.
struct Kind {
  size_t offset;
  std::string_view magic;
  const char* code;
  const char* what;
};
constexpr char kFormat[] = "FT_ERR_KERNEL_FORMAT";
constexpr char kArch[] = "FT_ERR_KERNEL_ARCH";
constexpr Kind kKinds[] = {
    {56, "ARM\x64"sv, kArch, "this is an aarch64 kernel (Image)"},
    {56, "RSC\x05"sv, kArch, "this is a RISC-V kernel (Image)"},
    {36, "\x18\x28\x6f\x01"sv, kArch, "this is an ARM kernel (zImage)"},
    {0, "\x1f\x8b"sv, kFormat, "it is compressed with gzip"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     kFormat, "it is compressed with xz"},
    {0, "\x28\xb5\x2f\xfd"sv, kFormat, "it is compressed with zstd"},
    {0, "\x02\x21\x4c\x18"sv, kFormat, "it is compressed with lz4"},
    {0, "\x04\x22\x4d\x18"sv, kFormat, "it is compressed with lz4"},
    {0, "BZh"sv, kFormat, "it is compressed with bzip2"},
    {0, "\x5d\0\0"sv, kFormat, "it is compressed with lzma"},
    {0, "070701"sv, kFormat, "it is a cpio archive, perhaps an initrd (--initrd)"},
    {0, "#!"sv, kFormat, "it is a script"},
    {0, "MZ"sv, kFormat, "it is a Windows or EFI program without a Linux setup header"},
};

bool begins(std::span<const uint8_t> head, size_t offset, std::string_view magic) {
  return offset + magic.size() <= head.size() &&
         std::memcmp(head.data() + offset, magic.data(), magic.size()) == 0;
}

Error refuse_unknown(const KernelFile& file, std::span<const uint8_t> head) {
  constexpr char kWanted[] =
      "; give a bzImage, or an ELF image (vmlinux) with a PVH entry, for x86-64";
  if (head.empty()) return file.error(kFormat, std::string("it is empty") + kWanted);
  for (const Kind& kind : kKinds) {
    if (begins(head, kind.offset, kind.magic)) {
      return file.error(kind.code, std::string(kind.what) + kWanted);
    }
  }
  std::string found = "it begins with the bytes";
  char byte[8];
  for (const uint8_t b : head.first(std::min<size_t>(head.size(), 8))) {
    std::snprintf(byte, sizeof(byte), " %02x", b);
    found += byte;
  }
  return file.error(kFormat, found + ", as neither an ELF file nor a bzImage does" + kWanted);
}

}  // namespace

Result<BootEntry> load_kernel(GuestMemory& memory, const BootSources& sources) {
  const auto file = KernelFile::open(sources.kernel_path);
  if (!file.ok()) return file.error();
  uint8_t bytes[kHeadBytes];
  const std::span<uint8_t> head(bytes, std::min<uint64_t>(file.value().bytes(), kHeadBytes));
  FT_TRY(file.value().read_at(0, head, "its beginning"));
  BootEntry entry = {};
  if (begins(head, 0,
             "\x7f"
             "ELF"sv)) {
    const auto loaded = load_pvh(memory, file.value(), sources.cmdline, sources.initrd_path);
    if (!loaded.ok()) return loaded.error();
    entry.protocol = BootProtocol::kPvh;
    entry.pvh = loaded.value();
    return entry;
  }
  if (begins(head, 0x202, "HdrS"sv)) {
    const auto loaded = load_bzimage(memory, file.value(), sources.cmdline, sources.initrd_path);
    if (!loaded.ok()) return loaded.error();
    entry.protocol = BootProtocol::kLinux64;
    entry.linux64 = loaded.value();
    return entry;
  }
  return refuse_unknown(file.value(), head);
}

Status enter_kernel(Vcpu& vcpu, const BootEntry& entry) {
  switch (entry.protocol) {
    case BootProtocol::kPvh:
      return vcpu.set_pvh_entry(entry.pvh.entry, entry.pvh.start_info_gpa);
    case BootProtocol::kLinux64:
      return vcpu.set_long_mode_entry(entry.linux64);
  }
  FT_CHECK(false, "a boot protocol that nobody knows");
}

}  // namespace ft

// Hostile kernel images: whatever the file says, loading it writes nothing outside guest memory and
// ends in an entry that lies inside it, or in an error with words.
//
//   byte 0, mod 3 = 0   the rest is the file as it stands
//                   1   a sound bzImage, damaged: the rest says how (position, value)
//                   2   a sound ELF with a PVH note, damaged likewise
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/unique_fd.h"
#include "fuzz_input.h"
#include "machine/boot_params.h"
#include "machine/guest_memory.h"
#include "machine/kernel_loader.h"

namespace {

using Bytes = std::vector<uint8_t>;

constexpr uint64_t kMemoryBytes = 4 << 20;
constexpr size_t kCodeBytes = 0x800;

template <typename T>
void put(Bytes& bytes, size_t at, const T& value) {
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

Bytes sound_bzimage() {
  Bytes image(1024 + kCodeBytes, 0x90);
  ft::SetupHeader header = {};
  header.setup_sects = 1;
  header.syssize = kCodeBytes / 16;
  header.boot_flag = ft::kBootFlag;
  header.magic = ft::kSetupMagic;
  header.header_length = 0x66;
  header.version = ft::kBootProtocolMin;
  header.loadflags = ft::kLoadedHigh;
  header.xloadflags = ft::kXlfKernel64;
  header.relocatable_kernel = 1;
  header.kernel_alignment = 0x1000;
  header.cmdline_size = 64;
  header.initrd_addr_max = 0x7fffffff;
  header.pref_address = 0x100000;
  header.init_size = 0x2000;
  put(image, ft::kSetupHeaderAt, header);
  return image;
}

Bytes sound_elf() {
  Bytes image(0x200 + kCodeBytes, 0x90);
  Elf64_Ehdr header = {};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_machine = EM_X86_64;
  header.e_phoff = sizeof(header);
  header.e_phentsize = sizeof(Elf64_Phdr);
  header.e_phnum = 2;
  put(image, 0, header);
  Elf64_Phdr text = {};
  text.p_type = PT_LOAD;
  text.p_offset = 0x200;
  text.p_paddr = 0x100000;
  text.p_filesz = text.p_memsz = kCodeBytes;
  put(image, sizeof(header), text);
  Elf64_Phdr note = {};
  note.p_type = PT_NOTE;
  note.p_offset = 0x100;
  note.p_filesz = 24;
  note.p_align = 4;
  put(image, sizeof(header) + sizeof(text), note);
  put(image, 0x100, Elf64_Nhdr{4, 8, 18});
  std::memcpy(image.data() + 0x10c, "Xen", 4);
  put<uint64_t>(image, 0x110, 0x100010);
  return image;
}

void damage(Bytes& image, ft::fuzz::Input& input) {
  while (!input.empty()) {
    const size_t at = input.number<uint16_t>() % (0x300 + 1);
    const auto value = input.number<uint8_t>();
    if (at == 0x300) {
      image.resize(image.size() * value / 255);
    } else if (at < image.size()) {
      image[at] = value;
    }
  }
}

void load(const Bytes& image, bool with_initrd) {
  const ft::UniqueFd fd(::memfd_create("kernel", MFD_CLOEXEC));
  FT_CHECK(fd.valid(), "no memfd");
  FT_CHECK(::write(fd.get(), image.data(), image.size()) == static_cast<ssize_t>(image.size()),
           "a memfd that does not take its bytes");
  const std::string path = "/proc/self/fd/" + std::to_string(fd.get());
  auto memory = ft::GuestMemory::create(kMemoryBytes);
  FT_CHECK(memory.ok(), "no guest memory");
  const auto entry = ft::load_kernel(
      memory.value(), {path, with_initrd ? path : std::string(), "console=ttyS0 quiet"});
  if (!entry.ok()) {
    FT_CHECK(!entry.error().message.empty(), "an error without a word");
    return;
  }
  const bool pvh = entry.value().protocol == ft::BootProtocol::kPvh;
  const uint64_t rip = pvh ? entry.value().pvh.entry : entry.value().linux64.rip;
  FT_CHECK(rip < kMemoryBytes, "an entry outside guest memory");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static const Bytes bzimage = sound_bzimage();
  static const Bytes elf = sound_elf();
  ft::fuzz::Input input(data, bytes);
  const auto first = input.number<uint8_t>();
  Bytes image;
  if (first % 3 == 0) {
    const auto rest = input.rest();
    image.assign(rest.begin(), rest.end());
  } else {
    image = first % 3 == 1 ? bzimage : elf;
    damage(image, input);
  }
  load(image, (first & 0x80) != 0);
  return 0;
}

// Guest memory: a memfd mapped once; every access checked, every write of ours marked.
#include "machine/guest_memory.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

namespace ft {

namespace {

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kMemoryBytesMin = 1ull << 20;

Error size_error(uint64_t bytes, const std::string& why) {
  return Error{"FT_ERR_MEMORY_SIZE", 0,
               "guest memory of " + std::to_string(bytes) + " bytes is not possible: " + why};
}

// To give pages back takes the system about 200 ms a GiB. So much of it is done at once.
constexpr uint64_t kClearBytesMax = 4ull << 20;
// And the thread that does it otherwise holds up this process's other mappings so long at a time.
constexpr uint64_t kUnmapBytes = 16ull << 20;

Result<UniqueFd> make_file(uint64_t bytes) {
  UniqueFd fd(static_cast<int>(::memfd_create("guest-memory", MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  if (!fd.valid()) return sys_error("FT_ERR_MAP", "cannot create guest memory (memfd)");
  if (::ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return sys_error("FT_ERR_MAP",
                     "cannot give guest memory its size of " + std::to_string(bytes) + " bytes");
  }
  // Whoever else gets the descriptor cannot shrink the file under our mapping.
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return sys_error("FT_ERR_MAP", "cannot seal the size of guest memory");
  }
  return fd;
}

// A guest's memory has no place in a core file; a kernel that cannot exclude it does no harm.
void keep_out_of_core_files(uint8_t* base, uint64_t bytes) {
  (void)::madvise(base, bytes, MADV_DONTDUMP);
}

// A mapping that nobody needs any more, and the file behind it.
struct OldMemory {
  UniqueFd file;
  uint8_t* at;
  uint64_t bytes;
};

void* unmap(void* argument) {
  const std::unique_ptr<OldMemory> old(static_cast<OldMemory*>(argument));
  for (uint64_t done = 0; done < old->bytes; done += kUnmapBytes) {
    ::munmap(old->at + done, std::min(kUnmapBytes, old->bytes - done));
  }
  return nullptr;
}

// On a thread of its own, or, where the system has none to give, here. Whoever ends this process
// meanwhile ends the thread with it: it owns nothing but what the system takes back then too.
void unmap_aside(OldMemory memory) {
  auto old = std::make_unique<OldMemory>(std::move(memory));
  pthread_t thread;
  if (::pthread_create(&thread, nullptr, unmap, old.get()) != 0) {
    unmap(old.release());
    return;
  }
  static_cast<void>(old.release());  // the thread's now
  ::pthread_detach(thread);
}

Status punch(const UniqueFd& file, uint64_t bytes) {
  constexpr int kHow = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  if (::fallocate(file.get(), kHow, 0, static_cast<off_t>(bytes)) == 0) return Ok{};
  return sys_error("FT_ERR_MAP", "cannot clear guest memory");
}

// What the system reports as MemTotal.
uint64_t host_memory_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  return pages > 0 && page_bytes > 0
             ? static_cast<uint64_t>(pages) * static_cast<uint64_t>(page_bytes)
             : 0;
}

}  // namespace

Result<GuestMemory> GuestMemory::create(uint64_t bytes) {
  if (bytes == 0) return size_error(bytes, "give a size of at least 1 MiB");
  if (bytes % kPageBytes != 0) return size_error(bytes, "the size must be a multiple of 4096");
  if (bytes < kMemoryBytesMin) return size_error(bytes, "the least is 1 MiB");
  if (bytes > kMemoryBytesMax) {
    return size_error(bytes, "at most 3 GiB (" + std::to_string(kMemoryBytesMax) +
                                 " bytes) fit below the device window; memory above it is not "
                                 "supported yet");
  }
  const uint64_t host = host_memory_bytes();
  if (bytes > host) {
    return size_error(bytes, "this host has " + std::to_string(host) + " bytes in all");
  }

  GuestMemory memory;
  auto file = make_file(bytes);
  if (!file.ok()) return file.error();
  memory.fd_ = file.take();
  auto region = MappedRegion::shared(memory.fd_.get(), bytes, 0, "guest memory");
  if (!region.ok()) return region.error();
  memory.region_ = region.take();
  keep_out_of_core_files(memory.region_.data(), bytes);

  memory.bitmap_.assign((memory.page_count() + 63) / 64, 0);
  // Room for every page, so that marking never allocates (the pages of the vector itself are taken
  // only as far as it is filled).
  memory.dirty_.reserve(memory.page_count());
  return memory;
}

Status GuestMemory::clear() {
  if (::lseek(fd_.get(), 0, SEEK_DATA) < 0) return Ok{};  // never written: zero as it is
  const uint64_t bytes = size();
  if (bytes <= kClearBytesMax) return punch(fd_, bytes);
  auto file = make_file(bytes);
  if (!file.ok()) return file.error();
  // The page tables move away, which is quick, and the mapping stays: nobody else gets its place
  // before the new file has it.
  uint8_t* const base = host_base();
  void* const moved = ::mremap(base, bytes, bytes, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, nullptr);
  // Linux before 5.13 does not do that with a shared mapping; it waits for the pages then.
  if (moved == MAP_FAILED) return punch(fd_, bytes);
  constexpr int kAccess = PROT_READ | PROT_WRITE;
  FT_CHECK(::mmap(base, bytes, kAccess, MAP_SHARED | MAP_FIXED, file.value().get(), 0) == base,
           "the place of guest memory is lost");
  keep_out_of_core_files(base, bytes);
  unmap_aside({std::exchange(fd_, file.take()), static_cast<uint8_t*>(moved), bytes});
  return Ok{};
}

bool GuestMemory::read(uint64_t gpa, std::span<uint8_t> out) const {
  if (!contains(gpa, out.size())) return false;
  if (!out.empty()) std::memcpy(out.data(), region_.data() + gpa, out.size());
  return true;
}

bool GuestMemory::write(uint64_t gpa, std::span<const uint8_t> bytes) {
  if (!contains(gpa, bytes.size())) return false;
  if (bytes.empty()) return true;
  std::memcpy(region_.data() + gpa, bytes.data(), bytes.size());
  mark_range(gpa, bytes.size());
  return true;
}

bool GuestMemory::load_acquire(uint64_t gpa, uint16_t* out) const {
  if (gpa % 2 != 0 || !contains(gpa, 2)) return false;
  *out = __atomic_load_n(reinterpret_cast<const uint16_t*>(region_.data() + gpa), __ATOMIC_ACQUIRE);
  return true;
}

bool GuestMemory::store_release(uint64_t gpa, uint16_t value) {
  if (gpa % 2 != 0 || !contains(gpa, 2)) return false;
  __atomic_store_n(reinterpret_cast<uint16_t*>(region_.data() + gpa), value, __ATOMIC_RELEASE);
  mark_dirty(gpa / kPageBytes);
  return true;
}

std::span<const uint8_t> GuestMemory::view(uint64_t gpa, uint64_t bytes) const {
  if (!contains(gpa, bytes)) return {};
  return {region_.data() + gpa, bytes};
}

std::span<uint8_t> GuestMemory::writable_view(uint64_t gpa, uint64_t bytes) {
  if (!contains(gpa, bytes)) return {};
  if (bytes != 0) mark_range(gpa, bytes);
  return {region_.data() + gpa, bytes};
}

void GuestMemory::mark_range(uint64_t gpa, uint64_t bytes) {
  if (!tracking_) return;
  const uint64_t last = (gpa + bytes - 1) / kPageBytes;
  for (uint64_t gfn = gpa / kPageBytes; gfn <= last; gfn++) mark_dirty(gfn);
}

void GuestMemory::mark_dirty(uint64_t gfn) {
  if (!tracking_) return;
  FT_CHECK(gfn < page_count(), "a page outside guest memory was marked");
  uint64_t& word = bitmap_[gfn / 64];
  const uint64_t bit = 1ull << (gfn % 64);
  if ((word & bit) != 0) return;
  word |= bit;
  dirty_.push_back(static_cast<uint32_t>(gfn));
}

void GuestMemory::clear_dirty() {
  for (const uint32_t gfn : dirty_) bitmap_[gfn / 64] &= ~(1ull << (gfn % 64));
  dirty_.clear();
}

void GuestMemory::set_tracking(bool on) {
  if (on == tracking_) return;
  clear_dirty();
  tracking_ = on;
}

}  // namespace ft

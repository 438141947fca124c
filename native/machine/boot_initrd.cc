// Puts an initial RAM disk into guest memory, as high as it goes.
#include "machine/boot_initrd.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/unique_fd.h"

namespace ft {

namespace {

constexpr uint64_t kPageBytes = 4096;

Error open_error(const std::string& path, const std::string& what) {
  return Error{"FT_ERR_INITRD_OPEN", 0, "initrd " + path + ": " + what};
}

Error too_large(const std::string& path, uint64_t file_bytes, uint64_t has) {
  return Error{"FT_ERR_INITRD_TOO_LARGE", 0,
               "initrd " + path + ": it needs " + std::to_string(file_bytes) +
                   " bytes of guest memory, but beside the kernel the guest has " +
                   std::to_string(has) + "; give the guest more memory or use a smaller initrd"};
}

}  // namespace

Result<InitrdRange> load_initrd(GuestMemory& memory, const std::string& path, uint64_t free_from,
                                uint64_t end_max) {
  FT_CHECK(end_max <= memory.size(), "an initrd beyond guest memory");
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return sys_error("FT_ERR_INITRD_OPEN", "cannot open initrd " + path);
  struct stat st = {};
  if (::fstat(fd.get(), &st) != 0) {
    return sys_error("FT_ERR_INITRD_OPEN", "cannot look at initrd " + path);
  }
  if (!S_ISREG(st.st_mode)) return open_error(path, "it is no regular file");
  if (st.st_size <= 0) return open_error(path, "it is empty; give another or leave it out");
  const auto bytes = static_cast<uint64_t>(st.st_size);
  const uint64_t begin_min = (free_from + kPageBytes - 1) / kPageBytes * kPageBytes;
  const uint64_t end = end_max / kPageBytes * kPageBytes;
  const uint64_t has = end > begin_min ? end - begin_min : 0;
  if (bytes > has) return too_large(path, bytes, has);
  // Both ends are page boundaries, so whole pages fit where the bytes do.
  const uint64_t gpa = (end - bytes) / kPageBytes * kPageBytes;
  const std::span<uint8_t> target = memory.writable_view(gpa, bytes);
  size_t done = 0;
  while (done < target.size()) {
    const ssize_t n =
        ::pread(fd.get(), target.data() + done, target.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return sys_error("FT_ERR_INITRD_OPEN", "cannot read initrd " + path);
    if (n == 0) return open_error(path, "it shrank while it was read; start again");
    done += static_cast<size_t>(n);
  }
  return InitrdRange{gpa, bytes};
}

}  // namespace ft

// A kernel image as an open file: reading parts of it, and saying what is wrong with it.
#include "machine/kernel_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace ft {

std::string hex_text(uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

Result<KernelFile> KernelFile::open(const std::string& path) {
  KernelFile file;
  file.path_ = path;
  file.fd_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.fd_.valid()) return sys_error("FT_ERR_KERNEL_OPEN", "cannot open kernel " + path);
  struct stat st = {};
  if (::fstat(file.fd_.get(), &st) != 0) {
    return sys_error("FT_ERR_KERNEL_OPEN", "cannot look at kernel " + path);
  }
  if (!S_ISREG(st.st_mode)) return file.error("FT_ERR_KERNEL_OPEN", "it is no regular file");
  file.bytes_ = static_cast<uint64_t>(st.st_size);
  return file;
}

Status KernelFile::read_at(uint64_t offset, std::span<uint8_t> out, const char* what) const {
  if (!contains(offset, out.size())) return truncated(what);
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return sys_error("FT_ERR_KERNEL_OPEN", "cannot read kernel " + path_);
    if (n == 0) return truncated(what);  // it shrank while we read
    done += static_cast<size_t>(n);
  }
  return Ok{};
}

Error KernelFile::error(const char* code, const std::string& what) const {
  return Error{code, 0, "kernel " + path_ + ": " + what};
}

Error KernelFile::truncated(const std::string& what) const {
  return error("FT_ERR_KERNEL_TRUNCATED", what + " reaches past the end of the file (" +
                                              std::to_string(bytes_) +
                                              " bytes); copy the image again");
}

Error KernelFile::too_large(uint64_t needs_bytes, uint64_t has_bytes) const {
  return error("FT_ERR_KERNEL_TOO_LARGE", "it needs " + std::to_string(needs_bytes) +
                                              " bytes of guest memory, but the guest has " +
                                              std::to_string(has_bytes) +
                                              "; give the guest more memory");
}

Status check_cmdline(const std::string& cmdline, uint64_t bytes_max) {
  if (cmdline.size() <= bytes_max) return Ok{};
  return Error{"FT_ERR_CMDLINE_TOO_LONG", 0,
               "the kernel command line, with the devices that are added to it, has " +
                   std::to_string(cmdline.size()) + " bytes; this kernel takes at most " +
                   std::to_string(bytes_max) + "; make --cmdline shorter"};
}

}  // namespace ft

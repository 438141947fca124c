// What the tests of the kernel loaders share: images as bytes, files that only this process can
// name, fresh guest memory and looking into it.
#pragma once

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/unique_fd.h"
#include "machine/guest_memory.h"

namespace ft::test {

using Bytes = std::vector<uint8_t>;

template <typename T>
void put(Bytes& bytes, size_t at, const T& value) {
  if (bytes.size() < at + sizeof(value)) bytes.resize(at + sizeof(value));
  std::memcpy(bytes.data() + at, &value, sizeof(value));
}

// A file that only this process can name.
struct File {
  UniqueFd fd;
  std::string path;
  explicit File(const Bytes& bytes) : fd(::memfd_create("kernel", MFD_CLOEXEC)) {
    REQUIRE(fd.valid());
    REQUIRE(::write(fd.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    path = "/proc/self/fd/" + std::to_string(fd.get());
  }
};

inline GuestMemory make_memory(uint64_t bytes = 4 << 20) {
  auto memory = GuestMemory::create(bytes);
  REQUIRE(memory.ok());
  return memory.take();
}

template <typename T>
T peek(const GuestMemory& memory, uint64_t gpa) {
  T value = {};
  REQUIRE(memory.read_value(gpa, &value));
  return value;
}

template <typename T>
void check_code(const Result<T>& result, const char* code) {
  REQUIRE_FALSE(result.ok());
  CHECK(std::string(result.error().code) == code);
}

}  // namespace ft::test

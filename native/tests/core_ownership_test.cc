// The owners of core/: errors as values, file descriptors and mappings that close exactly once.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/mman.h>

#include <memory>
#include <string>

#include "core/mapped_region.h"
#include "core/result.h"
#include "core/unique_fd.h"

namespace {

bool fd_is_open(int fd) {
  return ::fcntl(fd, F_GETFD) >= 0;
}

int open_null() {
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  return fd;
}

ft::Status fails_when(bool fail) {
  if (fail) return ft::Error{"FT_ERR_TEST", 0, "it was asked to fail"};
  return ft::Ok{};
}

ft::Result<int> passes_on(bool fail) {
  FT_TRY(fails_when(fail));
  return 7;
}

}  // namespace

TEST_CASE("a result holds a value or an error, and FT_TRY passes the error on") {
  auto good = passes_on(false);
  REQUIRE(good.ok());
  CHECK(good.value() == 7);
  auto bad = passes_on(true);
  REQUIRE_FALSE(bad.ok());
  CHECK(std::string(bad.error().code) == "FT_ERR_TEST");
  CHECK(bad.error().message == "it was asked to fail");
}

TEST_CASE("a result can carry what cannot be copied") {
  ft::Result<std::unique_ptr<int>> held(std::make_unique<int>(3));
  REQUIRE(held.ok());
  const std::unique_ptr<int> taken = held.take();
  CHECK(*taken == 3);
}

TEST_CASE("sys_error words the errno") {
  errno = ENOENT;
  const ft::Error e = ft::sys_error("FT_ERR_TEST", "cannot open /nowhere");
  CHECK(e.sys_errno == ENOENT);
  CHECK(e.message == "cannot open /nowhere: No such file or directory");
}

TEST_CASE("a descriptor is closed once, by its last owner") {
  const int fd = open_null();
  {
    ft::UniqueFd first(fd);
    ft::UniqueFd second(std::move(first));
    CHECK_FALSE(first.valid());  // NOLINT: the moved-from state is what is tested
    CHECK(second.get() == fd);
    CHECK(fd_is_open(fd));
  }
  CHECK_FALSE(fd_is_open(fd));
}

TEST_CASE("assigning to a descriptor closes the one it held") {
  const int a = open_null();
  const int b = open_null();
  ft::UniqueFd owner(a);
  owner = ft::UniqueFd(b);
  CHECK_FALSE(fd_is_open(a));
  CHECK(fd_is_open(b));
  ft::UniqueFd& same = owner;
  owner = std::move(same);
  CHECK(owner.get() == b);
  owner.reset();
  CHECK_FALSE(fd_is_open(b));
}

TEST_CASE("a shared mapping sees the file, and a failed one says what it was for") {
  const int fd = ::memfd_create("test", MFD_CLOEXEC);
  REQUIRE(fd >= 0);
  ft::UniqueFd owner(fd);
  REQUIRE(::ftruncate(fd, 8192) == 0);
  auto region = ft::MappedRegion::shared(fd, 8192, 0, "the test");
  REQUIRE(region.ok());
  region.value().data()[4096] = 42;
  uint8_t byte = 0;
  REQUIRE(::pread(fd, &byte, 1, 4096) == 1);
  CHECK(byte == 42);

  auto refused = ft::MappedRegion::shared(-1, 4096, 0, "the missing file");
  REQUIRE_FALSE(refused.ok());
  CHECK(std::string(refused.error().code) == "FT_ERR_MAP");
  CHECK(refused.error().sys_errno == EBADF);
  CHECK(refused.error().message.find("4096 bytes for the missing file") != std::string::npos);
}

TEST_CASE("an anonymous mapping is zero at first and again after discard") {
  auto made = ft::MappedRegion::anonymous(1 << 20, "the test");
  REQUIRE(made.ok());
  ft::MappedRegion region = made.take();
  CHECK(region.size() == 1 << 20);
  CHECK(region.data()[12345] == 0);
  region.data()[12345] = 1;
  region.discard();
  CHECK(region.data()[12345] == 0);
  ft::MappedRegion moved(std::move(region));
  CHECK_FALSE(region);  // NOLINT: the moved-from state is what is tested
  CHECK(moved.span().size() == 1 << 20);
  moved.reset();
  CHECK_FALSE(moved);
}

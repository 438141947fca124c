// What the tests of the disks share: images in a directory of their own, a disk pumped until it is
// idle, and waiting with a limit.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "disk/replicated_disk.h"

namespace ft::test {

/// A directory that goes away with its content.
class TempDir {
 public:
  /// Below `parent`: /dev/shm unless the test is about a real file system.
  explicit TempDir(const std::string& parent = "/dev/shm") {
    std::string name = parent + "/romulus-disk-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline void make_image(const std::string& path, uint64_t bytes) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  REQUIRE(fd.valid());
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(bytes)) == 0);
}

inline std::vector<uint8_t> read_file(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(fd.valid());
  struct stat info = {};
  REQUIRE(::fstat(fd.get(), &info) == 0);
  std::vector<uint8_t> content(static_cast<size_t>(info.st_size));
  for (size_t at = 0; at < content.size();) {
    const ssize_t got =
        ::pread(fd.get(), content.data() + at, content.size() - at, static_cast<off_t>(at));
    REQUIRE(got > 0);
    at += static_cast<size_t>(got);
  }
  return content;
}

inline std::shared_ptr<IoBuffer> filled(size_t bytes, uint8_t value) {
  auto buffer = std::make_shared<IoBuffer>(bytes);
  std::memset(buffer->data(), value, bytes);
  return buffer;
}

inline DiskImage open_image(const std::string& path) {
  auto image = DiskImage::open({path, false, 0});
  if (!image) FAIL(image.error().message);
  return image.take();
}

/// A disk with real I/O on `path`, its map beside it.
inline std::unique_ptr<ReplicatedDisk> open_disk(const std::string& path,
                                                 ReplicatedDisk::Hooks hooks = {},
                                                 bool allow_uring = true) {
  DiskImage image = open_image(path);
  auto engine = IoEngine::create(image.fd(), allow_uring);
  REQUIRE(engine.ok());
  auto disk =
      ReplicatedDisk::create(std::move(image), path + ".ftmap", std::move(hooks), engine.take());
  if (!disk) FAIL(disk.error().message);
  return disk.take();
}

/// Pumps until `done`, at most ten seconds.
inline void pump_until(ReplicatedDisk& disk, std::vector<DiskCompletion>& out,
                       const std::function<bool()>& done) {
  for (int round = 0; round < 10'000; round++) {
    disk.pump(out);
    if (done()) return;
    pollfd event = {disk.event_fd(), POLLIN, 0};
    ::poll(&event, 1, 1);
  }
  FAIL("a disk did not get done what was asked of it");
}

/// One request from beginning to end.
inline DiskCompletion run(ReplicatedDisk& disk, IoKind kind, uint64_t offset, uint64_t bytes,
                          std::shared_ptr<IoBuffer> data = nullptr) {
  std::vector<DiskCompletion> out;
  disk.submit(kind, offset, bytes, std::move(data), 77);
  pump_until(disk, out, [&] { return !out.empty(); });
  REQUIRE(out.size() == 1);
  CHECK(out[0].cookie == 77);
  return out[0];
}

}  // namespace ft::test

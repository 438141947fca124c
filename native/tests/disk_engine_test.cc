// The two engines: bytes arrive, holes are made, errors are named, and many operations at once end
// each exactly once.

#include "disk_support.h"

using namespace ft;        // NOLINT: tests of this namespace
using namespace ft::test;  // NOLINT

namespace {

std::vector<IoDone> finish(IoEngine& engine, size_t count) {
  std::vector<IoDone> done;
  for (int round = 0; done.size() < count; round++) {
    REQUIRE(round < 10'000);
    pollfd event = {engine.event_fd(), POLLIN, 0};
    ::poll(&event, 1, 1000);
    engine.reap(done);
  }
  return done;
}

int run_one(IoEngine& engine, IoOp op) {
  op.id = 5;
  engine.submit(op);
  engine.start();
  const auto done = finish(engine, 1);
  CHECK(done[0].id == 5);
  return done[0].error;
}

/// Runs `body` for each engine that there is.
void for_engines(const std::function<void(bool)>& body) {
  for (const bool uring : {false, true}) {
    CAPTURE(uring);
    body(uring);
  }
}

}  // namespace

TEST_CASE("engine: io_uring is taken where the kernel has it, threads when asked for") {
  TempDir dir;
  make_image(dir.file("image"), 8192);
  const DiskImage image = open_image(dir.file("image"));
  CHECK(std::string(IoEngine::create(image.fd(), false).value()->name()) == "threads");
  const auto either = IoEngine::create(image.fd());
  REQUIRE(either.ok());
  MESSAGE("engine: ", std::string(either.value()->name()));
}

TEST_CASE("engine: writes are read back, zeroes make holes, flushes end") {
  for_engines([](bool uring) {
    for (const char* parent : {"/dev/shm", "/tmp"}) {
      TempDir dir(parent);
      make_image(dir.file("image"), 1 << 20);
      const DiskImage image = open_image(dir.file("image"));
      auto engine = IoEngine::create(image.fd(), uring).take();
      CHECK(run_one(*engine, {IoKind::kWrite, 65536, 131072, filled(131072, 7), 0}) == 0);
      CHECK(run_one(*engine, {IoKind::kZero, 65536 + 512, 65536, nullptr, 0}) == 0);
      CHECK(run_one(*engine, {IoKind::kFlush, 0, 0, nullptr, 0}) == 0);
      auto back = filled(262144, 1);
      CHECK(run_one(*engine, {IoKind::kRead, 0, 262144, back, 0}) == 0);
      size_t wrong = 0;
      for (size_t i = 0; i < back->bytes(); i++) {
        const bool written = (i >= 65536 && i < 65536 + 512) || (i >= 131072 + 512 && i < 196608);
        wrong += back->data()[i] != (written ? 7 : 0);
      }
      CHECK(wrong == 0);
      struct stat info = {};
      REQUIRE(::fstat(image.fd(), &info) == 0);
      CHECK(info.st_blocks * 512 < 131072 + 16384);
    }
  });
}

TEST_CASE("engine: reading past an image that has become shorter is an I/O error") {
  for_engines([](bool uring) {
    TempDir dir;
    make_image(dir.file("image"), 1 << 20);
    const DiskImage image = open_image(dir.file("image"));
    auto engine = IoEngine::create(image.fd(), uring).take();
    REQUIRE(::truncate(dir.file("image").c_str(), 4096) == 0);
    CHECK(run_one(*engine, {IoKind::kRead, 0, 8192, filled(8192, 0), 0}) == EIO);
    CHECK(run_one(*engine, {IoKind::kRead, 65536, 8192, filled(8192, 0), 0}) == EIO);
    CHECK(run_one(*engine, {IoKind::kRead, 0, 4096, filled(4096, 0), 0}) == 0);
  });
}

TEST_CASE("engine: a descriptor that cannot be written names its error") {
  for_engines([](bool uring) {
    TempDir dir;
    make_image(dir.file("image"), 1 << 20);
    UniqueFd fd(::open(dir.file("image").c_str(), O_RDONLY | O_CLOEXEC));
    auto engine = IoEngine::create(fd.get(), uring).take();
    CHECK(run_one(*engine, {IoKind::kWrite, 0, 4096, filled(4096, 1), 0}) == EBADF);
    CHECK(run_one(*engine, {IoKind::kZero, 0, 4096, nullptr, 0}) == EBADF);
    CHECK(run_one(*engine, {IoKind::kRead, 0, 4096, filled(4096, 1), 0}) == 0);
  });
}

TEST_CASE("engine: as many operations as there may be, each ends once") {
  for_engines([](bool uring) {
    TempDir dir;
    make_image(dir.file("image"), 4 << 20);
    const DiskImage image = open_image(dir.file("image"));
    auto engine = IoEngine::create(image.fd(), uring).take();
    for (int round = 0; round < 20; round++) {
      for (uint32_t i = 0; i < IoEngine::kDepth; i++) {
        const auto value = static_cast<uint8_t>(round + static_cast<int>(i));
        engine->submit({IoKind::kWrite, i * 4096ull, 4096, filled(4096, value), i});
      }
      engine->start();
      std::vector<bool> seen(IoEngine::kDepth, false);
      for (const IoDone& done : finish(*engine, IoEngine::kDepth)) {
        CHECK(done.error == 0);
        CHECK_FALSE(seen[done.id]);
        seen[done.id] = true;
      }
    }
    const auto content = read_file(dir.file("image"));
    for (uint32_t i = 0; i < IoEngine::kDepth; i++) CHECK(content[i * 4096] == uint8_t(19 + i));
  });
}

TEST_CASE("engine: its end waits for what is under way") {
  for_engines([](bool uring) {
    TempDir dir;
    make_image(dir.file("image"), 4 << 20);
    const DiskImage image = open_image(dir.file("image"));
    {
      auto engine = IoEngine::create(image.fd(), uring).take();
      for (uint32_t i = 0; i < IoEngine::kDepth; i++) {
        engine->submit({IoKind::kWrite, i * 4096ull, 4096, filled(4096, 9), i});
      }
      engine->start();
    }
    const auto content = read_file(dir.file("image"));
    for (uint32_t i = 0; i < IoEngine::kDepth; i++) CHECK(content[i * 4096] == 9);
  });
}

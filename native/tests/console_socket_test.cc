// The console's UNIX socket: attaching, replay, one client at a time, input with back pressure, a
// reader that stalls, and socket files left behind.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "machine/console.h"

using namespace ft;  // NOLINT: the test is about this namespace

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kPatienceMs = 5000;

struct Folder {
  std::string path = "/tmp/romulus-console-XXXXXX";
  Folder() { REQUIRE(::mkdtemp(path.data()) != nullptr); }
  ~Folder() {
    ::unlink(socket().c_str());
    ::rmdir(path.c_str());
  }
  std::string socket() const { return path + "/console"; }
};

int connect_to(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
  ::close(fd);
  return -1;
}

// Reads until `wanted` bytes came, the other side closed, or patience ended.
std::string read_bytes(int fd, size_t wanted) {
  std::string text;
  while (text.size() < wanted) {
    pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, kPatienceMs) != 1) break;
    char bytes[65536];
    const ssize_t n = ::read(fd, bytes, std::min(sizeof(bytes), wanted - text.size()));
    if (n <= 0) break;
    text.append(bytes, static_cast<size_t>(n));
  }
  return text;
}

template <typename Done>
bool eventually(Done done) {
  const auto until = Clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (!done()) {
    if (Clock::now() > until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

std::unique_ptr<Console> open_console(const std::string& path, Console::Input input = nullptr) {
  if (!input) input = [](std::span<const uint8_t> bytes) { return bytes.size(); };
  auto made = Console::create({Console::Kind::kUnix, -1, path}, std::move(input));
  REQUIRE(made.ok());
  return made.take();
}

void print(Console& console, const std::string& text) {
  console.write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

// Bytes that tell their position.
std::string pattern(size_t from, size_t bytes) {
  std::string text(bytes, ' ');
  for (size_t i = 0; i < bytes; i++) text[i] = static_cast<char>('a' + (from + i) % 23);
  return text;
}

}  // namespace

TEST_SUITE("threads") {
  TEST_CASE("console: a client sees the last 64 KiB, then what comes; it may leave and come back") {
    const Folder folder;
    auto console = open_console(folder.socket());
    struct stat file {};
    REQUIRE(::stat(folder.socket().c_str(), &file) == 0);
    CHECK((file.st_mode & 0777) == 0600);
    console->set_active(true);
    print(*console, pattern(0, 100'000));
    for (int round = 0; round < 3; round++) {
      CAPTURE(round);
      const size_t written = 100'000 + static_cast<size_t>(round) * 10;
      const UniqueFd client(connect_to(folder.socket()));
      REQUIRE(client.valid());
      CHECK(read_bytes(client.get(), kConsoleReplayBytes) ==
            pattern(written - kConsoleReplayBytes, kConsoleReplayBytes));
      print(*console, pattern(written, 10));
      CHECK(read_bytes(client.get(), 10) == pattern(written, 10));
    }
    console->stop();
    CHECK(::stat(folder.socket().c_str(), &file) != 0);
  }

  TEST_CASE("console: a second client is turned away and told why; the first notices nothing") {
    const Folder folder;
    auto console = open_console(folder.socket());
    console->set_active(true);
    const UniqueFd first(connect_to(folder.socket()));
    print(*console, "one");
    CHECK(read_bytes(first.get(), 3) == "one");
    const UniqueFd second(connect_to(folder.socket()));
    CHECK(read_bytes(second.get(), 1000).find("another client is attached") != std::string::npos);
    print(*console, "two");
    CHECK(read_bytes(first.get(), 3) == "two");
  }

  TEST_CASE("console: on a standby there is one line; input goes nowhere until the guest is here") {
    const Folder folder;
    std::string typed;
    std::mutex mutex;
    auto console = open_console(folder.socket(), [&](std::span<const uint8_t> bytes) {
      const std::lock_guard lock(mutex);
      typed.append(bytes.begin(), bytes.end());
      return bytes.size();
    });
    const UniqueFd client(connect_to(folder.socket()));
    const std::string line = read_bytes(client.get(), 82);
    CHECK(line.find("standby; the guest runs elsewhere") != std::string::npos);
    REQUIRE(::write(client.get(), "lost", 4) == 4);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    console->set_active(true);
    print(*console, "here");
    CHECK(read_bytes(client.get(), 4) == "here");
    REQUIRE(::write(client.get(), "kept", 4) == 4);
    CHECK(eventually([&] {
      const std::lock_guard lock(mutex);
      return typed == "kept";
    }));
  }

  TEST_CASE("console: input waits for room and arrives whole, in order") {
    const Folder folder;
    std::string typed;
    size_t room = 0;
    std::mutex mutex;
    auto console = open_console(folder.socket(), [&](std::span<const uint8_t> bytes) {
      const std::lock_guard lock(mutex);
      const size_t n = std::min(room, bytes.size());
      typed.append(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(n));
      room -= n;
      return n;
    });
    console->set_active(true);
    const UniqueFd client(connect_to(folder.socket()));
    const std::string all = pattern(0, 10'000);
    REQUIRE(::write(client.get(), all.data(), all.size()) == static_cast<ssize_t>(all.size()));
    CHECK(eventually([&] {
      const std::lock_guard lock(mutex);
      room += 7;
      console->input_room();
      return typed.size() >= all.size();
    }));
    CHECK(typed == all);
  }

  TEST_CASE("console: a client that only listens from now on keeps listening") {
    const Folder folder;
    auto console = open_console(folder.socket());
    console->set_active(true);
    const UniqueFd client(connect_to(folder.socket()));
    REQUIRE(::shutdown(client.get(), SHUT_WR) == 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    print(*console, "still");
    CHECK(read_bytes(client.get(), 5) == "still");
  }

  TEST_CASE("console: a reader that stalls holds nobody up and is told what it missed") {
    const Folder folder;
    auto console = open_console(folder.socket());
    console->set_active(true);
    const UniqueFd client(connect_to(folder.socket()));
    print(*console, "x");
    CHECK(read_bytes(client.get(), 1) == "x");
    const auto start = Clock::now();
    const size_t pieces = 4 * kConsoleRingBytes / 10'000;
    for (size_t i = 0; i < pieces; i++) print(*console, pattern(i * 10'000, 10'000));
    print(*console, "THE END");
    CHECK(Clock::now() - start < std::chrono::seconds(3));
    std::string text;
    while (text.find("THE END") == std::string::npos) {
      const std::string more = read_bytes(client.get(), 1);
      if (more.empty()) break;
      text += more;
      pollfd ready{.fd = client.get(), .events = POLLIN, .revents = 0};
      if (::poll(&ready, 1, 0) == 1) text += read_bytes(client.get(), 1 + 4096);
      if (text.size() > 8 * kConsoleRingBytes) break;
    }
    CHECK(text.find("THE END") != std::string::npos);
    CHECK(text.find("bytes of output were skipped here") != std::string::npos);
    CHECK(text.size() >= kConsoleRingBytes);
  }
}

TEST_CASE("console: a socket file that nobody listens on is replaced, others are not touched") {
  const Folder folder;
  const std::string path = folder.socket();
  {
    // What a killed process leaves behind.
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    REQUIRE(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
  }
  const auto take = [](std::span<const uint8_t> bytes) { return bytes.size(); };
  {
    auto console = open_console(path);
    const auto second = Console::create({Console::Kind::kUnix, -1, path}, take);
    REQUIRE_FALSE(second.ok());
    CHECK(std::string(second.error().code) == "FT_ERR_CONSOLE");
    CHECK(second.error().message.find("another process listens") != std::string::npos);
    const UniqueFd client(connect_to(path));
    CHECK(client.valid());  // the first one still answers
  }
  {
    const UniqueFd file(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
    const auto refused = Console::create({Console::Kind::kUnix, -1, path}, take);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().message.find("is no socket") != std::string::npos);
    struct stat there {};
    CHECK(::stat(path.c_str(), &there) == 0);
  }
  const auto missing = Console::create({Console::Kind::kUnix, -1, path + "/no/such"}, take);
  CHECK_FALSE(missing.ok());
  const auto longer =
      Console::create({Console::Kind::kUnix, -1, "/tmp/" + std::string(200, 'x')}, take);
  REQUIRE_FALSE(longer.ok());
  CHECK(longer.error().message.find("shorter") != std::string::npos);
}

TEST_CASE("console: a plain file gets everything at once") {
  char path[] = "/tmp/romulus-console-file-XXXXXX";
  const UniqueFd file(::mkstemp(path));
  auto made = Console::create({Console::Kind::kFile, file.get(), {}}, nullptr);
  REQUIRE(made.ok());
  const std::string text = pattern(0, 3 * kConsoleRingBytes);
  print(*made.value(), text);
  struct stat there {};
  REQUIRE(::stat(path, &there) == 0);
  CHECK(static_cast<size_t>(there.st_size) == text.size());
  ::unlink(path);
}

// The keeper of a process's memory: what it holds, whom it outlives, and that a killed process's
// connections end while its memory is still there.
#include "core/memory_keeper.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "core/unique_fd.h"
#include "forbid_call.h"

namespace ft {
namespace {

constexpr size_t kMemoryBytes = 32 << 20;
constexpr int kWaitMs = 10'000;

// A process that has memory, a connection to the test and a keeper.
struct Maker {
  pid_t pid = -1;
  pid_t keeper = -1;
  UniqueFd connection;
};

[[noreturn]] void run_maker(int connection) {
  void* memory =
      ::mmap(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) ::_exit(2);
  std::memset(memory, 1, kMemoryBytes);
  const auto keeper = start_memory_keeper();
  const pid_t pid = keeper.ok() ? keeper.value() : -1;
  if (::write(connection, &pid, sizeof pid) != sizeof pid) ::_exit(3);
  // Until the test says how to end; the test's own end counts, too.
  char how = 'x';
  if (::read(connection, &how, 1) < 0 || how == 'a') {
    ::signal(SIGABRT, SIG_DFL);  // A crash that is meant: the test's framework shall not report it.
    ::abort();
  }
  ::_exit(0);
}

Maker start_maker() {
  // Orphans come to the test, which so sees how keepers end.
  REQUIRE(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
  int ends[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
  Maker maker;
  maker.pid = ::fork();
  REQUIRE(maker.pid >= 0);
  if (maker.pid == 0) {
    ::close(ends[0]);
    run_maker(ends[1]);
  }
  ::close(ends[1]);
  maker.connection = UniqueFd(ends[0]);
  REQUIRE(::read(ends[0], &maker.keeper, sizeof maker.keeper) == sizeof maker.keeper);
  REQUIRE(maker.keeper > 0);
  return maker;
}

std::string proc(pid_t pid, const char* file) {
  return "/proc/" + std::to_string(pid) + "/" + file;
}

// A field of /proc/PID/status; empty when there is none.
std::string status_of(pid_t pid, const std::string& field) {
  std::ifstream file(proc(pid, "status"));
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(field + ":\t")) return line.substr(field.size() + 2);
  }
  return "";
}

std::vector<std::string> descriptors_of(pid_t pid) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(proc(pid, "fd"))) {
    std::error_code gone;
    names.push_back(std::filesystem::read_symlink(entry.path(), gone).string());
  }
  return names;
}

// The keeper makes itself ready after the maker has gone on.
void await_keeper(pid_t keeper) {
  for (int i = 0; i < kWaitMs; i++) {
    if (status_of(keeper, "Name") == "ft-keeper" && descriptors_of(keeper).size() == 1 &&
        ::getsid(keeper) == keeper) {
      return;
    }
    ::usleep(1000);
  }
  FAIL("the keeper did not become ready");
}

// Whether the process ended within the time; it is reaped.
bool ends(pid_t pid) {
  for (int i = 0; i < kWaitMs; i++) {
    const pid_t ended = ::waitpid(pid, nullptr, WNOHANG | __WALL);
    if (ended == pid || (ended < 0 && errno == ECHILD && ::kill(pid, 0) != 0)) return true;
    ::usleep(1000);
  }
  return false;
}

bool closed(const UniqueFd& connection) {
  pollfd wait{connection.get(), POLLIN, 0};
  char byte = 0;
  return ::poll(&wait, 1, kWaitMs) == 1 && ::read(connection.get(), &byte, 1) <= 0;
}

}  // namespace

TEST_CASE("the keeper has the memory and nothing else") {
  const Maker maker = start_maker();
  await_keeper(maker.keeper);
  CHECK(descriptors_of(maker.keeper) == std::vector<std::string>{"anon_inode:[pidfd]"});
  CHECK(std::stol(status_of(maker.keeper, "VmRSS")) >= static_cast<long>(kMemoryBytes >> 10));
  CHECK(status_of(maker.keeper, "Threads") == "1");
  // All but SIGKILL, SIGSTOP and the two that the C library keeps to itself.
  const unsigned long blocked = std::stoul(status_of(maker.keeper, "SigBlk"), nullptr, 16);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGUSR1, SIGSEGV}) {
    CHECK((blocked & (1UL << (signal - 1))) != 0);
  }
  CHECK(::getsid(maker.keeper) == maker.keeper);
  CHECK(::kill(maker.keeper, SIGTERM) == 0);
  CHECK(::kill(maker.pid, SIGKILL) == 0);
  CHECK(ends(maker.pid));
  CHECK(ends(maker.keeper));
}

TEST_CASE("a killed process's connections end while its memory is still there") {
  const Maker maker = start_maker();
  await_keeper(maker.keeper);
  REQUIRE(::kill(maker.keeper, SIGSTOP) == 0);
  REQUIRE(::kill(maker.pid, SIGKILL) == 0);
  CHECK(closed(maker.connection));
  CHECK(ends(maker.pid));
  CHECK(std::stol(status_of(maker.keeper, "VmRSS")) >= static_cast<long>(kMemoryBytes >> 10));
  REQUIRE(::kill(maker.keeper, SIGCONT) == 0);
  CHECK(ends(maker.keeper));
}

TEST_CASE("the keeper ends with its process, however that ends") {
  for (const char how : {'e', 'a'}) {
    const Maker maker = start_maker();
    CHECK(::write(maker.connection.get(), &how, 1) == 1);
    CHECK(closed(maker.connection));
    CHECK(ends(maker.pid));
    CHECK(ends(maker.keeper));
  }
}

TEST_CASE("a process whose keeper was killed goes on") {
  const Maker maker = start_maker();
  REQUIRE(::kill(maker.keeper, SIGKILL) == 0);
  ::usleep(20'000);
  CHECK(::kill(maker.pid, 0) == 0);
  const char how = 'e';
  CHECK(::write(maker.connection.get(), &how, 1) == 1);
  CHECK(closed(maker.connection));
  CHECK(ends(maker.pid));
}

TEST_CASE("where nothing that is open may be closed, there is an error and no keeper") {
  const int result = test::in_child([] {
    if (!test::forbid_call(SYS_close_range, EPERM)) return 2;
    const auto keeper = start_memory_keeper();
    if (keeper.ok() || keeper.error().sys_errno != EPERM) return 3;
    // No child, living or dead.
    return ::waitpid(-1, nullptr, WNOHANG | __WALL) < 0 && errno == ECHILD ? 0 : 4;
  });
  CHECK(result == 0);
}

}  // namespace ft

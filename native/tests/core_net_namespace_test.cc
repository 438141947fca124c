// Errands into another network namespace: what happens there, who stays here, and what is said when
// it cannot be entered.
#include "core/net_namespace.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "core/unique_fd.h"
#include "net_namespace_support.h"

namespace ft {
namespace {

// The number of the namespace that the calling thread is in.
ino_t here() {
  struct stat facts = {};
  REQUIRE(::stat(kOwnNetNamespace, &facts) == 0);
  return facts.st_ino;
}

std::string code_of(const std::string& name) {
  bool ran = false;
  const auto status = in_net_namespace(name, [&] { ran = true; });
  CHECK_FALSE(ran);
  return status.ok() ? "none" : status.error().code;
}

}  // namespace

TEST_CASE("net namespace: names are of ip netns, paths are themselves") {
  CHECK(net_namespace_path("lan") == "/run/netns/lan");
  CHECK(net_namespace_path("/proc/7/ns/net") == "/proc/7/ns/net");
}

TEST_CASE("net namespace: without a name the caller does the work itself") {
  std::thread::id worker;
  REQUIRE(in_net_namespace("", [&] { worker = std::this_thread::get_id(); }).ok());
  CHECK(worker == std::this_thread::get_id());
}

TEST_CASE("net namespace: what is no namespace is refused, and nothing is done") {
  for (const std::string& name : {std::string("a/b"), std::string(".."), std::string("."),
                                  std::string("a\0b", 3), std::string("/a\0b", 4)}) {
    CHECK(code_of(name) == "FT_ERR_NETNS_NAME");
  }
  CHECK(code_of("no-such-namespace") == "FT_ERR_NETNS_MISSING");
  CHECK(code_of("/no/such/namespace") == "FT_ERR_NETNS_MISSING");
  const auto status = in_net_namespace("no-such-namespace", [] {});
  CHECK(status.error().message.find("ip netns add no-such-namespace") != std::string::npos);
  // With the right to enter one, a file that is none is told apart; without, there is no right.
  const std::string code = code_of("/dev/null");
  CHECK((code == "FT_ERR_NETNS" || code == "FT_ERR_NETNS_PERMISSION"));
}

TEST_CASE("net namespace: the errand is there, the caller stays") {
  const UniqueFd other = make_net_namespace();
  if (!other.valid()) {
    MESSAGE("left out: making a network namespace with a TAP needs root and /dev/net/tun");
    return;
  }
  const std::string path = "/proc/self/fd/" + std::to_string(other.get());
  const ino_t before = here();
  ino_t there = 0;
  REQUIRE(in_net_namespace(path, [&] { there = here(); }).ok());
  CHECK(here() == before);
  CHECK(there != before);
  struct stat facts = {};
  REQUIRE(::fstat(other.get(), &facts) == 0);
  CHECK(there == facts.st_ino);
}

TEST_CASE("net namespace: who has no right to enter is told so") {
  const UniqueFd other = make_net_namespace();
  if (!other.valid()) return;
  // A child without root: what it may not do, nobody without root may.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(2);
    const std::string path = "/proc/self/fd/" + std::to_string(other.get());
    const auto status = in_net_namespace(path, [] {});
    ::_exit(!status.ok() && std::string(status.error().code) == "FT_ERR_NETNS_PERMISSION" ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace ft

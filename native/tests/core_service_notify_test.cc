// Words to a supervisor, received at real sockets: by path, by abstract name, and not at all.
#include "core/service_notify.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "core/unique_fd.h"

namespace ft {
namespace {

std::string unique_name() {
  static int count = 0;
  return "/tmp/ft-notify-" + std::to_string(::getpid()) + "-" + std::to_string(count++);
}

// A supervisor's socket at `address`, a path or '@' and a name.
UniqueFd listen_at(const std::string& address) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un at = {};
  at.sun_family = AF_UNIX;
  std::memcpy(at.sun_path, address.data(), address.size());
  size_t length = offsetof(sockaddr_un, sun_path) + address.size();
  if (address.front() == '@') {
    at.sun_path[0] = '\0';
  } else {
    length += 1;
  }
  REQUIRE(::bind(fd.get(), reinterpret_cast<sockaddr*>(&at), static_cast<socklen_t>(length)) == 0);
  return fd;
}

std::string received(const UniqueFd& fd) {
  char text[512];
  const ssize_t n = ::recv(fd.get(), text, sizeof text, 0);
  return n < 0 ? "" : std::string(text, static_cast<size_t>(n));
}

}  // namespace

TEST_CASE("service notify: one datagram, byte by byte, by path and by abstract name") {
  const std::string path = unique_name();
  for (const std::string& address : {path, "@" + unique_name().substr(1)}) {
    const UniqueFd supervisor = listen_at(address);
    REQUIRE(service_notify(address, "READY=1\nSTATUS=protected").ok());
    CHECK(received(supervisor) == "READY=1\nSTATUS=protected");
    CHECK(received(supervisor).empty());
  }
  ::unlink(path.c_str());
}

TEST_CASE("service notify: the longest names that a socket can have") {
  const std::string name = "@" + std::string(107, 'x');
  const UniqueFd supervisor = listen_at(name);
  REQUIRE(service_notify(name, "WATCHDOG=1").ok());
  CHECK(received(supervisor) == "WATCHDOG=1");
  for (const std::string& address :
       {name + "x", "/" + std::string(107, 'x'), std::string(), std::string("@"), std::string("/"),
        std::string("relative"), std::string("vsock:2:9"), std::string("/a\0b", 4)}) {
    const auto status = service_notify(address, "READY=1");
    REQUIRE_FALSE(status.ok());
    CHECK(std::string(status.error().code) == "FT_ERR_NOTIFY_ADDRESS");
  }
}

TEST_CASE("service notify: nobody there, and a supervisor that does not read, are errors at once") {
  const std::string path = unique_name();
  const auto nobody = service_notify(path, "READY=1");
  REQUIRE_FALSE(nobody.ok());
  CHECK(std::string(nobody.error().code) == "FT_ERR_NOTIFY");
  CHECK(nobody.error().sys_errno == ENOENT);

  const UniqueFd supervisor = listen_at(path);
  int sent = 0;
  auto status = service_notify(path, "WATCHDOG=1");
  for (; status.ok() && sent < 100'000; sent++) status = service_notify(path, "WATCHDOG=1");
  REQUIRE_FALSE(status.ok());
  CHECK(status.error().sys_errno == EAGAIN);
  ::unlink(path.c_str());
}

}  // namespace ft

// Attaching to the TAP interface that joins the guest's network card to the host.
#include "machine/tap.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>

#include "core/net_namespace.h"

namespace ft {

namespace {

constexpr const char* kTunPath = "/dev/net/tun";

ifreq request_for(const std::string& name) {
  ifreq request = {};
  std::memcpy(request.ifr_name, name.data(), name.size());
  return request;
}

// Any socket answers questions about the interfaces of this network namespace.
UniqueFd query_socket() {
  return UniqueFd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
}

// The commands that make a TAP, in the namespace where it is wanted.
std::string make_line(const std::string& name, const std::string& netns) {
  const std::string ip = netns.empty()          ? "ip "
                         : netns.front() == '/' ? "nsenter --net=" + netns + " ip "
                                                : "ip -n " + netns + " ";
  return ip + "tuntap add dev " + name + " mode tap && " + ip + "link set " + name + " up";
}

// What failed and why, then what to do about it.
Error advised(const char* code, const std::string& what, const std::string& advice) {
  Error error = sys_error(code, what);
  error.message += "; " + advice;
  return error;
}

Error permission_error(const std::string& what) {
  return advised("FT_ERR_TAP_PERMISSION", what, "run as root, or give the process CAP_NET_ADMIN");
}

Result<UniqueFd> open_tun() {
  UniqueFd fd(::open(kTunPath, O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (fd.valid()) return fd;
  if (errno == EACCES || errno == EPERM) {
    return permission_error(std::string("may not open ") + kTunPath);
  }
  if (errno == ENOENT || errno == ENODEV || errno == ENXIO) {
    return advised("FT_ERR_TUN_MISSING", std::string("cannot open ") + kTunPath,
                   "load the kernel module with: modprobe tun");
  }
  return sys_error("FT_ERR_TAP_OPEN", std::string("cannot open ") + kTunPath);
}

Error attach_error(const std::string& name, const std::string& netns) {
  switch (errno) {
    case EBUSY:
      return advised("FT_ERR_TAP_BUSY", "TAP " + name + " is in use by another process",
                     "stop it or name another TAP");
    case EPERM:
    case EACCES:
      return permission_error("may not attach to TAP " + name);
    case EINVAL:
      return advised("FT_ERR_TAP_KIND", "interface " + name + " is no single-queue TAP",
                     "name another one, made with: " + make_line("<name>", netns));
    default:
      return sys_error("FT_ERR_TAP_OPEN", "cannot attach to TAP " + name);
  }
}

}  // namespace

Result<Tap> Tap::open(const std::string& name, const std::string& netns) {
  std::optional<Result<Tap>> tap;
  FT_TRY(in_net_namespace(netns, [&] { tap.emplace(open_here(name, netns)); }));
  return std::move(*tap);
}

Result<Tap> Tap::open_here(const std::string& name, const std::string& netns) {
  if (name.empty() || name.size() >= IFNAMSIZ || name.find('\0') != std::string::npos) {
    return Error{"FT_ERR_TAP_NAME", 0,
                 "'" + name + "' is no interface name: it must have 1 to " +
                     std::to_string(IFNAMSIZ - 1) + " characters"};
  }
  auto tun = open_tun();
  if (!tun.ok()) return tun.error();

  // TUNSETIFF would make a missing interface, which then would vanish with this process and have
  // no address: the operator's mistake is better told than hidden.
  const UniqueFd query = query_socket();
  if (!query.valid())
    return sys_error("FT_ERR_TAP_OPEN", "cannot open a socket to look up " + name);
  ifreq request = request_for(name);
  if (::ioctl(query.get(), SIOCGIFINDEX, &request) != 0) {
    if (errno != ENODEV && errno != ENXIO) {
      return sys_error("FT_ERR_TAP_OPEN", "cannot look up interface " + name);
    }
    const std::string where = netns.empty() ? "this network namespace" : "namespace " + netns;
    return Error{
        "FT_ERR_TAP_MISSING", errno,
        "there is no TAP " + name + " in " + where + "; make it with: " + make_line(name, netns)};
  }

  Tap tap;
  tap.fd_ = tun.take();
  tap.name_ = name;
  request = request_for(name);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  if (::ioctl(tap.fd_.get(), TUNSETIFF, &request) != 0) return attach_error(name, netns);
  // An earlier user of a persistent TAP may have left offloads on; we take whole frames only.
  if (::ioctl(tap.fd_.get(), TUNSETOFFLOAD, 0) != 0) {
    return sys_error("FT_ERR_TAP_OPEN", "cannot switch the offloads of TAP " + name + " off");
  }
  return tap;
}

Result<size_t> Tap::read_frame(std::span<uint8_t> buffer) {
  for (;;) {
    const ssize_t n = ::read(fd_.get(), buffer.data(), buffer.size());
    if (n >= 0) return static_cast<size_t>(n);
    if (errno == EINTR) continue;
    if (errno == EBADFD || errno == EFAULT) {
      return sys_error("FT_ERR_TAP_GONE", "TAP " + name_ + " was removed while in use");
    }
    return size_t{0};
  }
}

bool Tap::write_frame(std::span<const uint8_t> frame) {
  for (;;) {
    const ssize_t n = ::write(fd_.get(), frame.data(), frame.size());
    if (n == static_cast<ssize_t>(frame.size())) return true;
    if (n < 0 && errno == EINTR) continue;
    facts_.writes_dropped++;
    return false;
  }
}

}  // namespace ft

// A network namespace for a test: made on a thread of its own, so that the test stays where it is,
// and gone with its last descriptor.
#pragma once

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>

#include <cstring>
#include <thread>

#include "core/unique_fd.h"

namespace ft {

inline constexpr const char* kOwnNetNamespace = "/proc/thread-self/ns/net";

/// A new network namespace with a persistent TAP "inner0"; not valid without the right to make it.
inline UniqueFd make_net_namespace() {
  UniqueFd result;
  std::thread([&] {
    if (::unshare(CLONE_NEWNET) != 0) return;
    const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    ifreq request = {};
    std::strcpy(request.ifr_name, "inner0");
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    if (::ioctl(tun.get(), TUNSETIFF, &request) != 0) return;
    if (::ioctl(tun.get(), TUNSETPERSIST, 1) != 0) return;
    result = UniqueFd(::open(kOwnNetNamespace, O_RDONLY | O_CLOEXEC));
  }).join();
  return result;
}

}  // namespace ft

// One word to the supervisor of this process.
#include "core/service_notify.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "core/unique_fd.h"

namespace ft {

Status service_notify(const std::string& address, std::string_view text) {
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  const bool is_abstract = !address.empty() && address.front() == '@';
  const bool is_path = !address.empty() && address.front() == '/';
  // A path ends with a zero, an abstract name begins with one and ends with its length.
  const size_t room = sizeof to.sun_path - (is_path ? 1 : 0);
  if ((!is_abstract && !is_path) || address.size() < 2 || address.size() > room ||
      address.find('\0') != std::string::npos) {
    return Error{"FT_ERR_NOTIFY_ADDRESS", 0,
                 "NOTIFY_SOCKET is '" + address + "', which is no address of a UNIX socket"};
  }
  std::copy(address.begin(), address.end(), to.sun_path);
  if (is_abstract) to.sun_path[0] = '\0';
  const auto length =
      static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size() + (is_path ? 1 : 0));

  const UniqueFd fd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const std::string what = "cannot tell the supervisor at " + address;
  if (!fd.valid()) return sys_error("FT_ERR_NOTIFY", what);
  const auto sent = ::sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                             reinterpret_cast<const sockaddr*>(&to), length);
  if (sent != static_cast<ssize_t>(text.size())) return sys_error("FT_ERR_NOTIFY", what);
  return Ok{};
}

}  // namespace ft

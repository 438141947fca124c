// One word to the supervisor of this process: a datagram to the socket that systemd names in
// NOTIFY_SOCKET. Source: sd_notify(3), whose library is not needed for it.
#pragma once

#include <string>
#include <string_view>

#include "core/result.h"

namespace ft {

/// Sends `text` (lines of NAME=value) as one datagram to the UNIX socket `address`: a path, or an
/// abstract name after '@'. Never waits: a supervisor that does not read in time is an error.
/// Errors: FT_ERR_NOTIFY_ADDRESS (no address that a UNIX socket can have), FT_ERR_NOTIFY (not
/// sent: nobody listens, no right, no room; errno says which). Any thread.
Status service_notify(const std::string& address, std::string_view text);

}  // namespace ft

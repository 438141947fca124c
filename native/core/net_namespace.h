// Work inside another network namespace, done by a thread of its own.
//
// A descriptor belongs for ever to the namespace in which it was opened. So a node can have the TAP
// of its guest in one namespace and its own sockets in the one of its process: only the short-lived
// thread that opens the TAP goes there. Source: setns(2), network_namespaces(7), ip-netns(8).
#pragma once

#include <functional>
#include <string>

#include "core/result.h"

namespace ft {

/// The file that stands for the namespace `name`: a name of `ip netns` stands for
/// /run/netns/<name>, and a path (it begins with '/') for itself, such as /proc/<pid>/ns/net.
std::string net_namespace_path(const std::string& name);

/// Runs `work` once on a new thread inside the network namespace `name`, and waits for its end. The
/// calling thread stays where it is; `work` may use what the caller holds, since nobody else does
/// meanwhile. `name` empty: runs it on the calling thread. Errors: FT_ERR_NETNS_NAME (no name that
/// a namespace can have), FT_ERR_NETNS_MISSING (says how to make it), FT_ERR_NETNS_PERMISSION,
/// FT_ERR_NETNS (anything else: no namespace, no room for a thread). With an error `work` did not
/// run. Any thread.
Status in_net_namespace(const std::string& name, const std::function<void()>& work);

}  // namespace ft

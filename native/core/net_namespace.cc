// Work inside another network namespace, done by a thread of its own.
#include "core/net_namespace.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>

#include <cerrno>
#include <optional>

#include "core/unique_fd.h"

namespace ft {

namespace {

constexpr const char* kNamespaceFolder = "/run/netns/";

struct Errand {
  int namespace_fd;
  const std::function<void()>* work;
  int enter_errno = 0;
};

void* run_errand(void* opaque) {
  auto* errand = static_cast<Errand*>(opaque);
  if (::setns(errand->namespace_fd, CLONE_NEWNET) != 0) {
    errand->enter_errno = errno;
  } else {
    (*errand->work)();
  }
  return nullptr;
}

std::optional<Error> name_error(const std::string& name) {
  const bool is_path = name.front() == '/';
  const bool can_be = name.find('\0') == std::string::npos && name != "." && name != ".." &&
                      (is_path || name.find('/') == std::string::npos);
  if (can_be) return std::nullopt;
  return Error{"FT_ERR_NETNS_NAME", 0,
               "'" + name + "' is no network namespace: give a name of ip netns, or a path"};
}

Error open_error(const std::string& name, const std::string& path) {
  if (errno == ENOENT || errno == ENOTDIR) {
    std::string advice = "there is no network namespace " + name + " (" + path + ")";
    if (name.front() != '/') advice += "; make it with: ip netns add " + name;
    return Error{"FT_ERR_NETNS_MISSING", errno, std::move(advice)};
  }
  const bool forbidden = errno == EACCES || errno == EPERM;
  return sys_error(forbidden ? "FT_ERR_NETNS_PERMISSION" : "FT_ERR_NETNS", "cannot open " + path);
}

Error enter_error(const std::string& name, const std::string& path, int enter_errno) {
  errno = enter_errno;
  if (enter_errno == EPERM) {
    Error error = sys_error("FT_ERR_NETNS_PERMISSION", "may not enter network namespace " + name);
    error.message += "; run as root, or give the process CAP_SYS_ADMIN";
    return error;
  }
  if (enter_errno == EINVAL) {
    return Error{"FT_ERR_NETNS", enter_errno,
                 path + " is no network namespace; ip netns lists those that there are"};
  }
  return sys_error("FT_ERR_NETNS", "cannot enter network namespace " + name);
}

}  // namespace

std::string net_namespace_path(const std::string& name) {
  return !name.empty() && name.front() == '/' ? name : kNamespaceFolder + name;
}

Status in_net_namespace(const std::string& name, const std::function<void()>& work) {
  if (name.empty()) {
    work();
    return Ok{};
  }
  if (auto error = name_error(name)) return *error;
  const std::string path = net_namespace_path(name);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return open_error(name, path);
  Errand errand{.namespace_fd = fd.get(), .work = &work};
  pthread_t thread;
  if (const int failed = ::pthread_create(&thread, nullptr, run_errand, &errand); failed != 0) {
    errno = failed;
    return sys_error("FT_ERR_NETNS", "cannot start a thread for network namespace " + name);
  }
  FT_CHECK(::pthread_join(thread, nullptr) == 0, "a thread that was started can be waited for");
  if (errand.enter_errno != 0) return enter_error(name, path, errand.enter_errno);
  return Ok{};
}

}  // namespace ft

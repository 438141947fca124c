// What this process gives up: no new privileges, not dumpable, Landlock.
#include "core/confine.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "core/unique_fd.h"

namespace ft {
namespace {

// From linux/landlock.h, as far as the oldest headers that we build with do not have it. The
// numbers of the system calls are the same on all architectures.
constexpr long kCreateRuleset = 444;
constexpr long kAddRule = 445;
constexpr long kRestrictSelf = 446;
constexpr uint32_t kAskVersion = 1;
constexpr int kRulePathBeneath = 1;
constexpr int kRuleNetPort = 2;

constexpr uint64_t kExecute = 1 << 0;
constexpr uint64_t kWriteFile = 1 << 1;
/// REMOVE_DIR, REMOVE_FILE, MAKE_CHAR … MAKE_SYM: of directories alone.
constexpr uint64_t kRemoveAndMake = 0x1ff0;
constexpr uint64_t kRemoveFile = 1 << 5;
constexpr uint64_t kMakeRegular = 1 << 8;
constexpr uint64_t kMakeSocket = 1 << 9;
constexpr uint64_t kRefer = 1 << 13;        // version 2
constexpr uint64_t kTruncate = 1 << 14;     // version 3
constexpr uint64_t kIoctlDevice = 1 << 15;  // version 5
constexpr uint64_t kBindTcp = 1 << 0;       // version 4

struct RulesetAttr {
  uint64_t handled_access_fs;
  uint64_t handled_access_net;
};

struct __attribute__((packed)) PathBeneathAttr {
  uint64_t allowed_access;
  int32_t parent_fd;
};

struct NetPortAttr {
  uint64_t allowed_access;
  uint64_t port;
};

uint64_t handled_files(int version) {
  uint64_t rights = kExecute | kWriteFile | kRemoveAndMake;
  if (version >= 2) rights |= kRefer;
  if (version >= 3) rights |= kTruncate;
  if (version >= 5) rights |= kIoctlDevice;
  return rights;
}

/// A name that holds another name's file (a hard link across directories) needs kRefer on both.
uint64_t granted(bool is_directory, uint64_t handled) {
  const uint64_t of_file = kWriteFile | kTruncate | kIoctlDevice;
  const uint64_t of_directory = kRemoveFile | kMakeRegular | kMakeSocket | kRefer;
  return handled & (is_directory ? of_file | of_directory : of_file);
}

Status add_path(int ruleset, const std::string& path, uint64_t handled) {
  // The name with "/." is that of a directory alone, and makes an automounter mount what belongs
  // there; without it the mount point would be opened, which is not what is written to later.
  UniqueFd fd(::open((path + "/.").c_str(), O_PATH | O_CLOEXEC));
  const bool is_directory = fd.valid();
  if (!is_directory) fd = UniqueFd(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd.valid()) return Ok{};
  const PathBeneathAttr attr = {granted(is_directory, handled), fd.get()};
  if (::syscall(kAddRule, ruleset, kRulePathBeneath, &attr, 0) != 0) {
    return sys_error("FT_ERR_CONFINE", "cannot allow writing to " + path);
  }
  // The rule is good for this very directory. It stays open until the process ends, so that its
  // file system is not unmounted by mistake, nor by an automounter that thinks it idle.
  if (is_directory) (void)fd.release();
  return Ok{};
}

Status add_port(int ruleset, uint16_t port, uint64_t access) {
  const NetPortAttr attr = {access, port};
  if (::syscall(kAddRule, ruleset, kRuleNetPort, &attr, 0) == 0) return Ok{};
  return sys_error("FT_ERR_CONFINE", "cannot allow TCP port " + std::to_string(port));
}

Status restrict_self(const Confinement& wanted, int version) {
  const bool ports = version >= 4;
  const RulesetAttr attr = {handled_files(version), ports ? kBindTcp : 0};
  const size_t size = ports ? sizeof attr : offsetof(RulesetAttr, handled_access_net);
  const UniqueFd ruleset(static_cast<int>(::syscall(kCreateRuleset, &attr, size, 0)));
  if (!ruleset.valid()) return sys_error("FT_ERR_CONFINE", "cannot make a Landlock ruleset");
  for (const auto& path : wanted.writable) {
    FT_TRY(add_path(ruleset.get(), path, attr.handled_access_fs));
  }
  if (ports) {
    for (const uint16_t port : wanted.bind_ports) FT_TRY(add_port(ruleset.get(), port, kBindTcp));
  }
  if (::syscall(kRestrictSelf, ruleset.get(), 0) == 0) return Ok{};
  return sys_error("FT_ERR_CONFINE", "cannot enter the Landlock ruleset");
}

}  // namespace

Result<Confined> confine(const Confinement& wanted) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return sys_error("FT_ERR_CONFINE", "cannot give up new privileges");
  }
  if (::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return sys_error("FT_ERR_CONFINE", "cannot close this process's memory to others");
  }
  const long version = ::syscall(kCreateRuleset, nullptr, 0, kAskVersion);
  // ENOSYS: not built in; EOPNOTSUPP: switched off at boot. Whatever else comes is somebody's
  // doing: a filter of system calls, a unit's or a container's.
  if (version < 1) return Confined{0, errno != ENOSYS && errno != EOPNOTSUPP};
  FT_TRY(restrict_self(wanted, static_cast<int>(version)));
  return Confined{static_cast<int>(version), false};
}

}  // namespace ft

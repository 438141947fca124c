// What a confined process can still do: each case in a child, since there is no way back.
#include "core/confine.h"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <functional>
#include <string>

#include "core/unique_fd.h"

namespace ft {
namespace {

// A directory of the test's own with a file in it, gone at the end.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/ft-confine-XXXXXX";
    REQUIRE(::mkdtemp(name) != nullptr);
    path = name;
  }
  ~Folder() { (void)::system(("rm -rf " + path).c_str()); }
  std::string path;
};

// What the child returns: 0, or the number of what was otherwise than it should be.
int in_child(const std::function<int()>& work) {
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) ::_exit(work());
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

bool can_write(const std::string& path) {
  return UniqueFd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)).valid();
}

int bind_at(uint16_t port) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in at = {};
  at.sin_family = AF_INET;
  at.sin_port = htons(port);
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return ::bind(fd.get(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0 ? 0 : errno;
}

bool has_landlock(int version) {
  return ::syscall(444, nullptr, 0, 1) >= version;
}

// From now on this process is told `error` when it asks for Landlock, as by a unit's filter.
bool refuse_landlock(int error) {
  const auto refusal = SECCOMP_RET_ERRNO | static_cast<unsigned>(error);
  sock_filter steps[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 444, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, refusal),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {4, steps};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace

TEST_CASE("confine: no new privileges, and nobody looks into this process") {
  CHECK(in_child([] {
          if (!confine({}).ok()) return 1;
          if (::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 2;
          return ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0 ? 0 : 3;
        }) == 0);
}

TEST_CASE("confine: a filter that forbids Landlock is told from a kernel without it") {
  const auto confined = [](int error, bool forbidden) {
    return in_child([=] {
      if (!refuse_landlock(error)) return 1;
      const auto done = confine({});
      if (!done.ok() || done.value().landlock != 0) return 2;
      return done.value().forbidden == forbidden ? 0 : 3;
    });
  };
  CHECK(confined(EPERM, true) == 0);
  CHECK(confined(ENOSYS, false) == 0);
  CHECK(confined(EOPNOTSUPP, false) == 0);
}

TEST_CASE("confine: only what is named is written; everything is read; nothing is executed") {
  if (!has_landlock(1)) {
    MESSAGE("skipped: this kernel has no Landlock");
    return;
  }
  const Folder mine;
  const Folder other;
  const std::string file = other.path + "/named";
  REQUIRE(can_write(file));
  REQUIRE(can_write(other.path + "/unnamed"));
  CHECK(in_child([&] {
          const auto done = confine({{mine.path, file, "/no/such/path"}, {}});
          if (!done.ok() || done.value().landlock < 1) return 1;
          if (!can_write(mine.path + "/new")) return 2;
          if (::link((mine.path + "/new").c_str(), (mine.path + "/again").c_str()) != 0) return 3;
          if (::unlink((mine.path + "/again").c_str()) != 0) return 4;
          if (!can_write(file)) return 5;
          if (can_write(other.path + "/unnamed") || errno != EACCES) return 6;
          if (can_write(other.path + "/new")) return 7;
          if (::unlink(file.c_str()) == 0) return 8;
          if (::mkdir((mine.path + "/below").c_str(), 0700) == 0) return 9;
          if (!UniqueFd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC)).valid()) return 10;
          ::execl("/bin/true", "true", nullptr);
          return errno == EACCES ? 0 : 11;
        }) == 0);
}

TEST_CASE("confine: what lies above a mount counts for what is mounted there later") {
  if (!has_landlock(1)) {
    MESSAGE("skipped: this kernel has no Landlock");
    return;
  }
  const Folder folder;
  const std::string above = folder.path + "/above";
  const std::string mounted = above + "/mounted";
  REQUIRE(::mkdir(above.c_str(), 0700) == 0);
  REQUIRE(::mkdir(mounted.c_str(), 0700) == 0);
  constexpr int kNoRights = 99;
  const auto mount_anew = [&] {
    return ::mount("none", mounted.c_str(), "tmpfs", 0, nullptr) == 0;
  };
  const auto after_remount = [&](const std::vector<std::string>& writable) {
    return in_child([&] {
      if (::unshare(CLONE_NEWNS) != 0) return kNoRights;
      if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return kNoRights;
      if (!mount_anew()) return kNoRights;
      int to_node[2];
      int from_node[2];
      if (::pipe(to_node) != 0 || ::pipe(from_node) != 0) return 1;
      const pid_t node = ::fork();
      if (node == 0) {
        char byte = 0;
        if (!confine({writable, {}}).ok() || !can_write(mounted + "/before")) ::_exit(2);
        if (::write(from_node[1], &byte, 1) != 1 || ::read(to_node[0], &byte, 1) != 1) ::_exit(3);
        ::_exit(can_write(mounted + "/after") ? 0 : errno);
      }
      char byte = 0;
      // A node that failed says nothing, but ends: nobody else has this end open.
      (void)::close(from_node[1]);
      if (::read(from_node[0], &byte, 1) == 1) {
        // It holds the directory.
        if (::umount(mounted.c_str()) == 0 || errno != EBUSY) return 4;
        if (::umount2(mounted.c_str(), MNT_DETACH) != 0 || !mount_anew()) return 5;
        if (::write(to_node[1], &byte, 1) != 1) return 6;
      }
      int status = 0;
      if (::waitpid(node, &status, 0) != node || !WIFEXITED(status)) return 7;
      return WEXITSTATUS(status);
    });
  };
  const int kept = after_remount({mounted, above});
  if (kept == kNoRights) {
    MESSAGE("skipped: this user may not mount");
    return;
  }
  CHECK(kept == 0);
  // The mount point itself has nothing to say: this is why the directory above it is named.
  CHECK(after_remount({mounted}) == EACCES);
}

TEST_CASE("confine: TCP only at the ports that are named") {
  if (!has_landlock(4)) {
    MESSAGE("skipped: this kernel's Landlock knows no ports");
    return;
  }
  CHECK(in_child([] {
          if (!confine({{}, {0}}).ok()) return 1;
          if (bind_at(0) != 0) return 2;
          return bind_at(47123) == EACCES ? 0 : 3;
        }) == 0);
}

TEST_CASE("confine: devices that are not named take no ioctl") {
  if (!has_landlock(5)) {
    MESSAGE("skipped: this kernel's Landlock knows no devices");
    return;
  }
  const auto asked = [](const std::vector<std::string>& writable) {
    return in_child([&] {
      if (!confine({writable, {}}).ok()) return 1;
      const UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      int bytes = 0;
      (void)::ioctl(fd.get(), FIONREAD, &bytes);
      constexpr unsigned long kOfNoDevice = 0x5aa5;
      return ::ioctl(fd.get(), kOfNoDevice, &bytes) == 0 ? 2 : errno;
    });
  };
  CHECK(asked({}) == EACCES);
  CHECK(asked({"/dev/null"}) == ENOTTY);
}

}  // namespace ft

// The keeper runs in the memory of its maker and shares even the thread-local variables of the
// thread that made it: errno, the allocator's caches, the sanitizers' records. So after the clone
// it calls nothing but the kernel, through the instruction itself, and is not instrumented.
#include "core/memory_keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/unique_fd.h"

#if defined(__clang__)
#define FT_BARE __attribute__((disable_sanitizer_instrumentation, no_stack_protector, noinline))
#else
#define FT_BARE \
  __attribute__((no_sanitize("address", "thread", "undefined"), no_stack_protector, noinline))
#endif

namespace ft {
namespace {

constexpr size_t kStackBytes = 16 * 1024;
constexpr size_t kGuardBytes = 4096;

// Not on the maker's stack, which goes on while the keeper reads it.
int keeper_pidfd = -1;

FT_BARE long bare_syscall(long number, long a, long b, long c, long d, long e) {
  long result = 0;
#if defined(__x86_64__)
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
               : "rcx", "r11", "memory");
#else
#error "The keeper's system call is written for x86-64, as is the rest of the machine."
#endif
  return result;
}

FT_BARE int keep(void*) {
  static const char kName[] = "ft-keeper";
  const long pidfd = keeper_pidfd;
  // Copies of what was open, standard streams too: whoever reads them waits for their last holder.
  // No keeper is better than one that holds them.
  const bool closed = (pidfd == 0 || bare_syscall(SYS_close_range, 0, pidfd - 1, 0, 0, 0) == 0) &&
                      bare_syscall(SYS_close_range, pidfd + 1, ~0U, 0, 0, 0) == 0;
  if (!closed) bare_syscall(SYS_exit_group, 1, 0, 0, 0, 0);
  bare_syscall(SYS_prctl, PR_SET_NAME, reinterpret_cast<long>(kName), 0, 0, 0);
  bare_syscall(SYS_setsid, 0, 0, 0, 0, 0);
  for (;;) {
    pollfd wait;
    wait.fd = static_cast<int>(pidfd);
    wait.events = POLLIN;
    wait.revents = 0;
    const long ready = bare_syscall(SYS_ppoll, reinterpret_cast<long>(&wait), 1, 0, 0, 0);
    if (ready != -EINTR && ready != -EAGAIN) break;
  }
  bare_syscall(SYS_exit_group, 0, 0, 0, 0, 0);
  __builtin_unreachable();
}

Error keeper_error(const char* step) {
  return sys_error("FT_ERR_KEEPER", std::string("The keeper of this process's memory cannot be ") +
                                        "made (" + step + ")");
}

}  // namespace

Result<pid_t> start_memory_keeper() {
  FT_CHECK(keeper_pidfd < 0, "a process has one keeper");
  // Where a sandbox forbids to close what is open, it does so for this range, too, which is empty.
  if (::syscall(SYS_close_range, ~0U - 1, ~0U, 0) != 0) return keeper_error("close_range");
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)));
  if (!pidfd.valid()) return keeper_error("pidfd_open");
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE;
  void* stack = ::mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, kFlags, -1, 0);
  if (stack == MAP_FAILED) return keeper_error("mmap");
  ::mprotect(stack, kGuardBytes, PROT_NONE);
  keeper_pidfd = pidfd.get();
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  // No signal is named for its end: Node waits for its own children alone, and the keeper outlives
  // this process, so whoever adopts it sees it end.
  const int pid =
      ::clone(keep, static_cast<char*>(stack) + kGuardBytes + kStackBytes, CLONE_VM, nullptr);
  const int cause = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) {
    keeper_pidfd = -1;
    ::munmap(stack, kGuardBytes + kStackBytes);
    errno = cause;
    return keeper_error("clone");
  }
  return static_cast<pid_t>(pid);
}

}  // namespace ft

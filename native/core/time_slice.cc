#include "core/time_slice.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace ft {
namespace {

// The system's struct sched_attr, version 1, which the C library does not offer everywhere.
struct SchedAttr {
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime_ns;  // of an ordinary thread: its slice
  uint64_t deadline_ns;
  uint64_t period_ns;
  uint32_t util_min;
  uint32_t util_max;
};
static_assert(sizeof(SchedAttr) == 56);

constexpr uint64_t kResetOnFork = 1;

}  // namespace

bool use_short_slices(uint32_t us) {
  SchedAttr attr{};
  if (::syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) != 0) return false;
  if (attr.policy != SCHED_OTHER) return false;
  attr.size = sizeof(attr);
  attr.flags = kResetOnFork;
  attr.runtime_ns = uint64_t{us} * 1000;
  return ::syscall(SYS_sched_setattr, 0, &attr, 0) == 0;
}

}  // namespace ft

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
  // A kernel that knows of slices tells the one there is. To threads made later a negative nice
  // would not be given on, as the slice is not: it is worth more than the slice.
  if (attr.policy != SCHED_OTHER || attr.runtime_ns == 0 || attr.nice < 0) return false;
  const uint64_t flags_before = attr.flags & kResetOnFork;
  attr.size = sizeof(attr);
  attr.flags = kResetOnFork;
  attr.runtime_ns = uint64_t{us} * 1000;
  if (::syscall(SYS_sched_setattr, 0, &attr, 0) != 0) return false;
  SchedAttr now{};
  const bool took = ::syscall(SYS_sched_getattr, 0, &now, sizeof(now), 0) == 0 &&
                    now.runtime_ns == attr.runtime_ns;
  if (took) return true;
  attr.flags = flags_before;
  attr.runtime_ns = 0;  // the system's own
  ::syscall(SYS_sched_setattr, 0, &attr, 0);
  return false;
}

}  // namespace ft

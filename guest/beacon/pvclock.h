/* kvmclock: time since the machine was made, in nanoseconds, read without leaving the guest. */
#pragma once

#include "types.h"

/* As the hypervisor writes it; `version` is odd while it does. */
struct PvclockPage {
  u32 version;
  u32 pad;
  u64 tsc_timestamp;
  u64 system_time;
  u32 tsc_to_system_mul;
  signed char tsc_shift;
  u8 flags;
  u8 pad2[2];
};
_Static_assert(sizeof(struct PvclockPage) == 32, "the hypervisor's layout");

extern struct PvclockPage pvclock_page;

/* Nanoseconds on the machine's clock. */
u64 pvclock_now_ns(void);
/* A stretch of TSC ticks in nanoseconds. */
u64 pvclock_ticks_to_ns(u64 ticks);
/* Up to 4 s in TSC ticks. */
u64 pvclock_ns_to_ticks(u64 ns);
/* Changes whenever the hypervisor has written the page: the TSC's rate may be another one. */
static inline u32 pvclock_version(void) {
  return *(volatile u32*)&pvclock_page.version;
}

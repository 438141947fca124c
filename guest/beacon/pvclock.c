/* Reading kvmclock: system_time + (tsc - tsc_timestamp) scaled by shift and 32.32 multiplier. */
#include "pvclock.h"

HOT struct PvclockPage pvclock_page __attribute__((aligned(64)));

static u64 scale(u64 ticks, u32 mul, signed char shift) {
  ticks = shift < 0 ? ticks >> -shift : ticks << shift;
  return (u64)(((unsigned __int128)ticks * mul) >> 32);
}

u64 pvclock_now_ns(void) {
  const volatile struct PvclockPage* page = &pvclock_page;
  for (;;) {
    u32 version = page->version;
    compiler_barrier();
    u64 ns = page->system_time +
             scale(read_tsc() - page->tsc_timestamp, page->tsc_to_system_mul, page->tsc_shift);
    compiler_barrier();
    if ((version & 1) == 0 && version == page->version) return ns;
  }
}

u64 pvclock_ticks_to_ns(u64 ticks) {
  return scale(ticks, pvclock_page.tsc_to_system_mul, pvclock_page.tsc_shift);
}

u64 pvclock_ns_to_ticks(u64 ns) {
  u64 ticks = (ns << 32) / pvclock_page.tsc_to_system_mul;
  signed char shift = pvclock_page.tsc_shift;
  return shift < 0 ? ticks << -shift : ticks >> shift;
}

/* Gaps: stretches of time in which the spinning loop did not get on, measured with the TSC between
 * marks that the loop sets at least every few microseconds. What we do ourselves between two marks
 * takes less than 10 µs, so what is longer was taken from us: a pause, or another program. */
#pragma once

#include "types.h"

struct GapFigures {
  u64 max_ns;
  u64 p50_ns;
  u64 p99_ns;
  u64 count; /* gaps over 10 µs */
};

extern struct GapClock {
  u64 last_tsc; /* 0 while nothing is measured */
  u64 max_ticks;
  u64 threshold_ticks;
} gap_clock;

/* Begins or ends measuring; figures stay. */
void gaps_measure(bool on);
/* Figures since the last gaps_reset(). */
const struct GapFigures* gaps_figures(void);
void gaps_reset(void);
void gaps_record(u64 ticks);

/* One mark. */
static inline void gaps_mark(void) {
  if (gap_clock.last_tsc == 0) return;
  u64 now = read_tsc();
  u64 ticks = now - gap_clock.last_tsc;
  gap_clock.last_tsc = now;
  if (ticks > gap_clock.max_ticks || ticks > gap_clock.threshold_ticks) gaps_record(ticks);
}

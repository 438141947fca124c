/* The histogram of gaps: 32 buckets for each doubling from 8.2 µs to 134 ms, so a bucket is at
 * most 3.2 % wide; one more for all that is longer.
 *
 *   gap of v ns, e = position of its top bit (13…26)   bucket = (e − 13) · 32 + the 5 bits below it
 */
#include "gaps.h"

#include "memory.h"
#include "pvclock.h"

#define THRESHOLD_NS 10000
#define EXPONENT_MIN 13
#define EXPONENT_MAX 26
#define STEPS_BITS 5
#define STEPS (1u << STEPS_BITS)
#define BUCKETS ((EXPONENT_MAX - EXPONENT_MIN + 1) * STEPS)

HOT struct GapClock gap_clock;
HOT static struct GapFigures figures;
HOT static bool figures_stale;
HOT static u32 buckets[BUCKETS + 1];

void gaps_measure(bool on) {
  gap_clock.threshold_ticks = pvclock_ns_to_ticks(THRESHOLD_NS);
  gap_clock.last_tsc = on ? read_tsc() : 0;
}

void gaps_reset(void) {
  memset(buckets, 0, sizeof buckets);
  memset(&figures, 0, sizeof figures);
  figures_stale = false;
  gap_clock.max_ticks = 0;
}

static u32 bucket_of(u64 ns) {
  u32 exponent = 63 - (u32)__builtin_clzll(ns);
  if (exponent > EXPONENT_MAX) return BUCKETS;
  return (exponent - EXPONENT_MIN) * STEPS + ((ns >> (exponent - STEPS_BITS)) & (STEPS - 1));
}

static u64 middle_of(u32 bucket) {
  u32 exponent = bucket / STEPS + EXPONENT_MIN;
  u64 half_steps = 2 * (STEPS + bucket % STEPS) + 1;
  return half_steps << (exponent - STEPS_BITS - 1);
}

void gaps_record(u64 ticks) {
  if ((s64)ticks < 0) return; /* the TSC of another host may be behind */
  u64 ns = pvclock_ticks_to_ns(ticks);
  if (ticks > gap_clock.max_ticks) {
    gap_clock.max_ticks = ticks;
    figures.max_ns = ns;
  }
  if (ns <= THRESHOLD_NS) return;
  buckets[bucket_of(ns)]++;
  figures.count++;
  figures_stale = true;
}

/* The bucket in which the gap of this rank (from 1) lies. */
static u64 ranked(u64 rank) {
  u64 seen = 0;
  for (u32 i = 0; i < BUCKETS; i++) {
    seen += buckets[i];
    if (seen >= rank) {
      u64 middle = middle_of(i);
      return middle < figures.max_ns ? middle : figures.max_ns;
    }
  }
  return figures.max_ns;
}

const struct GapFigures* gaps_figures(void) {
  if (figures_stale) {
    figures.p50_ns = ranked((figures.count + 1) / 2);
    figures.p99_ns = ranked(figures.count - figures.count / 100);
    figures_stale = false;
  }
  return &figures;
}

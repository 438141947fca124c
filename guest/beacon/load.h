/* The load: pages dirtied at a given rate, and work units counted while spinning. */
#pragma once

#include "types.h"

/* The pages from `first` on may be written at will. */
void load_init(u64 first, u64 pages);
/* Arguments as in the request. False, and nothing changed, when they are out of range. */
bool load_set(u64 pages_per_ms, u64 bytes, u64 working_set);
/* One short step, below 20 µs: the pages due, a few at most, and when spinning one work unit.
 * True when there is more to do at once. */
bool load_step(void);
/* Whether sleep must end within a millisecond. */
bool load_paced(void);
u64 load_progress(void);
u64 load_pages_dirtied(void);
u64 load_pages_max(void);

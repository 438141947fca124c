/* The processors besides the boot processor: starting them, and what they are told to do. On a
 * machine with one processor every call is a no-op. Called by the boot processor, at CPL3. */
#pragma once

#include "load.h"
#include "types.h"

/* Starts every processor that the MP table names. Says so on the console, if there are any. */
void smp_start(void);
/* Processors that run, the boot processor included. */
u64 smp_count(void);
/* Gives each of the others this load, on pages of its own; NULL: none. */
void smp_order(const struct LoadOrder* order);
/* Of processor `index` (0: the boot processor): [0] work units, [1] pages written since boot. */
void smp_figures(u64 index, u64* figures);

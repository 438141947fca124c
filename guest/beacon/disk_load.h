/* The disk load: blocks written without end into a region of a disk, and read back on the way. */
#pragma once

#include "types.h"

/* Most requests of the load under way at once; the rest of a disk's slots is for clients. */
#define DISK_LOAD_WINDOW_MAX 12

struct DiskLoadFigures {
  u64 writes; /* ended well since boot */
  u64 reads;
  u64 errors; /* ended badly, of whatever kind */
  u64 broken; /* reads that brought something else than was written there */
};

void disk_load_init(u64 boot_id);
/* Arguments as in the request. False, and nothing changed, when they are out of range. */
bool disk_load_set(u64 pace, u64 first, u64 region);
/* Hands the disk what is due. True when there is more to do at once. */
bool disk_load_step(void);
/* Nanoseconds until disk_load_step() has something to do: NEVER when only a completion helps. */
u64 disk_load_due_ns(void);
const struct DiskLoadFigures* disk_load_figures(void);

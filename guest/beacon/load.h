/* The load: pages dirtied at a given rate, and work units counted while spinning. Each vCPU has one
 * of its own; what has no parameter is about the first vCPU's. */
#pragma once

#include "types.h"

/* What a request asks for. */
struct LoadOrder {
  u64 rate; /* pages per ms; 0: none; 2^64 - 1: as fast as it can */
  u64 bytes;
  u64 working_set;
  bool spinning;
};

/* One vCPU's load; only that vCPU writes it. */
struct Load {
  u64 first;
  u64 rate;
  u64 bytes;
  u64 working_set;
  u64 places; /* aligned offsets at which `bytes` fit into a page */
  u64 cursor;
  u64 pass;
  u64 credit;
  u64 last_tsc;
  u64 ticks_per_ms;
  u32 clock_version;
  bool spinning;
  u64 pages_dirtied;
  u64 progress;
  u64 unit_state;
};

/* The pages from `first` on may be written at will. */
void load_init(u64 first, u64 pages);
/* The arguments as they stand in a request. */
struct LoadOrder load_order(u64 pages_per_ms, u64 bytes, u64 working_set);
/* Whether the order is in range, with as many working sets side by side as there are vCPUs. */
bool load_fits(const struct LoadOrder* order, u64 vcpus);
/* Begins an order that fits, on the pages behind those of the vCPUs before this one. */
void load_begin(struct Load* load, const struct LoadOrder* order, u64 vcpu);
void load_begin_own(const struct LoadOrder* order);
/* One short step, below 20 µs: the pages due, a few at most, and when spinning one work unit.
 * True when there is more to do at once. load_step() also measures gaps. */
bool load_step(void);
bool load_run(struct Load* load);
/* Whether sleep must end within a millisecond. */
bool load_paced(void);
u64 load_progress(void);
u64 load_pages_dirtied(void);
u64 load_pages_max(void);

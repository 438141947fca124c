/* Dirtying pages, round robin over the working set, and spinning.
 *
 * Pacing earns credit with time: elapsed ticks x pages per ms; a page costs the ticks of one ms.
 * Nothing is rounded away, and a pause is made up for afterwards, up to 5 ms of it.
 */
#include "load.h"

#include "gaps.h"
#include "pvclock.h"

#define SPIN_BIT (1ull << 63)
#define UNPACED (~0ull)
#define PAGES_PER_MS_MAX 1000000 /* no machine does that: as fast as it can */
#define BACKLOG_MS_MAX 5
#define PAGES_PER_STEP 4
#define UNIT_STEPS 64
#define GOLDEN 0x9e3779b97f4a7c15ull

/* All pages there are for load, and what the first vCPU does with them. */
HOT static struct {
  u64 first;
  u64 pages;
} room;
HOT static struct Load own;

void load_init(u64 first, u64 pages) {
  room.first = first;
  room.pages = pages;
}

bool load_fits(const struct LoadOrder* order, u64 vcpus) {
  if (order->rate == 0) return true;
  u64 set = order->working_set;
  return order->bytes >= 1 && order->bytes <= PAGE_BYTES && set >= 1 && set <= room.pages / vcpus;
}

void load_begin(struct Load* load, const struct LoadOrder* order, u64 vcpu) {
  if (order->rate != 0) {
    load->first = room.first + vcpu * order->working_set * PAGE_BYTES;
    load->bytes = order->bytes;
    load->working_set = order->working_set;
    load->places = (PAGE_BYTES - order->bytes) / 8 + 1;
    load->cursor = 0;
    load->pass++;
  }
  load->rate = order->rate > PAGES_PER_MS_MAX ? UNPACED : order->rate;
  load->credit = 0;
  load->last_tsc = read_tsc();
  load->clock_version = 1; /* never a finished one: forces a look at the rate of the TSC */
  load->spinning = order->spinning;
}

struct LoadOrder load_order(u64 pages_per_ms, u64 bytes, u64 working_set) {
  return (struct LoadOrder){.rate = pages_per_ms,
                            .bytes = bytes,
                            .working_set = working_set & ~SPIN_BIT,
                            .spinning = (working_set & SPIN_BIT) != 0};
}

void load_begin_own(const struct LoadOrder* order) {
  load_begin(&own, order, 0);
  gaps_measure(own.spinning);
}

/* Spreads every bit over all the others (the finisher of the splitmix64 generator). */
static u64 mix(u64 x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

/* Changes exactly `bytes` bytes, each of them: XOR with noise whose every byte is odd. The noise
 * comes from pass, page and place, so it does not compress better than what real programs write. */
static void write_page(struct Load* load) {
  u64 page = load->cursor;
  u64 noise = (page ^ load->pass << 32) * GOLDEN;
  u64 place = ((page * GOLDEN >> 32) * load->places) >> 32;
  u64* at = (u64*)(load->first + page * PAGE_BYTES) + place;
  u64 left = load->bytes;
  for (; left >= 8; left -= 8, at++) {
    noise += GOLDEN;
    *at ^= mix(noise) | 0x0101010101010101ull;
  }
  u64 tail = mix(noise + GOLDEN);
  for (u64 i = 0; i < left; i++) ((u8*)at)[i] ^= (u8)(tail >> 8 * i) | 1;

  load->pages_dirtied++;
  if (++load->cursor >= load->working_set) {
    load->cursor = 0;
    load->pass++;
  }
}

static void earn_credit(struct Load* load) {
  u32 version = pvclock_version();
  if (version != load->clock_version) {
    load->ticks_per_ms = pvclock_ns_to_ticks(1000000);
    load->clock_version = version;
  }
  u64 now = read_tsc();
  s64 elapsed = (s64)(now - load->last_tsc);
  s64 elapsed_max = (s64)load->ticks_per_ms * BACKLOG_MS_MAX;
  load->last_tsc = now;
  if (elapsed < 0) elapsed = 0;
  if (elapsed > elapsed_max) elapsed = elapsed_max;
  load->credit += (u64)elapsed * load->rate;
}

/* Writes what is due, at most `pages_max`. True when more is due. */
static bool write_due(struct Load* load, u32 pages_max) {
  if (load->rate == 0) return false;
  if (load->rate == UNPACED) {
    for (u32 i = 0; i < pages_max; i++) write_page(load);
    return true;
  }
  earn_credit(load);
  for (u32 i = 0; i < pages_max && load->credit >= load->ticks_per_ms; i++) {
    write_page(load);
    load->credit -= load->ticks_per_ms;
  }
  return load->credit >= load->ticks_per_ms;
}

/* One work unit: 64 steps of arithmetic that each wait for the one before, about 100 ns. */
static void work_unit(struct Load* load) {
  u64 x = load->unit_state;
  for (u32 i = 0; i < UNIT_STEPS; i++) {
    x = x * 6364136223846793005ull + 1442695040888963407ull;
    __asm__ volatile("" : "+r"(x));
  }
  load->unit_state = x;
  load->progress++;
}

bool load_step(void) {
  if (!own.spinning) return write_due(&own, PAGES_PER_STEP);
  work_unit(&own);
  gaps_mark();
  /* One page a step: a first write to a page may cost microseconds, and must not look like a gap.
   */
  write_due(&own, 1);
  return true;
}

bool load_run(struct Load* load) {
  if (!load->spinning) return write_due(load, PAGES_PER_STEP);
  work_unit(load);
  write_due(load, 1);
  return true;
}

bool load_paced(void) {
  return own.rate != 0;
}
u64 load_progress(void) {
  return own.progress;
}
u64 load_pages_dirtied(void) {
  return own.pages_dirtied;
}
u64 load_pages_max(void) {
  return room.pages;
}

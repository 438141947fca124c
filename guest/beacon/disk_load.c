/* The load of a disk. Write n (from 0) of a load goes to block n mod count of its region and has
 * the sequence base + 1 + n, so what a block must hold is known without remembering it:
 *
 *   cursor = n mod count ──▶ every 8th time, from the second pass on: read the block first;
 *                            it must hold sequence base + 1 + n - count
 *                        ──▶ write it, n++;  every 64th time: a flush, not waited for
 *
 * A block that is still under way from the pass before holds the load up, unless the region has no
 * more blocks than may be under way: then blocks are overwritten while they are being written,
 * which is what such a region is for (and nothing is read).
 */
#include "disk_load.h"

#include "disk_block.h"
#include "pvclock.h"
#include "tcp.h"
#include "virtio_blk.h"

#define REPORT_ONLY (~0ull)
#define REGION_MASK ((1ull << 56) - 1)
#define READ_EVERY 8
#define FLUSH_EVERY 64
#define BACKLOG_NS_MAX 5000000
#define SECOND_NS 1000000000ull

HOT static struct {
  u64 boot_id;
  u64 first;
  u64 count;
  u64 next;    /* n of the next write */
  u64 base;    /* sequences given by the loads before */
  u64 pace_ns; /* between two writes; 0: as fast as it goes */
  u64 due_ns;
  u32 disk;
  u32 window;
  u32 under_way;    /* writes and reads of this and earlier loads */
  bool read_before; /* the block at the cursor was read in this pass */
  bool flushing;
  bool flush_wanted;
  struct DiskLoadFigures figures;
} load;

/* Blocks under way, one more than their number in the region of the load; 0: none. */
static u64 places[DISK_LOAD_WINDOW_MAX];
/* Raised by every new load: what ends of an older one is counted, but not compared. */
static u32 life;

void disk_load_init(u64 boot_id) {
  load.boot_id = boot_id;
}

bool disk_load_set(u64 pace, u64 first, u64 region) {
  if (pace == REPORT_ONLY) return true;
  u32 window = (u32)pace;
  u64 per_second = pace >> 32;
  u64 count = region & REGION_MASK;
  u64 disk = region >> 56;
  if (window > DISK_LOAD_WINDOW_MAX) return false;
  if (window != 0) {
    if (disk >= blk_disks() || count == 0) return false;
    u64 blocks = blk_blocks((u32)disk);
    if (first >= blocks || count > blocks - first) return false;
    load.disk = (u32)disk;
    load.first = first;
    load.count = count;
    load.base += load.next;
    load.next = 0;
    load.read_before = false;
    load.pace_ns = per_second == 0 ? 0 : SECOND_NS / per_second;
    load.due_ns = pvclock_now_ns();
    for (u32 i = 0; i < DISK_LOAD_WINDOW_MAX; i++) places[i] = 0;
    life++;
  }
  load.window = window;
  return true;
}

static bool is_under_way(u64 offset) {
  for (u32 i = 0; i < DISK_LOAD_WINDOW_MAX; i++) {
    if (places[i] == offset + 1) return true;
  }
  return false;
}

/* What a completion must find again: the load's life and its place, which is free afterwards. */
static u64 take_place(u64 offset) {
  u32 i = 0;
  while (i < DISK_LOAD_WINDOW_MAX - 1 && places[i] != 0) i++;
  places[i] = offset + 1;
  return (u64)life << 32 | i;
}

/* True when it belongs to the present load. */
static bool end_one(const struct BlkRequest* request) {
  load.under_way--;
  if (request->failed) load.figures.errors++;
  if (request->owner >> 32 != life) return false;
  places[(u32)request->owner] = 0;
  return true;
}

static void written(struct BlkRequest* request) {
  end_one(request);
  if (!request->failed) load.figures.writes++;
}

static void read_back(struct BlkRequest* request) {
  if (!end_one(request) || request->failed) return;
  const struct BlockHeader* header = (const void*)request->data;
  load.figures.reads++;
  /* After a failed write nobody knows what its block holds. */
  if (load.figures.errors != 0) return;
  bool good = block_check(request->data) == kBlockWhole && header->kind == kBlockOfLoad &&
              header->boot_id == load.boot_id &&
              header->number == load.first + load.next % load.count &&
              header->sequence == load.base + 1 + load.next - load.count;
  if (!good) load.figures.broken++;
}

static void flushed(struct BlkRequest* request) {
  load.flushing = false;
  if (request->failed) load.figures.errors++;
}

static void flush(void) {
  if (!load.flush_wanted || load.flushing) return;
  struct BlkRequest* request = blk_begin(load.disk);
  if (request == NULL) return;
  request->done = flushed;
  blk_submit(request, kBlkFlush, 0);
  load.flushing = true;
  load.flush_wanted = false;
}

/* Hands over the read or write that is next. False when something under way must end first. */
static bool issue(void) {
  u64 offset = load.next % load.count;
  bool overlapping = load.count <= load.window;
  if (load.next == 0 && load.under_way > 0) return false; /* those of the load before */
  if (!overlapping && is_under_way(offset)) return false;
  struct BlkRequest* request = blk_begin(load.disk);
  if (request == NULL) return false;
  request->owner = take_place(offset);
  load.under_way++;
  bool second_pass = load.next >= load.count && !overlapping;
  if (second_pass && load.next % READ_EVERY == 0 && !load.read_before) {
    load.read_before = true;
    request->done = read_back;
    blk_submit(request, kBlkRead, load.first + offset);
    return true;
  }
  load.read_before = false;
  load.next++;
  request->done = written;
  block_fill(request->data, &(struct BlockHeader){.kind = kBlockOfLoad,
                                                  .number = load.first + offset,
                                                  .sequence = load.base + load.next,
                                                  .boot_id = load.boot_id});
  blk_submit(request, kBlkWrite, load.first + offset);
  if (load.next % FLUSH_EVERY == 0 && blk_needs_flush(load.disk)) load.flush_wanted = true;
  return true;
}

bool disk_load_step(void) {
  flush();
  if (load.window == 0 || load.under_way >= load.window) return false;
  if (load.pace_ns != 0) {
    u64 now = pvclock_now_ns();
    if (now < load.due_ns) return false;
    if (now - load.due_ns > BACKLOG_NS_MAX) load.due_ns = now - BACKLOG_NS_MAX;
  }
  u64 before = load.next;
  if (!issue()) return false;
  if (load.next != before) load.due_ns += load.pace_ns;
  return true;
}

u64 disk_load_due_ns(void) {
  if (load.window == 0 || load.under_way >= load.window || load.pace_ns == 0) return NEVER;
  u64 now = pvclock_now_ns();
  if (now < load.due_ns) return load.due_ns - now;
  /* Due, and yet the step just before did nothing: it waits for a completion. */
  return NEVER;
}

const struct DiskLoadFigures* disk_load_figures(void) {
  return &load.figures;
}

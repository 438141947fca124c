/* The requests that wait for a disk:
 *
 *   kFree ─▶ kMoving ──read done, or anything failed──▶ kEnded ─▶ answered ─▶ kFree
 *                └─▶ kWritten ─▶ kFlushing ──flush done──▲
 *
 * One flush is under way on a disk at a time. Writes that end meanwhile wait for the next one,
 * which then serves all of them; each is answered only after a flush that began when it was
 * written. A request enters the chain when it ends, so the order of sequence numbers is the order
 * in which the disk held the blocks: only one request for a block is under way at a time.
 */
#include "disk.h"

#include "disk_block.h"
#include "disk_load.h"
#include "memory.h"
#include "net.h"
#include "tcp.h"
#include "virtio_blk.h"

#define WAITING_MAX 16
#define DISK_SHIFT 56

enum State { kFree = 0, kMoving, kWritten, kFlushing, kEnded };

struct Waiting {
  struct BeaconRequest request;
  struct Route route;
  struct Outcome outcome;
  enum State state;
};

static struct Waiting all[WAITING_MAX];
HOT static struct {
  u64 boot_id;
  u32 ended;                  /* requests in state kEnded */
  u32 written[BLK_DISKS_MAX]; /* in state kWritten */
  bool flushing[BLK_DISKS_MAX];
} state;

void disk_init(u64 boot_id) {
  state.boot_id = boot_id;
  disk_load_init(boot_id);
}

static u32 disk_of(const struct Waiting* waiting) {
  return (u32)(waiting->request.c >> DISK_SHIFT);
}

static void end(struct Waiting* waiting, u16 status) {
  waiting->outcome.status = status;
  waiting->state = kEnded;
  state.ended++;
}

static void read_done(struct BlkRequest* request) {
  struct Waiting* waiting = &all[request->owner];
  const struct BlockHeader* header = (const void*)request->data;
  if (!request->failed) {
    enum BlockCondition condition = block_check(request->data);
    waiting->outcome.value = header->sequence;
    waiting->outcome.detail[0] = header->number;
    waiting->outcome.detail[1] = header->boot_id;
    waiting->outcome.detail[2] = condition;
    waiting->outcome.detail[3] = header->kind;
  }
  end(waiting, request->failed ? kStatusIoError : kStatusOk);
}

/* A write or a discard: both are good only when they are flushed. */
static void write_done(struct BlkRequest* request) {
  struct Waiting* waiting = &all[request->owner];
  if (request->failed || !blk_needs_flush(request->disk)) {
    end(waiting, request->failed ? kStatusIoError : kStatusOk);
    return;
  }
  waiting->state = kWritten;
  state.written[request->disk]++;
}

static void flush_done(struct BlkRequest* request) {
  state.flushing[request->disk] = false;
  for (u32 i = 0; i < WAITING_MAX; i++) {
    struct Waiting* waiting = &all[i];
    if (waiting->state != kFlushing || disk_of(waiting) != request->disk) continue;
    end(waiting, request->failed ? kStatusIoError : kStatusOk);
  }
}

static void flush(u32 disk) {
  struct BlkRequest* request = blk_begin(disk);
  if (request == NULL) return;
  request->done = flush_done;
  blk_submit(request, kBlkFlush, 0);
  state.flushing[disk] = true;
  state.written[disk] = 0;
  for (u32 i = 0; i < WAITING_MAX; i++) {
    if (all[i].state == kWritten && disk_of(&all[i]) == disk) all[i].state = kFlushing;
  }
}

/* A place for the request; null when there is none, or its block or itself is under way. */
static struct Waiting* find_place(const struct BeaconRequest* request) {
  struct Waiting* place = NULL;
  for (u32 i = 0; i < WAITING_MAX; i++) {
    const struct BeaconRequest* other = &all[i].request;
    if (all[i].state == kFree) {
      place = &all[i];
      continue;
    }
    if (other->client == request->client && other->request_id == request->request_id) return NULL;
    if (other->a == request->a && other->c == request->c) return NULL;
  }
  return place;
}

enum DiskBegun disk_begin(const struct BeaconRequest* request, const struct Route* route) {
  u64 disk = request->c >> DISK_SHIFT;
  if (disk >= blk_disks() || request->c != disk << DISK_SHIFT) return kDiskRefused;
  if (request->a >= blk_blocks((u32)disk)) return kDiskRefused;
  if (request->op == kOpDiskDiscard && !blk_can_discard((u32)disk)) return kDiskRefused;
  struct Waiting* waiting = find_place(request);
  struct BlkRequest* io = waiting == NULL ? NULL : blk_begin((u32)disk);
  if (io == NULL) return kDiskWaits;
  waiting->request = *request;
  waiting->route = *route;
  memset(&waiting->outcome, 0, sizeof waiting->outcome);
  waiting->state = kMoving;
  io->owner = (u64)(waiting - all);
  if (request->op == kOpDiskRead) {
    io->done = read_done;
    blk_submit(io, kBlkRead, request->a);
    return kDiskWaits;
  }
  waiting->outcome.value = request->b;
  io->done = write_done;
  if (request->op == kOpDiskDiscard) {
    blk_submit(io, kBlkDiscard, request->a);
    return kDiskWaits;
  }
  block_fill(io->data, &(struct BlockHeader){.kind = kBlockOfRequest,
                                             .number = request->a,
                                             .sequence = request->b,
                                             .boot_id = state.boot_id});
  blk_submit(io, kBlkWrite, request->a);
  return kDiskWaits;
}

/* Answers what has ended, as far as there is room to send. */
static void answer_ended(void) {
  for (u32 i = 0; i < WAITING_MAX && state.ended > 0; i++) {
    if (all[i].state != kEnded) continue;
    if (!service_finish(&all[i].request, &all[i].outcome, &all[i].route)) return;
    all[i].state = kFree;
    state.ended--;
  }
}

bool disk_poll(void) {
  if (blk_disks() == 0) return false;
  bool busy = blk_poll();
  if (state.ended > 0) {
    answer_ended();
    net_flush();
    busy = true;
  }
  for (u32 i = 0; i < blk_disks(); i++) {
    if (state.written[i] > 0 && !state.flushing[i]) flush(i);
  }
  busy |= disk_load_step();
  blk_publish();
  return busy;
}

u64 disk_due_ns(void) {
  return disk_load_due_ns();
}

/* A small, honest driver, which the attacks then misuse. */
#include "device.h"

#include "machine.h"

#define MAGIC 0x74726976
#define WAIT_TURNS 20000 /* each a register read that leaves the guest: some 25 us or more */

struct queue queues[QUEUES_MAX];
/* Devices write behind a buffer when the noise says so: nothing of ours may lie there. */
uint8_t buffer[8192 + BUFFER_SLACK_BYTES] __attribute__((aligned(4096)));

uint32_t device_id(uint64_t base) {
  return read32(base + REG_MAGIC) == MAGIC ? read32(base + REG_DEVICE_ID) : 0;
}

unsigned queue_count(uint32_t id) {
  return id == ID_NET ? 2 : 1;
}

const char* device_name(uint32_t id) {
  return id == ID_NET ? "net" : id == ID_BLK ? "blk" : id == ID_RNG ? "rng" : "device";
}

static void clear(void* at, unsigned bytes) {
  for (uint64_t* word = at; bytes >= 8; bytes -= 8) *word++ = 0;
}

void set_queue(uint64_t base, unsigned queue, uint32_t size, uint64_t desc, uint64_t driver,
               uint64_t device) {
  write32(base + REG_QUEUE_SEL, queue);
  write32(base + REG_QUEUE_NUM, size);
  write32(base + REG_QUEUE_DESC, (uint32_t)desc);
  write32(base + REG_QUEUE_DESC + 4, (uint32_t)(desc >> 32));
  write32(base + REG_QUEUE_DRIVER, (uint32_t)driver);
  write32(base + REG_QUEUE_DRIVER + 4, (uint32_t)(driver >> 32));
  write32(base + REG_QUEUE_DEVICE, (uint32_t)device);
  write32(base + REG_QUEUE_DEVICE + 4, (uint32_t)(device >> 32));
  write32(base + REG_QUEUE_READY, 1);
}

void bring_up(uint64_t base, unsigned count) {
  write32(base + REG_STATUS, 0);
  write32(base + REG_STATUS, 1);
  write32(base + REG_STATUS, 3);
  write32(base + REG_DRIVER_FEATURES_SEL, 0);
  write32(base + REG_DRIVER_FEATURES, 0);
  write32(base + REG_DRIVER_FEATURES_SEL, 1);
  write32(base + REG_DRIVER_FEATURES, 1);
  write32(base + REG_STATUS, 11);
  for (unsigned queue = 0; queue < count; queue++) {
    struct queue* q = &queues[queue];
    clear(q, sizeof(*q) & ~7u);
    set_queue(base, queue, QUEUE_SIZE, (uint64_t)q->desc, (uint64_t)&q->avail, (uint64_t)&q->used);
  }
  write32(base + REG_STATUS, 15);
}

void set_desc(unsigned queue, unsigned at, uint64_t addr, uint32_t len, uint16_t flags,
              uint16_t next) {
  queues[queue].desc[at] = (struct desc){addr, len, flags, next};
}

void offer(uint64_t base, unsigned queue, uint16_t head) {
  struct avail* avail = &queues[queue].avail;
  avail->ring[avail->idx % QUEUE_SIZE] = head;
  __asm__ volatile("" : : : "memory");
  avail->idx++;
  write32(base + REG_QUEUE_NOTIFY, queue);
}

bool needs_reset(uint64_t base) {
  return (read32(base + REG_STATUS) & STATUS_NEEDS_RESET) != 0;
}

bool waits_for_reset(uint64_t base) {
  for (unsigned turn = 0; turn < WAIT_TURNS; turn++) {
    if (needs_reset(base)) return true;
  }
  return false;
}

/* The register read in between gives the device's thread its time. */
static bool is_used(uint64_t base, unsigned queue) {
  for (unsigned turn = 0; turn < WAIT_TURNS; turn++) {
    if (queues[queue].used.idx == queues[queue].avail.idx) return true;
    if (needs_reset(base)) return false;
  }
  return false;
}

static void post_rng(uint64_t base) {
  set_desc(0, 0, (uint64_t)buffer, 64, DESC_WRITE, 0);
  offer(base, 0, 0);
}

static void post_net(uint64_t base) {
  clear(buffer, 128);
  set_desc(1, 0, (uint64_t)buffer, 12 + 60, 0, 0);
  offer(base, 1, 0);
}

static void post_blk(uint64_t base) {
  clear(buffer, 16);
  buffer[1024] = 0xff;
  set_desc(0, 0, (uint64_t)buffer, 16, DESC_NEXT, 1);
  set_desc(0, 1, (uint64_t)buffer + 512, 512, DESC_NEXT | DESC_WRITE, 2);
  set_desc(0, 2, (uint64_t)buffer + 1024, 1, DESC_WRITE, 0);
  offer(base, 0, 0);
}

void post(uint64_t base, uint32_t id) {
  if (id == ID_NET) post_net(base);
  if (id == ID_BLK) post_blk(base);
  if (id == ID_RNG) post_rng(base);
}

bool works(uint64_t base, uint32_t id) {
  bring_up(base, queue_count(id));
  post(base, id);
  if (!is_used(base, id == ID_NET ? 1 : 0)) return false;
  if (id == ID_RNG) return queues[0].used.ring[0].len == 64;
  return id != ID_BLK || *(volatile uint8_t*)&buffer[1024] == 0;
}

/* A virtio-mmio device (version 2) as its enemy sees it: enough of a driver to bring it up, and the
 * rings laid bare. Source: Virtio 1.2, §2.7 and §4.2.2.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define REG_MAGIC 0x000
#define REG_DEVICE_ID 0x008
#define REG_DRIVER_FEATURES 0x020
#define REG_DRIVER_FEATURES_SEL 0x024
#define REG_QUEUE_SEL 0x030
#define REG_QUEUE_NUM_MAX 0x034
#define REG_QUEUE_NUM 0x038
#define REG_QUEUE_READY 0x044
#define REG_QUEUE_NOTIFY 0x050
#define REG_INTERRUPT_ACK 0x064
#define REG_STATUS 0x070
#define REG_QUEUE_DESC 0x080
#define REG_QUEUE_DRIVER 0x090
#define REG_QUEUE_DEVICE 0x0a0

#define STATUS_NEEDS_RESET 64

#define ID_NET 1
#define ID_BLK 2
#define ID_RNG 4

#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4

#define QUEUE_SIZE 16
#define QUEUES_MAX 2

struct desc {
  uint64_t addr;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};

struct avail {
  uint16_t flags;
  volatile uint16_t idx;
  uint16_t ring[QUEUE_SIZE];
};

struct used {
  uint16_t flags;
  volatile uint16_t idx;
  struct {
    uint32_t id, len;
  } ring[QUEUE_SIZE];
};

struct queue {
  struct desc desc[QUEUE_SIZE];
  struct avail avail;
  struct used used;
} __attribute__((aligned(4096)));

extern struct queue queues[QUEUES_MAX];
/* Memory for buffers, the last thing in ours. */
#define BUFFER_SLACK_BYTES 65536
extern uint8_t buffer[8192 + BUFFER_SLACK_BYTES];

/* The device's id at this window, 0 when there is none. */
uint32_t device_id(uint64_t base);
unsigned queue_count(uint32_t id);
const char* device_name(uint32_t id);
/* Resets it, agrees on VERSION_1 alone, sets up `count` clean queues, says DRIVER_OK. */
void bring_up(uint64_t base, unsigned count);
/* Tells it where the rings of a queue are, and that the queue is ready. */
void set_queue(uint64_t base, unsigned queue, uint32_t size, uint64_t desc, uint64_t driver,
               uint64_t device);
void set_desc(unsigned queue, unsigned at, uint64_t addr, uint32_t len, uint16_t flags,
              uint16_t next);
/* Makes the chain at `head` available and notifies. */
void offer(uint64_t base, unsigned queue, uint16_t head);
bool needs_reset(uint64_t base);
/* Waits for NEEDS_RESET; false when it does not come. */
bool waits_for_reset(uint64_t base);
/* Posts an honest request and does not wait for it. */
void post(uint64_t base, uint32_t id);
/* An honest request; false when the device does not serve it. */
bool works(uint64_t base, uint32_t id);

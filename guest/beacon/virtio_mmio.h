/* virtio over MMIO, version 2: finding a device, its handshake, and split queues.
 *
 * A queue is one page, so that using it dirties one page and no more:
 *
 *     0  descriptors   128 x 16
 *  2048  available     flags, idx, ring[128], used_event
 *  2312  used          flags, idx, (id, len)[128], avail_event
 *  3344  driver state  what only we look at
 */
#pragma once

#include "types.h"

#define QUEUE_SIZE_MAX 128

struct VirtioDescriptor {
  u64 address;
  u32 length;
  u16 flags;
  u16 next;
};
#define DESCRIPTOR_NEXT 1
#define DESCRIPTOR_DEVICE_WRITES 2

struct VirtioUsedElement {
  u32 id;
  u32 length;
};

struct VirtioQueue {
  struct VirtioDescriptor descriptors[QUEUE_SIZE_MAX];
  volatile u16 available_flags;
  volatile u16 available_index;
  volatile u16 available_ring[QUEUE_SIZE_MAX];
  volatile u16 used_event;
  u16 pad;
  volatile u16 used_flags;
  volatile u16 used_index;
  volatile struct VirtioUsedElement used_ring[QUEUE_SIZE_MAX];
  volatile u16 available_event;
  u16 pad2;

  u16 size;      /* a power of two, at most QUEUE_SIZE_MAX */
  u16 number;    /* of the queue, for the notification */
  u16 published; /* our copy of available_index */
  u16 used_seen; /* used entries taken so far */
  u16 free_count;
  u16 free[QUEUE_SIZE_MAX]; /* descriptors not with the device, the last used on top */
} __attribute__((aligned(PAGE_BYTES)));
_Static_assert(sizeof(struct VirtioQueue) == PAGE_BYTES, "one page");
_Static_assert(offsetof(struct VirtioQueue, available_flags) == 2048, "as drawn");
_Static_assert(offsetof(struct VirtioQueue, used_flags) == 2312, "as drawn");
_Static_assert(offsetof(struct VirtioQueue, size) == 3344, "as drawn");

struct VirtioDevice {
  u64 address;
  u32 irq;
};

/* True when a version 2 device of this type answers at `address`. */
bool virtio_probe(u64 address, u32 type);
/* Reset, then features: `needed` of the low 32 and VERSION_1. False when the device lacks one.
 * `welcome` (null: none) names more of the low 32; those that the device has too are left in it. */
bool virtio_negotiate(const struct VirtioDevice* device, u32 needed, u32* welcome);
/* Gives the device a queue; all its descriptors are free. False when the device has none such. */
bool virtio_queue_init(const struct VirtioDevice* device, struct VirtioQueue* queue, u16 number);
/* DRIVER_OK: the device may work from here on. False when it refuses. */
bool virtio_start(const struct VirtioDevice* device);
u8 virtio_config_byte(const struct VirtioDevice* device, u32 offset);
/* Lets the device raise its next edge. To be called after each interrupt, before sleeping. */
void virtio_acknowledge(const struct VirtioDevice* device);

/* Puts a descriptor into the available ring; the device sees it after virtio_publish(). */
void virtio_offer(struct VirtioQueue* queue, u16 descriptor);
/* Shows the device what was offered and notifies it unless it asked not to be. */
void virtio_publish(const struct VirtioDevice* device, struct VirtioQueue* queue);
/* Whether the device has used something that we have not taken yet. */
static inline bool virtio_has_used(const struct VirtioQueue* queue) {
  return queue->used_index != queue->used_seen;
}
/* Takes the next used element. Only after virtio_has_used(). */
struct VirtioUsedElement virtio_take_used(struct VirtioQueue* queue);
/* Whether the device should interrupt when it has used something. */
static inline void virtio_set_interrupts(struct VirtioQueue* queue, bool on) {
  u16 flags = on ? 0 : 1;
  if (queue->available_flags != flags) queue->available_flags = flags;
}

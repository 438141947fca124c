/* The virtio-mmio transport (version 2) and split virtqueues, as the virtio 1.2 text has them. */
#include "virtio_mmio.h"

#include "memory.h"

enum Register {
  kMagic = 0x000,
  kVersion = 0x004,
  kDeviceType = 0x008,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSelect = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSelect = 0x024,
  kQueueSelect = 0x030,
  kQueueSizeMax = 0x034,
  kQueueSize = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptAcknowledge = 0x064,
  kStatus = 0x070,
  kQueueDescriptors = 0x080,
  kQueueAvailable = 0x090,
  kQueueUsed = 0x0a0,
  kConfig = 0x100,
};

#define MAGIC 0x74726976 /* "virt" */
#define STATUS_ACKNOWLEDGE 1
#define STATUS_DRIVER 2
#define STATUS_DRIVER_OK 4
#define STATUS_FEATURES_OK 8
#define STATUS_NEEDS_RESET 64
#define STATUS_FAILED 128
#define FEATURE_HIGH_VERSION_1 1 /* bit 32 */
#define USED_NO_NOTIFY 1

static u32 get(const struct VirtioDevice* device, enum Register at) {
  return mmio_read(device->address + at);
}
static void set(const struct VirtioDevice* device, enum Register at, u32 value) {
  mmio_write(device->address + at, value);
}
static void set_address(const struct VirtioDevice* device, enum Register at,
                        const volatile void* p) {
  set(device, at, (u32)(u64)p);
  mmio_write(device->address + at + 4, (u32)((u64)p >> 32));
}

bool virtio_probe(u64 address, u32 type) {
  return mmio_read(address + kMagic) == MAGIC && mmio_read(address + kVersion) == 2 &&
         mmio_read(address + kDeviceType) == type;
}

bool virtio_negotiate(const struct VirtioDevice* device, u32 needed, u32* welcome) {
  set(device, kStatus, 0);
  while (get(device, kStatus) != 0) {
  }
  set(device, kStatus, STATUS_ACKNOWLEDGE);
  set(device, kStatus, STATUS_ACKNOWLEDGE | STATUS_DRIVER);
  set(device, kDeviceFeaturesSelect, 0);
  u32 low = get(device, kDeviceFeatures);
  set(device, kDeviceFeaturesSelect, 1);
  u32 high = get(device, kDeviceFeatures);
  if ((low & needed) != needed || (high & FEATURE_HIGH_VERSION_1) == 0) {
    set(device, kStatus, STATUS_FAILED);
    return false;
  }
  if (welcome != NULL) *welcome &= low;
  set(device, kDriverFeaturesSelect, 0);
  set(device, kDriverFeatures, needed | (welcome == NULL ? 0 : *welcome));
  set(device, kDriverFeaturesSelect, 1);
  set(device, kDriverFeatures, FEATURE_HIGH_VERSION_1);
  set(device, kStatus, STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
  return (get(device, kStatus) & STATUS_FEATURES_OK) != 0;
}

bool virtio_queue_init(const struct VirtioDevice* device, struct VirtioQueue* queue, u16 number) {
  set(device, kQueueSelect, number);
  u32 size_max = get(device, kQueueSizeMax);
  if (size_max == 0 || get(device, kQueueReady) != 0) return false;
  u16 size = QUEUE_SIZE_MAX;
  while (size > size_max) size /= 2;
  memset(queue, 0, sizeof *queue);
  queue->size = size;
  queue->number = number;
  queue->free_count = size;
  for (u16 i = 0; i < size; i++) queue->free[i] = (u16)(size - 1 - i);
  queue->available_flags = 1;
  set(device, kQueueSize, size);
  set_address(device, kQueueDescriptors, queue->descriptors);
  set_address(device, kQueueAvailable, &queue->available_flags);
  set_address(device, kQueueUsed, &queue->used_flags);
  set(device, kQueueReady, 1);
  return true;
}

bool virtio_start(const struct VirtioDevice* device) {
  u32 status = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
  set(device, kStatus, status);
  return (get(device, kStatus) & (STATUS_NEEDS_RESET | STATUS_FAILED)) == 0;
}

u8 virtio_config_byte(const struct VirtioDevice* device, u32 offset) {
  return mmio_read_byte(device->address + kConfig + offset);
}

void virtio_acknowledge(const struct VirtioDevice* device) {
  set(device, kInterruptAcknowledge, 3);
}

void virtio_offer(struct VirtioQueue* queue, u16 descriptor) {
  queue->available_ring[queue->published & (queue->size - 1)] = descriptor;
  queue->published++;
}

void virtio_publish(const struct VirtioDevice* device, struct VirtioQueue* queue) {
  if (queue->available_index == queue->published) return;
  compiler_barrier(); /* x86 keeps stores in order: the entries come before the index */
  queue->available_index = queue->published;
  full_barrier();
  if ((queue->used_flags & USED_NO_NOTIFY) == 0) set(device, kQueueNotify, queue->number);
}

struct VirtioUsedElement virtio_take_used(struct VirtioQueue* queue) {
  compiler_barrier();
  const volatile struct VirtioUsedElement* from =
      &queue->used_ring[queue->used_seen & (queue->size - 1)];
  struct VirtioUsedElement element = {from->id, from->length};
  queue->used_seen++;
  return element;
}

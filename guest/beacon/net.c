/* virtio-net with one receive and one transmit queue, nothing negotiated but the MAC.
 *
 * A buffer: 12 bytes of virtio-net header (all zero on the way out), then the Ethernet frame.
 * Receive descriptor i always means buffer i. Transmit buffers are reused last in, first out, so
 * that light traffic keeps to one page. */
#include "net.h"

#include "gaps.h"
#include "stack.h"

#define FEATURE_MAC (1u << 5)
#define NET_HEADER_BYTES 12
#define BUFFER_BYTES 2048
#define ETHERNET_HEADER_BYTES 14

enum { kReceive = 0, kTransmit = 1 };

static struct VirtioQueue receive PAGES;
static struct VirtioQueue transmit PAGES;
static u8 transmit_buffers[QUEUE_SIZE_MAX][BUFFER_BYTES] PAGES;
static u8 receive_buffers[QUEUE_SIZE_MAX][BUFFER_BYTES] PAGES;
HOT static struct VirtioDevice device;
HOT u8 net_mac[6];

const char* net_init(const struct VirtioDevice* found) {
  device = *found;
  if (!virtio_negotiate(&device, FEATURE_MAC, NULL)) return "it does not offer VERSION_1 and a MAC";
  for (u32 i = 0; i < 6; i++) net_mac[i] = virtio_config_byte(&device, i);
  if (!virtio_queue_init(&device, &receive, kReceive)) return "it has no receive queue";
  if (!virtio_queue_init(&device, &transmit, kTransmit)) return "it has no transmit queue";
  for (u16 i = 0; i < receive.size; i++) {
    receive.descriptors[i].address = (u64)receive_buffers[i];
    receive.descriptors[i].length = BUFFER_BYTES;
    receive.descriptors[i].flags = DESCRIPTOR_DEVICE_WRITES;
    virtio_offer(&receive, i);
  }
  for (u16 i = 0; i < transmit.size; i++) {
    transmit.descriptors[i].address = (u64)transmit_buffers[i];
  }
  if (!virtio_start(&device)) return "it refused to start";
  virtio_publish(&device, &receive);
  return NULL;
}

u8* net_send_begin(void) {
  while (virtio_has_used(&transmit)) {
    u32 id = virtio_take_used(&transmit).id;
    if (id < transmit.size && transmit.free_count < transmit.size) {
      transmit.free[transmit.free_count++] = (u16)id;
    }
  }
  if (transmit.free_count == 0) return NULL;
  return transmit_buffers[transmit.free[transmit.free_count - 1]] + NET_HEADER_BYTES;
}

void net_send(u32 length) {
  u16 id = transmit.free[--transmit.free_count];
  transmit.descriptors[id].length = NET_HEADER_BYTES + length;
  virtio_offer(&transmit, id);
}

void net_flush(void) {
  virtio_publish(&device, &transmit);
  virtio_publish(&device, &receive);
}

bool net_poll(unsigned frames_max) {
  if (!virtio_has_used(&receive)) return false;
  for (unsigned i = 0; i < frames_max && virtio_has_used(&receive); i++) {
    /* Without room for an answer the frame waits: what was asked is then answered later. */
    if (net_send_begin() == NULL) break;
    struct VirtioUsedElement used = virtio_take_used(&receive);
    if (used.id >= receive.size) continue;
    if (used.length >= NET_HEADER_BYTES + ETHERNET_HEADER_BYTES && used.length <= BUFFER_BYTES) {
      stack_receive(receive_buffers[used.id] + NET_HEADER_BYTES, used.length - NET_HEADER_BYTES);
    }
    virtio_offer(&receive, (u16)used.id);
    gaps_mark();
  }
  net_flush();
  gaps_mark();
  return true;
}

bool net_prepare_sleep(bool woken) {
  if (woken) virtio_acknowledge(&device);
  virtio_set_interrupts(&receive, true);
  full_barrier();
  return !virtio_has_used(&receive);
}

void net_awake(void) {
  virtio_set_interrupts(&receive, false);
}

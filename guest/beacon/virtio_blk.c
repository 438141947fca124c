/* The driver of virtio-blk: requests out, completions in, on as many disks as there are. */
#include "virtio_blk.h"

#include "memory.h"

#define FEATURE_FLUSH (1u << 9)
#define FEATURE_DISCARD (1u << 13)
#define SECTOR_BYTES 512
#define SECTORS_PER_BLOCK (BLK_BLOCK_BYTES / SECTOR_BYTES)
#define PER_SLOT 3
#define STATUS_OK 0
/* What no device writes: a completion that leaves it there is no success. */
#define STATUS_UNTOUCHED 0xff

/* What the device reads and the byte that it writes, one place a slot. */
struct Header {
  u32 type;
  u32 reserved;
  u64 sector;
  volatile u8 status;
  u8 pad[15];
};
_Static_assert(sizeof(struct Header) == 32, "32 of them are a quarter of a page");

/* The data of a discard. */
struct Range {
  u64 sector;
  u32 sectors;
  u32 flags;
};

struct Disk {
  struct VirtioQueue queue;
  struct Header headers[BLK_SLOTS];
  struct BlkRequest requests[BLK_SLOTS];
  struct VirtioDevice device;
  u64 blocks;
  u32 under_way; /* one bit a slot: the device has it */
  u32 taken;     /* one bit a slot: the device or a caller has it */
  u32 slots;
  bool needs_flush;
  bool can_discard;
};

static struct Disk disks[BLK_DISKS_MAX] PAGES;
static u8 buffers[BLK_DISKS_MAX][BLK_SLOTS][BLK_BLOCK_BYTES] PAGES;
HOT static u32 count;

const char* blk_init(const struct VirtioDevice* device) {
  if (count == BLK_DISKS_MAX) return "there are more than four";
  struct Disk* disk = &disks[count];
  u32 granted = FEATURE_FLUSH | FEATURE_DISCARD;
  if (!virtio_negotiate(device, 0, &granted)) return "it does not offer VERSION_1";
  if (!virtio_queue_init(device, &disk->queue, 0)) return "it has no queue";
  u64 sectors = 0;
  for (u32 i = 0; i < 8; i++) sectors |= (u64)virtio_config_byte(device, i) << (8 * i);
  disk->device = *device;
  disk->blocks = sectors / SECTORS_PER_BLOCK;
  disk->needs_flush = (granted & FEATURE_FLUSH) != 0;
  disk->can_discard = (granted & FEATURE_DISCARD) != 0;
  disk->slots = disk->queue.size / PER_SLOT;
  if (disk->slots > BLK_SLOTS) disk->slots = BLK_SLOTS;
  for (u32 i = 0; i < disk->slots; i++) {
    struct BlkRequest* request = &disk->requests[i];
    request->disk = (u8)count;
    request->slot = (u8)i;
    request->data = buffers[count][i];
    struct VirtioDescriptor* at = &disk->queue.descriptors[PER_SLOT * i];
    at[0].address = (u64)&disk->headers[i];
    at[0].length = offsetof(struct Header, status);
    at[0].flags = DESCRIPTOR_NEXT;
    at[1].address = (u64)request->data;
    at[1].next = (u16)(PER_SLOT * i + 2);
    at[2].address = (u64)&disk->headers[i].status;
    at[2].length = 1;
    at[2].flags = DESCRIPTOR_DEVICE_WRITES;
  }
  if (!virtio_start(device)) return "it refused to start";
  count++;
  return NULL;
}

u32 blk_disks(void) {
  return count;
}
u64 blk_blocks(u32 disk) {
  return disks[disk].blocks;
}
bool blk_needs_flush(u32 disk) {
  return disks[disk].needs_flush;
}

bool blk_can_discard(u32 disk) {
  return disks[disk].can_discard;
}

struct BlkRequest* blk_begin(u32 number) {
  struct Disk* disk = &disks[number];
  for (u32 i = 0; i < disk->slots; i++) {
    if ((disk->taken & 1u << i) != 0) continue;
    disk->taken |= 1u << i;
    return &disk->requests[i];
  }
  return NULL;
}

void blk_submit(struct BlkRequest* request, enum BlkType type, u64 block) {
  struct Disk* disk = &disks[request->disk];
  struct Header* header = &disk->headers[request->slot];
  u16 head = (u16)(PER_SLOT * request->slot);
  header->type = (u32)type;
  header->sector = 0;
  if (type == kBlkDiscard) {
    *(struct Range*)request->data = (struct Range){block * SECTORS_PER_BLOCK, SECTORS_PER_BLOCK, 0};
  } else if (type != kBlkFlush) {
    header->sector = block * SECTORS_PER_BLOCK;
  }
  header->status = STATUS_UNTOUCHED;
  /* A flush goes from the header straight to the status. */
  disk->queue.descriptors[head].next = (u16)(type == kBlkFlush ? head + 2 : head + 1);
  disk->queue.descriptors[head + 1].length =
      type == kBlkDiscard ? (u32)sizeof(struct Range) : BLK_BLOCK_BYTES;
  disk->queue.descriptors[head + 1].flags =
      DESCRIPTOR_NEXT | (type == kBlkRead ? DESCRIPTOR_DEVICE_WRITES : 0);
  disk->under_way |= 1u << request->slot;
  virtio_offer(&disk->queue, head);
}

void blk_publish(void) {
  for (u32 i = 0; i < count; i++) virtio_publish(&disks[i].device, &disks[i].queue);
}

/* Ends the request whose first descriptor is `head`; what never was under way is ignored. */
static void complete(struct Disk* disk, u32 head) {
  u32 slot = head / PER_SLOT;
  if (head % PER_SLOT != 0 || slot >= disk->slots || (disk->under_way & 1u << slot) == 0) return;
  struct BlkRequest* request = &disk->requests[slot];
  disk->under_way &= ~(1u << slot);
  request->failed = disk->headers[slot].status != STATUS_OK;
  request->done(request);
  disk->taken &= ~(1u << slot);
}

bool blk_poll(void) {
  bool any = false;
  for (u32 i = 0; i < count; i++) {
    struct Disk* disk = &disks[i];
    for (; virtio_has_used(&disk->queue); any = true) {
      complete(disk, virtio_take_used(&disk->queue).id);
    }
  }
  return any;
}

bool blk_prepare_sleep(bool woken) {
  bool idle = true;
  for (u32 i = 0; i < count; i++) {
    if (woken) virtio_acknowledge(&disks[i].device);
    virtio_set_interrupts(&disks[i].queue, true);
  }
  if (count > 0) full_barrier();
  for (u32 i = 0; i < count; i++) idle = idle && !virtio_has_used(&disks[i].queue);
  return idle;
}

void blk_awake(void) {
  for (u32 i = 0; i < count; i++) virtio_set_interrupts(&disks[i].queue, false);
}

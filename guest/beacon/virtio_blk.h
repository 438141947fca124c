/* virtio-blk: up to four disks, each with one queue and 32 requests under way at most.
 *
 * A request is a slot s of its disk: three descriptors that never change their place
 *
 *     3s     header, 16 bytes   type, sector              read by the device
 *     3s + 1 data, one block    not for a flush           read or written
 *            or one 16-byte range, of a discard           read
 *     3s + 2 status, 1 byte     0 done, 1 failed, 2 unknown  written
 *
 * so a block of data always has its slot's buffer. Interrupts are on only while the CPU sleeps. */
#pragma once

#include "types.h"
#include "virtio_mmio.h"

#define BLK_DISKS_MAX 4
#define BLK_SLOTS 32
/* What one request moves. */
#define BLK_BLOCK_BYTES 4096u

enum BlkType { kBlkRead = 0, kBlkWrite = 1, kBlkFlush = 4, kBlkDiscard = 11 };

struct BlkRequest {
  u8 disk;
  u8 slot;
  bool failed;                      /* the device said so, once it is done */
  u8* data;                         /* BLK_BLOCK_BYTES */
  void (*done)(struct BlkRequest*); /* called by blk_poll(); the slot is free afterwards */
  u64 owner;                        /* whatever the caller wants to find again */
};

/* Adds a disk. Null, or why it could not be. */
const char* blk_init(const struct VirtioDevice* device);
/* How many disks there are; they are numbered in the order in which they were added. */
u32 blk_disks(void);
/* Whole blocks of a disk. */
u64 blk_blocks(u32 disk);
/* False: the device keeps what it has taken without being told to. */
bool blk_needs_flush(u32 disk);
/* Whether blocks can be given back to the device. */
bool blk_can_discard(u32 disk);
/* A free slot of `disk` whose data may be written; null when all are under way. */
struct BlkRequest* blk_begin(u32 disk);
/* Hands it to the device, which learns of it at blk_publish(). `block` is not for a flush. */
void blk_submit(struct BlkRequest* request, enum BlkType type, u64 block);
/* Notifies the devices of everything handed over. */
void blk_publish(void);
/* Calls done() of what has ended. True if anything had. */
bool blk_poll(void);
/* Before sleeping; `woken`: a device interrupt has come since. False when there is work already. */
bool blk_prepare_sleep(bool woken);
/* After sleeping: no interrupts while we look ourselves. */
void blk_awake(void);

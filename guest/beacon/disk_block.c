/* Blocks that can be recognized: every byte of one follows from its header, and a checksum binds
 * them, so a block that is half one write and half another never looks whole. */
#include "disk_block.h"

#include "fnv.h"
#include "memory.h"
#include "virtio_blk.h"

#define CHECKSUM_AT (BLK_BLOCK_BYTES - 8)

void block_fill(u8* block, const struct BlockHeader* header) {
  struct BlockHeader* to = (void*)block;
  *to = *header;
  to->magic = BLOCK_MAGIC;
  u64 word = fnv1a(FNV_OFFSET, &to->kind, sizeof *to - offsetof(struct BlockHeader, kind));
  for (u32 at = sizeof *to; at < CHECKSUM_AT; at += 8) {
    word = word * 6364136223846793005ull + 1442695040888963407ull;
    *(u64*)(block + at) = word;
  }
  *(u64*)(block + CHECKSUM_AT) = fnv1a(FNV_OFFSET, block, CHECKSUM_AT);
}

static bool is_blank(const u8* block) {
  for (u32 at = 0; at < BLK_BLOCK_BYTES; at += 8) {
    if (*(const u64*)(block + at) != 0) return false;
  }
  return true;
}

enum BlockCondition block_check(const u8* block) {
  const struct BlockHeader* header = (const void*)block;
  bool good = header->magic == BLOCK_MAGIC &&
              *(const u64*)(block + CHECKSUM_AT) == fnv1a(FNV_OFFSET, block, CHECKSUM_AT);
  if (good) return kBlockWhole;
  return is_blank(block) ? kBlockBlank : kBlockTorn;
}

/* What one block on a disk looks like; docs/beacon.md draws it, the judges read it there.
 *
 *      0  "FTBD"   4  kind   8  number   16  sequence   24  boot id
 *     32  pattern: 507 words made from the 28 bytes at 4
 *   4088  checksum of all before it
 */
#pragma once

#include "types.h"

#define BLOCK_MAGIC 0x44425446 /* "FTBD" */

enum BlockKind { kBlockOfRequest = 1, kBlockOfLoad = 2 };
enum BlockCondition { kBlockBlank = 0, kBlockWhole = 1, kBlockTorn = 2 };

struct BlockHeader {
  u32 magic;
  u32 kind;
  u64 number;
  u64 sequence;
  u64 boot_id;
};
_Static_assert(sizeof(struct BlockHeader) == 32, "the contract");

/* Makes a whole block out of the header's fields; the magic is put in. */
void block_fill(u8* block, const struct BlockHeader* header);
/* Blank: nothing but zeros. Torn: not blank, and magic or checksum is wrong. */
enum BlockCondition block_check(const u8* block);

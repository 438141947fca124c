/* From the zero page of a Linux loader to PVH's start info: the same facts in another form. It runs
 * at CPL0, so a few instructions an entry and no more entries than there is room for. */
#include "start_info.h"

#define E820_COUNT 0x1e8
#define COMMAND_LINE 0x228
#define E820_TABLE 0x2d0
#define ENTRIES_MAX 16

struct E820Entry {
  u64 address;
  u64 bytes;
  u32 type;
} PACKED;

static struct HvmStartInfo made_info;
static struct MemoryMapEntry made_map[ENTRIES_MAX];

u32 start_info_from_zero_page(u64 zero_page) {
  const u8* page = (const u8*)zero_page;
  const struct E820Entry* table = (const struct E820Entry*)(page + E820_TABLE);
  u32 entries = page[E820_COUNT];
  if (entries > ENTRIES_MAX) entries = ENTRIES_MAX;
  for (u32 i = 0; i < entries; i++) {
    made_map[i].address = table[i].address;
    made_map[i].bytes = table[i].bytes;
    made_map[i].type = table[i].type;
  }
  made_info.magic = HVM_START_MAGIC;
  made_info.version = 1;
  made_info.command_line = *(const u32*)(page + COMMAND_LINE);
  made_info.memory_map = (u64)made_map;
  made_info.memory_map_entries = entries;
  return (u32)(u64)&made_info;
}

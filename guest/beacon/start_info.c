/* Reading struct hvm_start_info, version 1 (with a memory map). */
#include "start_info.h"

#define MEMORY_IS_RAM 1
/* What lies from here up to 4 GiB is devices, and nothing beyond is mapped. */
#define RAM_END_MAX 0xc0000000ull

extern u8 _end[];

const char* start_info_read(u32 address, struct StartInfo* info) {
  const struct HvmStartInfo* from = (const void*)(u64)address;
  if (from->magic != HVM_START_MAGIC) return "the start info has no PVH magic";
  if (from->version < 1 || from->memory_map_entries == 0) return "the start info has no memory map";
  info->command_line = from->command_line == 0 ? "" : (const char*)from->command_line;
  info->memory_bytes = 0;
  info->free_pages = 0;
  info->free_first = ((u64)_end + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
  const struct MemoryMapEntry* map = (const void*)from->memory_map;
  for (u32 i = 0; i < from->memory_map_entries; i++) {
    if (map[i].type != MEMORY_IS_RAM) continue;
    info->memory_bytes += map[i].bytes;
    u64 end = map[i].address + map[i].bytes;
    if (end > RAM_END_MAX) end = RAM_END_MAX;
    if (map[i].address < info->free_first && info->free_first < end) {
      info->free_pages = (end - info->free_first) / PAGE_BYTES;
    }
  }
  return info->free_pages == 0 ? "there is no memory behind the image" : NULL;
}

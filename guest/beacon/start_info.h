/* What the loader tells: the command line and the memory map. A PVH loader says it in this form; a
 * Linux loader's zero page is put into it (bzimage.S). */
#pragma once

#include "types.h"

#define HVM_START_MAGIC 0x336ec578

struct HvmStartInfo {
  u32 magic;
  u32 version;
  u32 flags;
  u32 modules;
  u64 module_list;
  u64 command_line;
  u64 rsdp;
  u64 memory_map;
  u32 memory_map_entries;
  u32 reserved;
};

struct MemoryMapEntry {
  u64 address;
  u64 bytes;
  u32 type;
  u32 reserved;
};

struct StartInfo {
  const char* command_line; /* never null */
  u64 memory_bytes;         /* all RAM */
  u64 free_first;           /* first whole page behind the image */
  u64 free_pages;           /* up to the end of that stretch of RAM */
};

/* Null, or why the start info is of no use. */
const char* start_info_read(u32 address, struct StartInfo* info);

/* Of the 64-bit Linux boot protocol: makes a start info from a zero page; its address. */
u32 start_info_from_zero_page(u64 zero_page);

/* What the PVH loader tells: the command line and the memory map. */
#pragma once

#include "types.h"

struct StartInfo {
  const char* command_line; /* never null */
  u64 memory_bytes;         /* all RAM */
  u64 free_first;           /* first whole page behind the image */
  u64 free_pages;           /* up to the end of that stretch of RAM */
};

/* Null, or why the start info is of no use. */
const char* start_info_read(u32 address, struct StartInfo* info);

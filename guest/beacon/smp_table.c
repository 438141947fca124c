/* Reading the MP table: the floating pointer is looked for where the specification says, in the
 * last KiB of base memory and in the BIOS area; processor entries come first in the table. */
#include "smp_table.h"

#include "memory.h"

#define BASE_MEMORY_END 0xa0000
#define BIOS_AREA 0xf0000
#define BIOS_AREA_END 0x100000
#define ENTRY_PROCESSOR 0
#define PROCESSOR_USABLE 1
#define PROCESSOR_BOOT 2

struct PACKED FloatingPointer {
  char signature[4];
  u32 table;
  u8 paragraphs;
  u8 revision;
  u8 checksum;
  u8 features[5];
};
_Static_assert(sizeof(struct FloatingPointer) == 16, "the specification");

struct PACKED TableHeader {
  char signature[4];
  u16 bytes;
  u8 revision;
  u8 checksum;
  char oem[8];
  char product[12];
  u32 oem_table;
  u16 oem_bytes;
  u16 entries;
  u32 lapic;
  u32 extended;
};
_Static_assert(sizeof(struct TableHeader) == 44, "the specification");

struct PACKED ProcessorEntry {
  u8 type;
  u8 apic_id;
  u8 apic_version;
  u8 flags;
  u32 signature;
  u32 features;
  u32 reserved[2];
};
_Static_assert(sizeof(struct ProcessorEntry) == 20, "the specification");

static bool sums_up(const void* from, u32 bytes) {
  const u8* at = from;
  u8 sum = 0;
  for (u32 i = 0; i < bytes; i++) sum += at[i];
  return sum == 0;
}

static const struct TableHeader* find_in(u64 from, u64 end) {
  for (u64 at = from; at < end; at += sizeof(struct FloatingPointer)) {
    const struct FloatingPointer* pointer = (const void*)at;
    if (memcmp(pointer->signature, "_MP_", 4) != 0 || !sums_up(pointer, sizeof *pointer)) continue;
    const struct TableHeader* header = (const void*)(u64)pointer->table;
    if (pointer->table == 0 || memcmp(header->signature, "PCMP", 4) != 0) continue;
    if (header->bytes >= sizeof *header && sums_up(header, header->bytes)) return header;
  }
  return NULL;
}

u32 smp_table_read(u8* apic_ids, u32 max) {
  const struct TableHeader* header = find_in(BASE_MEMORY_END - 1024, BASE_MEMORY_END);
  if (header == NULL) header = find_in(BIOS_AREA, BIOS_AREA_END);
  if (header == NULL) return 0;
  u32 count = 0;
  const struct ProcessorEntry* entry = (const void*)(header + 1);
  const struct ProcessorEntry* end = entry + (header->bytes - sizeof *header) / sizeof *entry;
  for (; entry < end && entry->type == ENTRY_PROCESSOR; entry++) {
    bool other = (entry->flags & (PROCESSOR_USABLE | PROCESSOR_BOOT)) == PROCESSOR_USABLE;
    if (other && count < max) apic_ids[count++] = entry->apic_id;
  }
  return count;
}

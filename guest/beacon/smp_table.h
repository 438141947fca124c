/* The MP table (Intel MultiProcessor Specification 1.4): which processors there are. */
#pragma once

#include "types.h"

/* Local APIC ids of the usable processors but the boot processor, at most `max`; how many. */
u32 smp_table_read(u8* apic_ids, u32 max);

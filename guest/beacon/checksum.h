/* The Internet checksum (RFC 1071). */
#pragma once

#include "types.h"

/* Adds bytes to a running sum; only the last piece may have an odd length. */
u64 checksum_add(u64 sum, const void* bytes, u32 length);
/* The sum over the pseudo header of UDP and TCP; addresses as they lie on the wire, `length` of the
 * header and all behind it. */
u64 checksum_pseudo(u32 source, u32 destination, u8 protocol, u32 length);
/* The checksum field's value as it lies in memory; 0 over data that carries a right checksum. */
u16 checksum_finish(u64 sum);

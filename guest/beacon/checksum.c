/* The Internet checksum over little-endian words: the sum of byte-swapped words is the swapped
 * sum, so nothing is swapped at all. */
#include "checksum.h"

#include "memory.h"

u64 checksum_add(u64 sum, const void* bytes, u32 length) {
  const u8* at = bytes;
  for (; length >= 4; length -= 4, at += 4) {
    u32 word;
    __builtin_memcpy(&word, at, 4);
    sum += word;
  }
  u32 tail = 0;
  if (length >= 2) {
    tail = at[0] | (u32)at[1] << 8;
    at += 2;
    length -= 2;
    sum += tail;
  }
  if (length == 1) sum += at[0];
  return sum;
}

u64 checksum_pseudo(u32 source, u32 destination, u8 protocol, u32 length) {
  return (u64)source + destination + swap16(protocol) + swap16((u16)length);
}

u16 checksum_finish(u64 sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return (u16)~sum;
}

/* FNV-1a, 64 bits: the hash of the chains. */
#pragma once

#include "types.h"

#define FNV_PRIME 0x100000001b3ull
#define FNV_OFFSET 0xcbf29ce484222325ull

static inline u64 fnv1a(u64 hash, const void* bytes, u32 length) {
  const u8* at = bytes;
  for (u32 i = 0; i < length; i++) hash = (hash ^ at[i]) * FNV_PRIME;
  return hash;
}

/* Numbered messages: what is spoken over TCP. Records of 16 bytes in, answers of 32 bytes out;
 * docs/beacon.md is the contract. Knows nothing of connections: it cuts a stream into records. */
#pragma once

#include "types.h"

struct MessageRecord {
  u64 number;
  u64 value;
};
_Static_assert(sizeof(struct MessageRecord) == 16, "the contract");

struct MessageAnswer {
  u64 number;
  u64 total;
  u64 boot_id;
  u64 hash;
};
_Static_assert(sizeof(struct MessageAnswer) == 32, "the contract");

/* The record with this number is the last one of its stream. */
#define MESSAGE_LAST (~0ull)

/* What is remembered of one stream. */
struct MessageStream {
  u64 total; /* sum of all values, modulo 2^64 */
  u64 hash;  /* over all records, begun with the boot id */
  u8 part[sizeof(struct MessageRecord)];
  u32 held; /* bytes in `part`: always fewer than a record */
};

void messages_init(u64 boot_id);
void messages_begin(struct MessageStream* stream);
/* Takes bytes from `*at` until a record is complete, and answers it. False when all `*left` bytes
 * are taken and none is. */
bool messages_next(struct MessageStream* stream, const u8** at, u32* left,
                   struct MessageAnswer* answer);

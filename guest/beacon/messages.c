/* Answering numbered messages: a running sum and a running hash over everything that came. */
#include "messages.h"

#include "fnv.h"
#include "memory.h"

static u64 boot_id;

void messages_init(u64 id) {
  boot_id = id;
}

void messages_begin(struct MessageStream* stream) {
  memset(stream, 0, sizeof *stream);
  stream->hash = boot_id;
}

bool messages_next(struct MessageStream* stream, const u8** at, u32* left,
                   struct MessageAnswer* answer) {
  u32 wanted = (u32)sizeof stream->part - stream->held;
  u32 taken = *left < wanted ? *left : wanted;
  memcpy(stream->part + stream->held, *at, taken);
  *at += taken;
  *left -= taken;
  stream->held += taken;
  if (stream->held < sizeof stream->part) return false;
  stream->held = 0;
  struct MessageRecord record;
  memcpy(&record, stream->part, sizeof record);
  u64 hash = fnv1a(FNV_OFFSET, &stream->hash, sizeof stream->hash);
  stream->hash = fnv1a(hash, &record, sizeof record);
  stream->total += record.value;
  *answer = (struct MessageAnswer){record.number, stream->total, boot_id, stream->hash};
  return true;
}

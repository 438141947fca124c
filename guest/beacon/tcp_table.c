/* The connections, their deadlines, and who has to go when a new one comes and none is free. */
#include "gaps.h"
#include "memory.h"
#include "net.h"
#include "pvclock.h"
#include "tcp_connection.h"

#define SILENT_NS (60 * 1000000000ull) /* after this an open connection may be forgotten */

static struct Connection connections[CONNECTIONS_MAX] PAGES;
static u8 buffers[CONNECTIONS_MAX][SEND_BYTES] PAGES;
HOT static u64 earliest_ns; /* no deadline is before this */
static u64 secret;

void tcp_init(u64 boot_id) {
  messages_init(boot_id);
  secret = read_tsc() ^ pvclock_now_ns() << 32;
  earliest_ns = NEVER;
  for (u32 i = 0; i < CONNECTIONS_MAX; i++) connections[i].deadline_ns = NEVER;
}

struct Connection* connection_find(u32 ip, u16 port) {
  for (u32 i = 0; i < CONNECTIONS_MAX; i++) {
    struct Connection* c = &connections[i];
    if (c->state != kFree && c->ip == ip && c->port == port) return c;
  }
  return NULL;
}

/* How gladly a place is given away; 0: not at all. */
static u32 dispensable(const struct Connection* c, u64 now_ns) {
  switch (c->state) {
    case kFree:
      return 4;
    case kTimeWait:
      return 3;
    case kHalfOpen:
      return 2;
    default:
      return now_ns - c->heard_ns > SILENT_NS ? 1 : 0;
  }
}

struct Connection* connection_take(u64 now_ns) {
  struct Connection* found = NULL;
  u32 best = 0;
  for (u32 i = 0; i < CONNECTIONS_MAX && best < 4; i++) {
    struct Connection* c = &connections[i];
    u32 rank = dispensable(c, now_ns);
    /* The longest silent of the most dispensable: a flood of SYNs can only push out its own. */
    if (rank > best || (rank == best && rank > 0 && c->heard_ns < found->heard_ns)) {
      found = c;
      best = rank;
    }
  }
  if (found == NULL) return NULL;
  memset(found, 0, sizeof *found);
  found->deadline_ns = NEVER;
  return found;
}

void connection_release(struct Connection* c) {
  c->state = kFree;
  c->deadline_ns = NEVER;
}

void connection_set_deadline(struct Connection* c, u64 at_ns) {
  c->deadline_ns = at_ns;
  if (at_ns < earliest_ns) earliest_ns = at_ns;
}

u8* connection_buffer(const struct Connection* c) {
  return buffers[c - connections];
}

u32 connection_first_sequence(u32 ip, u16 port, u64 now_ns) {
  u64 x = secret ^ ((u64)ip << 16 | port);
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  x ^= x >> 31;
  return (u32)x + (u32)(now_ns >> 12); /* RFC 6528: on by one every 4 µs */
}

bool tcp_poll(void) {
  if (earliest_ns == NEVER) return false;
  u64 now_ns = pvclock_now_ns();
  if (now_ns < earliest_ns) return false;
  for (u32 i = 0; i < CONNECTIONS_MAX; i++) {
    struct Connection* c = &connections[i];
    if (c->deadline_ns > now_ns) continue;
    c->deadline_ns = NEVER;
    tcp_timed_out(c, now_ns);
    gaps_mark();
  }
  earliest_ns = NEVER;
  for (u32 i = 0; i < CONNECTIONS_MAX; i++) {
    if (connections[i].deadline_ns < earliest_ns) earliest_ns = connections[i].deadline_ns;
  }
  net_flush();
  gaps_mark();
  return true;
}

u64 tcp_due_ns(void) {
  if (earliest_ns == NEVER) return NEVER;
  u64 now_ns = pvclock_now_ns();
  return earliest_ns > now_ns ? earliest_ns - now_ns : 0;
}

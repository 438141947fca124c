/* The memory of answers. Request n of a client has slot n mod 8, so several requests may be under
 * way at once and arrive in any order, as long as they span no more than 8. Slots say everything:
 * the newest request id is the largest among them, the last use the largest sequence number. When
 * a 1,025th client comes, the one silent for longest is forgotten.
 */
#include "clients.h"

#include "memory.h"

HOT static u32 count;
HOT static u32 last;
static u32 ids[CLIENTS_MAX] PAGES;
static struct BeaconAnswer answers[CLIENTS_MAX][ANSWERS_PER_CLIENT] PAGES;

static u32 newest_request(const struct BeaconAnswer* slots) {
  u32 newest = 0;
  for (u32 i = 0; i < ANSWERS_PER_CLIENT; i++) {
    if (slots[i].request_id > newest) newest = slots[i].request_id;
  }
  return newest;
}

static u64 last_use(const struct BeaconAnswer* slots) {
  u64 use = 0;
  for (u32 i = 0; i < ANSWERS_PER_CLIENT; i++) {
    if (slots[i].sequence > use) use = slots[i].sequence;
  }
  return use;
}

static u32 most_silent(void) {
  u32 found = 0;
  u64 oldest = ~0ull;
  for (u32 i = 0; i < CLIENTS_MAX; i++) {
    u64 use = last_use(answers[i]);
    if (use < oldest) {
      oldest = use;
      found = i;
    }
  }
  return found;
}

static u32 index_of(u32 client) {
  if (last < count && ids[last] == client) return last;
  for (u32 i = 0; i < count; i++) {
    if (ids[i] == client) return i;
  }
  u32 index = count < CLIENTS_MAX ? count++ : most_silent();
  ids[index] = client;
  memset(answers[index], 0, sizeof answers[index]);
  return index;
}

enum Seen clients_find(u32 client, u32 request_id, struct BeaconAnswer** slot) {
  last = index_of(client);
  struct BeaconAnswer* slots = answers[last];
  struct BeaconAnswer* found = &slots[request_id % ANSWERS_PER_CLIENT];
  *slot = found;
  if (found->request_id == request_id) return kSeenBefore;
  u32 newest = newest_request(slots);
  bool in_window = request_id > newest || newest - request_id < ANSWERS_PER_CLIENT;
  return in_window && found->request_id < request_id ? kSeenNew : kSeenTooOld;
}

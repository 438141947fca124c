/* Open addressing with linear probing, twice as many slots as keys. A slot with key 0 is empty;
 * the key 0 itself has a place of its own. Nothing is ever removed. */
#include "table.h"

#define SLOTS (2 * TABLE_KEYS_MAX)
#define SLOT_BITS 17
_Static_assert(SLOTS == 1 << SLOT_BITS, "the hash takes its top bits");

struct Slot {
  u64 key;
  u64 value;
};

static struct Slot slots[SLOTS] PAGES;
HOT static struct {
  u32 keys;
  bool has_zero;
  u64 zero_value;
} state;

/* The slot that holds the key, or the empty one where it would go. */
static struct Slot* find(u64 key) {
  u64 at = (key * 0x9e3779b97f4a7c15ull) >> (64 - SLOT_BITS);
  while (slots[at].key != 0 && slots[at].key != key) at = (at + 1) % SLOTS;
  return &slots[at];
}

bool table_put(u64 key, u64 value) {
  struct Slot* slot = key == 0 ? NULL : find(key);
  bool known = key == 0 ? state.has_zero : slot->key == key;
  if (!known) {
    if (state.keys == TABLE_KEYS_MAX) return false;
    state.keys++;
  }
  if (key == 0) {
    state.has_zero = true;
    state.zero_value = value;
  } else {
    slot->key = key;
    slot->value = value;
  }
  return true;
}

bool table_get(u64 key, u64* value) {
  if (key == 0) {
    if (state.has_zero) *value = state.zero_value;
    return state.has_zero;
  }
  const struct Slot* slot = find(key);
  if (slot->key != key) return false;
  *value = slot->value;
  return true;
}

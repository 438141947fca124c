/* The key-value table behind put and get: 65,536 keys, any u64 each. */
#pragma once

#include "types.h"

#define TABLE_KEYS_MAX 65536

/* False when the key is new and the table is full. */
bool table_put(u64 key, u64 value);
/* False when there is no such key. */
bool table_get(u64 key, u64* value);

/* What was answered to whom: the last 8 answers of each of 1,024 clients. */
#pragma once

#include "protocol.h"
#include "types.h"

#define CLIENTS_MAX 1024
#define ANSWERS_PER_CLIENT 8

enum Seen {
  kSeenNew,    /* to be served; the slot for its answer is handed over, to be filled at once */
  kSeenBefore, /* the slot holds the first answer */
  kSeenTooOld, /* neither remembered nor new: not to be answered */
};

enum Seen clients_find(u32 client, u32 request_id, struct BeaconAnswer** slot);

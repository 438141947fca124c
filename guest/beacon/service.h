/* The request service: one request in, one answer out, and the chain that binds them. */
#pragma once

#include "protocol.h"
#include "types.h"

/* Where an answer goes; all as it lies on the wire. */
struct Route {
  u8 mac[6];
  u16 port;
  u32 ip;
};

/* What came of a request. */
struct Outcome {
  u16 status;
  u64 value;
  u64 detail[4]; /* stands where other answers have the gap figures */
};

void service_init(u64 boot_id);
/* Serves a request, or finds the answer it got before. Null when it must not be answered: it is
 * no request, or too old, or it waits for a disk and is answered along `route` later. The answer
 * stays valid until the next call. */
const struct BeaconAnswer* service_request(const void* bytes, u32 length,
                                           const struct Route* route);
/* Ends the guest if a request asked for it; its answer must have been handed to the card. */
void service_end_if_asked(void);
/* Serves a request that waited. False, and nothing is done, when there is no room to send. */
bool service_finish(const struct BeaconRequest* request, const struct Outcome* outcome,
                    const struct Route* route);

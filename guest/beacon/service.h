/* The request service: one request in, one answer out, and the chain that binds them. */
#pragma once

#include "protocol.h"
#include "types.h"

void service_init(u64 boot_id);
/* Serves a request, or finds the answer it got before. Null when it must not be answered: it is
 * no request, or too old. The answer stays valid until the next call. */
const struct BeaconAnswer* service_request(const void* bytes, u32 length);

/* Serving requests. Each served request takes the next sequence number and extends the hash
 * chain; its answer is written straight into the client's slot, so that a repetition of the
 * request finds it there byte for byte. */
#include "service.h"

#include "clients.h"
#include "cpu.h"
#include "fnv.h"
#include "gaps.h"
#include "load.h"
#include "memory.h"
#include "pvclock.h"
#include "table.h"

HOT static struct {
  u64 boot_id;
  u64 boot_ns;
  u64 sequence;
  u64 hash;
  u64 counter;
} state;

void service_init(u64 boot_id) {
  state.boot_id = boot_id;
  state.hash = boot_id;
  state.boot_ns = pvclock_now_ns() - pvclock_ticks_to_ns(read_tsc() - boot_tsc);
}

/* mix(previousHash, client, requestId, op, a, b, c): the previous hash, then the bytes 5 and 8 to
 * 39 of the request. */
static u64 chain(u64 previous, const struct BeaconRequest* request) {
  u64 hash = fnv1a(FNV_OFFSET, &previous, sizeof previous);
  hash = fnv1a(hash, &request->op, 1);
  return fnv1a(hash, &request->client, sizeof *request - offsetof(struct BeaconRequest, client));
}

static u16 execute(const struct BeaconRequest* request, u64* value) {
  switch (request->op) {
    case kOpIncrement:
      *value = ++state.counter;
      return kStatusOk;
    case kOpPut:
      if (!table_put(request->a, request->b)) return kStatusTableFull;
      *value = request->b;
      return kStatusOk;
    case kOpGet:
      return table_get(request->a, value) ? kStatusOk : kStatusNotFound;
    case kOpStats:
      return kStatusOk;
    case kOpLoad:
      return load_set(request->a, request->b, request->c) ? kStatusOk : kStatusBadArgument;
    default:
      return kStatusBadOp;
  }
}

static void serve(const struct BeaconRequest* request, struct BeaconAnswer* answer) {
  u64 value = 0;
  u64 previous = state.hash;
  u16 status = execute(request, &value);
  state.hash = chain(previous, request);
  state.sequence++;

  const struct GapFigures* gaps = gaps_figures();
  *answer = (struct BeaconAnswer){
      .magic = ANSWER_MAGIC,
      .version = BEACON_VERSION,
      .op = request->op,
      .status = status,
      .client = request->client,
      .request_id = request->request_id,
      .boot_id = state.boot_id,
      .sequence = state.sequence,
      .previous_hash = previous,
      .hash = state.hash,
      .value = value,
      .uptime_ns = pvclock_now_ns() - state.boot_ns,
      .progress = load_progress(),
      .pages_dirtied = load_pages_dirtied(),
      .gap_max_ns = gaps->max_ns,
      .gap_p50_ns = gaps->p50_ns,
      .gap_p99_ns = gaps->p99_ns,
      .gap_count = gaps->count,
      .load_pages_max = load_pages_max(),
  };
  if (request->op == kOpStats) gaps_reset();
}

const struct BeaconAnswer* service_request(const void* bytes, u32 length) {
  struct BeaconRequest request;
  if (length != sizeof request) return NULL;
  memcpy(&request, bytes, sizeof request);
  if (request.magic != REQUEST_MAGIC || request.version != BEACON_VERSION || request.zero != 0 ||
      request.request_id == 0) {
    return NULL;
  }
  struct BeaconAnswer* answer = NULL;
  switch (clients_find(request.client, request.request_id, &answer)) {
    case kSeenNew:
      serve(&request, answer);
      return answer;
    case kSeenBefore:
      return answer;
    default:
      return NULL;
  }
}

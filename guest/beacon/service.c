/* Serving requests. Each served request takes the next sequence number and extends the hash
 * chain; its answer is written straight into the client's slot, so that a repetition of the
 * request finds it there byte for byte. */
#include "service.h"

#include "clients.h"
#include "cpu.h"
#include "disk.h"
#include "disk_load.h"
#include "fnv.h"
#include "gaps.h"
#include "load.h"
#include "memory.h"
#include "pvclock.h"
#include "smp.h"
#include "stack.h"
#include "table.h"

HOT static struct {
  u64 boot_id;
  u64 boot_ns;
  u64 sequence;
  u64 hash;
  u64 counter;
  u64 end; /* 0, or one more than the end that was asked for */
} state;

void service_init(u64 boot_id) {
  state.boot_id = boot_id;
  state.hash = boot_id;
  disk_init(boot_id);
  state.boot_ns = pvclock_now_ns() - pvclock_ticks_to_ns(read_tsc() - boot_tsc);
}

/* mix(previousHash, client, requestId, op, a, b, c): the previous hash, then the bytes 5 and 8 to
 * 39 of the request. */
static u64 chain(u64 previous, const struct BeaconRequest* request) {
  u64 hash = fnv1a(FNV_OFFSET, &previous, sizeof previous);
  hash = fnv1a(hash, &request->op, 1);
  return fnv1a(hash, &request->client, sizeof *request - offsetof(struct BeaconRequest, client));
}

/* The answer to a `disk-load` says how the load goes. */
static void tell_disk_load(u64* detail) {
  const struct DiskLoadFigures* figures = disk_load_figures();
  detail[0] = figures->writes;
  detail[1] = figures->reads;
  detail[2] = figures->errors;
  detail[3] = figures->broken;
}

static bool is_disk_op(u8 op) {
  return op == kOpDisk || op == kOpDiskRead || op == kOpDiskDiscard;
}

/* The first vCPU's load ends the others', unless each shall have one. */
static u16 begin_load(const struct BeaconRequest* request, u64* value) {
  const struct LoadOrder order = load_order(request->a, request->b, request->c);
  const bool each = request->op == kOpLoadEach;
  if (!load_fits(&order, each ? smp_count() : 1)) return kStatusBadArgument;
  load_begin_own(&order);
  smp_order(each ? &order : NULL);
  if (each) *value = smp_count();
  return kStatusOk;
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
    case kOpEnd:
      if (request->a > kEndTripleFault) return kStatusBadArgument;
      state.end = request->a + 1;
      return kStatusOk;
    case kOpLoad:
    case kOpLoadEach:
      return begin_load(request, value);
    case kOpVcpu:
      *value = smp_count();
      return request->a < smp_count() ? kStatusOk : kStatusBadArgument;
    case kOpDisk:
    case kOpDiskRead:
    case kOpDiskDiscard:
      return kStatusBadArgument; /* disk_begin() would have taken a good one */
    case kOpDiskLoad:
      if (!disk_load_set(request->a, request->b, request->c)) return kStatusBadArgument;
      *value = disk_load_figures()->writes;
      return kStatusOk;
    default:
      return kStatusBadOp;
  }
}

/* Counts the request, extends the chain and writes the answer. */
static void answer_with(const struct BeaconRequest* request, const struct Outcome* outcome,
                        struct BeaconAnswer* answer) {
  u64 previous = state.hash;
  state.hash = chain(previous, request);
  state.sequence++;

  *answer = (struct BeaconAnswer){
      .magic = ANSWER_MAGIC,
      .version = BEACON_VERSION,
      .op = request->op,
      .status = outcome->status,
      .client = request->client,
      .request_id = request->request_id,
      .boot_id = state.boot_id,
      .sequence = state.sequence,
      .previous_hash = previous,
      .hash = state.hash,
      .value = outcome->value,
      .uptime_ns = pvclock_now_ns() - state.boot_ns,
      .progress = load_progress(),
      .pages_dirtied = load_pages_dirtied(),
      .gap_max_ns = outcome->detail[0],
      .gap_p50_ns = outcome->detail[1],
      .gap_p99_ns = outcome->detail[2],
      .gap_count = outcome->detail[3],
      .load_pages_max = load_pages_max(),
  };
}

static void serve(const struct BeaconRequest* request, struct BeaconAnswer* answer) {
  struct Outcome outcome = {.value = 0};
  outcome.status = execute(request, &outcome.value);
  if (request->op == kOpDiskLoad) {
    tell_disk_load(outcome.detail);
  } else if (request->op == kOpVcpu) {
    if (outcome.status == kStatusOk) smp_figures(request->a, outcome.detail);
  } else if (!is_disk_op(request->op)) {
    const struct GapFigures* gaps = gaps_figures();
    outcome.detail[0] = gaps->max_ns;
    outcome.detail[1] = gaps->p50_ns;
    outcome.detail[2] = gaps->p99_ns;
    outcome.detail[3] = gaps->count;
  }
  answer_with(request, &outcome, answer);
  if (request->op == kOpStats) gaps_reset();
}

bool service_finish(const struct BeaconRequest* request, const struct Outcome* outcome,
                    const struct Route* route) {
  if (!udp_has_room()) return false;
  struct BeaconAnswer* answer = NULL;
  /* Should the client have gone on by more than is remembered, nothing can be answered. */
  if (clients_find(request->client, request->request_id, &answer) == kSeenNew) {
    answer_with(request, outcome, answer);
    udp_answer(route, answer);
  }
  return true;
}

const struct BeaconAnswer* service_request(const void* bytes, u32 length,
                                           const struct Route* route) {
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
      if (is_disk_op(request.op) && disk_begin(&request, route) == kDiskWaits) return NULL;
      serve(&request, answer);
      return answer;
    case kSeenBefore:
      return answer;
    default:
      return NULL;
  }
}

void service_end_if_asked(void) {
  if (state.end != 0) cpu_end((enum CpuEnd)(state.end - 1));
}

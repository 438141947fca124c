/* Requests and answers as they lie on the wire, little-endian; docs/beacon.md is the contract. */
#pragma once

#include "types.h"

#define BEACON_PORT 7777
#define REQUEST_MAGIC 0x51425446 /* "FTBQ" */
#define ANSWER_MAGIC 0x41425446  /* "FTBA" */
#define BEACON_VERSION 1

enum Op {
  kOpIncrement = 1,
  kOpPut = 2,
  kOpGet = 3,
  kOpStats = 4,
  kOpLoad = 5,
  kOpDisk = 6,
  kOpDiskRead = 7,
  kOpDiskLoad = 8,
  kOpEnd = 9,
  kOpDiskDiscard = 11,
  kOpLoadEach = 12,
  kOpVcpu = 13,
};

enum Status {
  kStatusOk = 0,
  kStatusBadOp = 1,
  kStatusNotFound = 2,
  kStatusTableFull = 3,
  kStatusBadArgument = 4,
  kStatusIoError = 5,
};

struct PACKED BeaconRequest {
  u32 magic;
  u8 version;
  u8 op;
  u16 zero;
  u32 client;
  u32 request_id;
  u64 a;
  u64 b;
  u64 c;
};
_Static_assert(sizeof(struct BeaconRequest) == 40, "the contract");
_Static_assert(offsetof(struct BeaconRequest, a) == 16, "the contract");

struct BeaconAnswer {
  u32 magic;
  u8 version;
  u8 op;
  u16 status;
  u32 client;
  u32 request_id;
  u64 boot_id;
  u64 sequence;
  u64 previous_hash;
  u64 hash;
  u64 value;
  u64 uptime_ns;
  u64 progress;
  u64 pages_dirtied;
  u64 gap_max_ns;
  u64 gap_p50_ns;
  u64 gap_p99_ns;
  u64 gap_count;
  u64 load_pages_max;
  u64 zero;
};
_Static_assert(sizeof(struct BeaconAnswer) == 128, "the contract");
_Static_assert(offsetof(struct BeaconAnswer, hash) == 40, "the contract");
_Static_assert(offsetof(struct BeaconAnswer, load_pages_max) == 112, "the contract");

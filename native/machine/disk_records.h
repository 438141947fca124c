// The disk records of a body: what an epoch wrote to the guest's disks.
//
//   record  ┌─────────┬─────────┬──────────┬───────────┬────────────┬──────────────────────────┐
//           │ disk u8 │ kind u8 │ zero u16 │ bytes u32 │ offset u64 │ data: `bytes`, for write │
//           └─────────┴─────────┴──────────┴───────────┴────────────┴──────────────────────────┘
//   kind    2 write      bytes and offset are multiples of 512, bytes > 0, inside the image
//           3 zero       the same, without data
//           4 flush      bytes and offset are 0
//
// Little-endian; records of one disk in the order of its log. A write may become several records,
// so that it fits the pieces of an epoch, and a range of zeros may, since bytes has 32 bits.
//
// Threads: the event loop.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/result.h"
#include "disk/replicated_disk.h"

namespace ft {

inline constexpr size_t kDiskRecordHeaderBytes = 16;

/// The disk records of one epoch, by disk.
using DiskLogs = std::vector<std::vector<DiskRecord>>;

/// Where the records of one disk go on the standby.
struct DiskTarget {
  uint64_t bytes = 0;
  bool read_only = false;  // then no record may name it
  /// A record of a sound body is about to be acknowledged. It has no data.
  std::function<void(const DiskRecord&)> promise;
  /// A record of a whole epoch, with data of its own.
  std::function<void(DiskRecord)> apply;
};

/// Writes the records of one epoch, piece by piece.
class DiskRecordWriter {
 public:
  /// Writes what fits into `out`; returns the bytes written. Nothing is left when done().
  size_t write(const DiskLogs& logs, std::span<uint8_t> out);
  bool done(const DiskLogs& logs) const { return disk_ >= logs.size(); }
  void rewind() { disk_ = record_ = at_ = 0; }

 private:
  size_t disk_ = 0;
  size_t record_ = 0;
  uint64_t at_ = 0;  // bytes of the current record already written
};

/// Checks that `bytes` is a run of sound records for `targets`. Calls nothing. Error: FT_ERR_BODY.
Status verify_disk_records(std::span<const uint8_t> bytes, std::span<const DiskTarget> targets);
/// Calls promise() for each record of a verified run.
void promise_disk_records(std::span<const uint8_t> bytes, std::span<const DiskTarget> targets);
/// Calls apply() for each record of a verified run.
void apply_disk_records(std::span<const uint8_t> bytes, std::span<const DiskTarget> targets);

}  // namespace ft

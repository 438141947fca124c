// Between guest memory and the wire: what a cut left behind becomes bodies, and bodies become the
// standby's image.
//
//   body  ┌───────────┬────────────┬────────────┬───────────┬─ ─ ─ four parts, in this order ─ ─ ─
//         │ pageBytes │ stateBytes │ auditCount │ diskBytes │ page records (delta/page_delta.h)
//         │    u32    │    u32     │    u32     │    u32    │ disk records (disk_records.h)
//         └───────────┴────────────┴────────────┴───────────┤ state delta (delta/state_delta.h)
//                                                           │ audit: { gfn u32; crc u32 } × count
//                                                           └─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─
//
// Every piece of an epoch and every piece of the initial sync is one body. The pieces of an epoch
// carry its pages, then its disk records; state and audit come with the last one only.
//
// What the standby will hold of a page, once it has applied everything encoded so far in order, is
// always one of these; that is the whole invariant, and it makes the scan and the epochs mix
// freely:
//
//   zero ─────────── epoch: compared with zeros ───────────▶ shadowed   the shadow equals it
//    │                                                         ▲
//    └─ scan: alone (zero: nothing sent) ──▶ sent ─ epoch: raw ─┘
//                                            not known here any more
//
// A standby that comes back with its image after a short cut of the link has cleared the pages that
// may differ: they are zero again here and there, and for all others the above still holds.
//
// So the shadow takes memory only for pages that epochs carried, and the scan, which touches every
// page once, neither fills it nor waits for the system to find room for it.
//
// Thread: the event loop.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/mapped_region.h"
#include "core/result.h"
#include "delta/page_delta.h"
#include "delta/state_delta.h"
#include "machine/epoch_slot.h"
#include "machine/guest_memory.h"
#include "machine/page_bits.h"
#include "machine/unacked_pages.h"

namespace ft {

inline constexpr size_t kBodyHeaderBytes = 16;
inline constexpr uint32_t kAuditCountMax = 1024;

struct EncodedBody {
  size_t bytes = 0;
  uint64_t raw_bytes = 0;  // 4096 × pages looked at
  bool last = false;
};

/// Walks the pages of guest memory that hold data, in order. Holes of the memfd were never written:
/// they are zero here and on the standby, and reading them would only make them take memory.
class DataWalker {
 public:
  void rewind() { cursor_ = extent_end_ = 0; }
  /// The next page's gfn, or false at the end of memory.
  bool next(const GuestMemory& memory, uint64_t* gfn);
  uint64_t cursor_gfn() const { return cursor_ / 4096; }

 private:
  uint64_t cursor_ = 0;      // bytes
  uint64_t extent_end_ = 0;  // the cursor is inside data up to here
};

class EpochEncoder {
 public:
  static Result<std::unique_ptr<EpochEncoder>> create(const GuestMemory& memory);

  /// Forgets everything: the standby starts from zero memory and no state.
  void begin();
  /// Gives the shadow's memory back.
  void end();
  /// A standby comes back whose image is that of the last stream but for `pages`, which it has
  /// cleared: they are zero there, of all others the shadow holds true. It knows no state. The scan
  /// visits these pages alone.
  void begin_catch_up(const PageBits& pages);
  /// Every epoch up to this one is held by the standby.
  void acked(uint64_t epoch) { unacked_.acked(epoch); }
  const UnackedPages& unacked() const { return unacked_; }

  /// Encodes the next piece of `slot` into `out` (at least kChunkRoomMin bytes).
  EncodedBody encode_slot(const EpochSlot& slot, std::span<uint8_t> out);
  /// Encodes the next piece of the scan over all memory, live.
  EncodedBody scan(std::span<uint8_t> out);
  double scan_progress() const;
  /// The page's copy on the standby is known to differ: its next record is written raw.
  void force_raw(uint32_t gfn);
  uint64_t pages_healed() const { return pages_healed_; }

  /// Room for a header, one raw page, the state of a machine and its audit.
  static constexpr size_t kChunkRoomMin = 256 * 1024;

 private:
  explicit EpochEncoder(const GuestMemory& memory);
  size_t encode_one(uint32_t gfn, const uint8_t* page, uint8_t* out);
  size_t encode_live(uint32_t gfn, uint8_t* out);
  bool take_forced(uint32_t gfn);
  bool encode_pages(const EpochSlot& slot, std::span<uint8_t> out, EncodedBody* body);
  void rewind();
  bool next_of_scan(uint64_t* gfn);
  uint8_t* shadow_page(uint64_t gfn) { return shadow_.data() + gfn * 4096; }

  const GuestMemory& memory_;
  MappedRegion shadow_;
  StateShadow state_shadow_;
  PageBits force_raw_;
  PageBits shadowed_;
  PageBits sent_;  // of a page that is shadowed: of no meaning
  UnackedPages unacked_;
  PageBits scan_pages_;  // what the scan visits, unless it visits all
  bool scan_all_ = true;
  bool any_forced_ = false;
  size_t slot_cursor_ = 0;  // next index into the current slot's gfns
  DiskRecordWriter disk_cursor_;
  DataWalker overrun_;
  DataWalker scan_;
  uint64_t pages_healed_ = 0;
};

/// The standby's side: applies bodies to the memory that the guest will run on.
class ImageApplier {
 public:
  /// `disks` in the order of their numbers; what they call outlives the applier.
  explicit ImageApplier(GuestMemory& memory, std::vector<DiskTarget> disks = {})
      : memory_(memory), disks_(std::move(disks)), present_(memory.page_count()) {}

  /// Forgets memory (all zero) and state. With `keep_memory` only the state: clear_pages() follows
  /// before the first body.
  Status begin(bool keep_memory = false);
  /// Clears the pages of `map` (PageBits::write). Errors: FT_ERR_PAGE_MAP when it does not fit this
  /// memory, and then nothing was touched; FT_ERR_MAP.
  Status clear_pages(std::span<const uint8_t> map);
  /// Checks a whole body and writes nothing of the image; the disk records of a sound one are
  /// promised to their disks, since an acknowledgement may follow. Bodies in stream order, each
  /// once: a state delta is held against the length of the one verified before it. Errors:
  /// FT_ERR_BODY, FT_ERR_DELTA, FT_ERR_STATE_DELTA.
  Status verify(std::span<const uint8_t> body);
  /// Applies a body that verify() accepted; its disk records go into their disks' queues. The pages
  /// whose audit hash differs go to `mismatches`. Returns the number of records applied. Error:
  /// FT_ERR_STATE_DELTA when a state delta does not fit the state held (the stream is broken;
  /// nothing of the state was changed).
  Result<uint32_t> apply(std::span<const uint8_t> body, std::vector<uint32_t>* mismatches);
  /// The state blob of the last applied epoch; empty before the first.
  std::span<const uint8_t> state() const { return state_; }

 private:
  uint32_t apply_pages(std::span<const uint8_t> records);
  bool fresh(const RawRun& run) const;
  void write_run(const RawRun& run, std::span<const uint8_t> records);

  GuestMemory& memory_;
  std::vector<DiskTarget> disks_;
  PageBits present_;  // written since begin()
  std::vector<uint8_t> state_;
  size_t verified_state_bytes_ = 0;  // length of the state that the last verified delta makes
};

}  // namespace ft

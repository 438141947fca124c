// Which regions of this image may differ from the peer's: what makes a returning side's resync
// short. Kept in a file beside the image ("<image>.ftmap"), mapped, so that it survives this
// process.
//
//   file  ┌──────────────────── header, 4,096 bytes ───────────────────┬──────────────┐
//         │ magic · version · region bytes · image bytes · image inode │ a bit for    │
//         │ clean · boot id · syncId · stamp and crc of a clean end    │ every region │
//         │ crc of the header                                          │              │
//         └────────────────────────────────────────────────────────────┴──────────────┘
//
// syncId names the last replication session in which this image and the peer's were in step. Two
// images with the same syncId differ at most in the regions marked in either map.
//
// Five sets, file = legacy | older | newer | failed:
//   newer   marked since the last rotate()
//   older   marked before it; retire() takes them out once their writes are settled
//   failed  a write to them failed here: they stay for the rest of the session
//   legacy  everything found at the start of a session, and what is retired before it is in step;
//           in_step() forgets them
//
// ── Why the map is never too small ──
// Between two moments at which the images are in step, call a write "of the history" when it is in
// the log of the active side. A region differs only if some write is in one image and not in the
// other. Each side answers for its own image; neither needs to know when the other's is written.
//   Active side A. A region is marked before its write enters the log and before it is issued, and
//     leaves only when both have happened: the epoch that carries it is acknowledged (then the
//     other side answers for its own image), and the write has ended well here. Killed between
//     logging and issuing, or with the write half done: marked. Never acknowledged: marked.
//   Standby B. A region is marked before the acknowledgement is given, and leaves only when the
//     write has ended well here. Acknowledged and not applied, applied and not issued, issued and
//     not ended: marked. Not acknowledged: A has it marked.
//   Completions come in any order, so a generation is counted, not compared: it is settled when
//     every one of its writes has ended. A write that is issued after rotate() marks its region in
//     the newer generation again, so retiring the older one cannot take that mark away.
//   A write that failed leaves unknown bytes here, so its region is kept by the failed set. A flush
//     that failed leaves unknown bytes anywhere: forget_sync().
//
// A sync that breaks off. Until in_step() nothing is forgotten at all; what is retired joins
// legacy.
//   Both sides keep the old syncId and all old marks, so a region that one side alone had marked
//   and the sync has reached or not is still marked where it was, and what was written meanwhile is
//   marked as above. That also holds when the session is with a third party: A still has the syncId
//   that it shares with its old standby, whose acknowledgements these were not. A standby that is
//   synced by somebody with another syncId forgets its own before the first record is written.
//
// in_step(). On A: every region of the sync was read after all earlier writes to it had ended, is
//   in an epoch up to the base epoch, and that is acknowledged: from here on B answers for what it
//   has not written yet. On B: the base epoch is held, so every region of the sync has been
//   promised since, and is in newer or older until it is written; what legacy still names has been
//   written. B is in step before A. If the session ends between the two, their syncIds differ,
//   which costs a full sync and nothing else.
//
// What a crash leaves: after the end of the process the mapped file is whole (the page cache
// outlives us); a syncId that was being written then is refused by the header's crc. After a crash
// of the host neither map nor image can be trusted to hold what was written last, so a file with
// another boot id that was not closed cleanly has no syncId: full resync. "Not closed" is on the
// disk before the first mark is made. A cleanly closed map also knows the inode and modification
// time of its image: an image that was changed or replaced meanwhile begins anew. (After a kill,
// only a replaced file is noticed: whoever changes an image by hand then must delete its map.)
//
// Thread: under the lock of the ReplicatedDisk that owns it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/mapped_region.h"
#include "core/result.h"
#include "core/unique_fd.h"
#include "disk/disk_image.h"

namespace ft {

inline constexpr uint32_t kRegionBytesMin = 64 * 1024;
/// Maps travel in one handshake message; larger disks get larger regions.
inline constexpr uint64_t kRegionsMax = 256 * 1024;
/// Longer names of sessions are not kept: such a session ends with a full resync.
inline constexpr size_t kSyncIdBytesMax = 64;

class RegionMap {
 public:
  /// Smallest power-of-two multiple of kRegionBytesMin with at most kRegionsMax regions.
  static uint32_t region_bytes_for(uint64_t image_bytes);

  /// Opens or makes the map at `path`. An empty path keeps it in memory only (a resync after this
  /// process has ended is then in full). A file that is damaged, of another image, or stale is
  /// begun anew. Error: FT_ERR_DISK_MAP when the file cannot be written or is in use.
  static Result<RegionMap> open(const std::string& path, uint64_t image_bytes,
                                const ImageStamp& stamp = {});

  const std::string& sync_id() const { return sync_id_; }  // empty: never in step
  /// From now on this image is in step with nobody (a full sync from somebody else begins).
  void forget_sync();

  void mark(uint64_t offset, uint64_t bytes);
  /// A write to these bytes failed: they stay marked for the rest of the session.
  void fail(uint64_t offset, uint64_t bytes);
  /// Makes the newer marks the older ones, which must be empty.
  void rotate();
  bool older_empty() const { return !older_used_; }
  bool newer_empty() const { return !newer_used_; }
  /// The writes of the older marks are settled.
  void retire();
  /// All marks become legacy: a session begins or ended.
  void collect();
  /// The base epoch is acknowledged (held): writes the syncId first, then forgets legacy.
  void in_step(const std::string& sync_id);
  /// The image is flushed and this process ends in order. Error: FT_ERR_DISK_MAP.
  Status close_clean(const ImageStamp& stamp);

  uint32_t region_bytes() const { return region_bytes_; }
  uint64_t regions() const { return regions_; }
  /// The whole map, one bit a region, little-endian; (regions + 7) / 8 bytes.
  std::vector<uint8_t> snapshot() const;
  uint64_t marked() const;

 private:
  struct Header;
  Status create_file(const std::string& path, const ImageStamp& stamp);
  bool believe(const ImageStamp& stamp, const std::string& boot_id);
  void write_header(const ImageStamp& stamp, bool clean);
  void set(std::vector<uint64_t>& marks, uint64_t offset, uint64_t bytes);
  void show(size_t word);  // brings a word of the file up to date
  uint64_t* bits() const { return reinterpret_cast<uint64_t*>(mapped_.data() + kHeaderBytes); }

  static constexpr size_t kHeaderBytes = 4096;
  uint64_t image_bytes_ = 0;
  uint64_t inode_ = 0;
  uint64_t regions_ = 0;
  uint32_t region_bytes_ = 0;
  bool older_used_ = false;
  bool newer_used_ = false;
  bool in_step_ = false;  // in this session
  std::string sync_id_;
  std::string path_;
  UniqueFd fd_;          // locked; none when in memory only
  MappedRegion mapped_;  // header and bits, or the same in anonymous memory
  std::vector<uint64_t> legacy_, older_, newer_, failed_;
};

}  // namespace ft

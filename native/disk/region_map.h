// Which regions of this image may differ from the peer's: what makes a returning side's resync
// short. Kept in a file beside the image ("<image>.ftmap"), mapped, so that it survives this
// process.
//
//   file  ┌───────┬─────────┬──────────┬─────────────┬─────────┬───────┬────────┬─────────────┐
//         │ magic │ version │ imageLen │ regionBytes │ boot id │ clean │ syncId │ bit / region│
//         └───────┴─────────┴──────────┴─────────────┴─────────┴───────┴────────┴─────────────┘
//
// syncId names the last replication session in which this image and the peer's were in step. Two
// images with the same syncId differ at most in the regions marked in either map. That holds
// because a region is marked before a write to it is issued (active side) or acknowledged
// (standby), and unmarked only when the write is in the image here and known to be held by the
// other side.
//
// Four sets, disk = legacy | older | newer:
//   newer   marked since the last rotate()
//   older   marked before it; retire() forgets them once their writes are settled
//   legacy  found at the start of a session, or collected while no peer was in step; in_step()
//           forgets them
//
// What a crash leaves: after the end of the process the mapped file is whole (the page cache
// outlives us). After a crash of the host neither map nor image can be trusted to hold what was
// written last, so a file with another boot id that was not closed cleanly has no syncId: full
// resync.
//
// Thread: under the lock of the ReplicatedDisk that owns it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/mapped_region.h"
#include "core/result.h"

namespace ft {

inline constexpr uint32_t kRegionBytesMin = 64 * 1024;
/// Maps travel in one handshake message; larger disks get larger regions.
inline constexpr uint64_t kRegionsMax = 256 * 1024;

class RegionMap {
 public:
  /// Smallest power-of-two multiple of kRegionBytesMin with at most kRegionsMax regions.
  static uint32_t region_bytes_for(uint64_t image_bytes);

  /// Opens or makes the map at `path`. An empty path keeps it in memory only (every resync is then
  /// in full). A file that is damaged, of another image size, or stale is begun anew.
  /// Error: FT_ERR_DISK_MAP when the file cannot be written.
  static Result<RegionMap> open(const std::string& path, uint64_t image_bytes);

  const std::string& sync_id() const { return sync_id_; }  // empty: never in step
  /// From now on this image is in step with nobody (a full sync from somebody else begins).
  void forget_sync();

  void mark(uint64_t offset, uint64_t bytes);
  void rotate();  // older must be empty
  bool older_empty() const { return !older_used_; }
  void retire();
  /// All marks become legacy: a session begins or ended.
  void collect();
  /// The base epoch is acknowledged (held): writes the syncId first, then forgets legacy.
  void in_step(const std::string& sync_id);
  /// The image is flushed and this process ends in order.
  void close_clean();

  uint32_t region_bytes() const { return region_bytes_; }
  uint64_t regions() const { return regions_; }
  /// The whole map, one bit a region, little-endian; (regions + 7) / 8 bytes.
  std::vector<uint8_t> snapshot() const;
  uint64_t marked() const;

 private:
  uint64_t regions_ = 0;
  uint32_t region_bytes_ = 0;
  bool older_used_ = false;
  std::string sync_id_;
  MappedRegion file_;
  std::vector<uint64_t> legacy_, older_, newer_;
};

}  // namespace ft

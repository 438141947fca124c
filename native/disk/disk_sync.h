// What of an image a sync still has to send, and in which steps.
//
//   wanted regions ─▶ scan ─▶ hole: a zero record
//                       └───▶ data: reads of at most 256 KiB
//
// A scan asks the file system where data is. It is an operation in the disk's queue like a read:
// it waits for the writes under way in its range, and holds off later ones, since a write that is
// still on its way may be about to fill the hole. What a scan says about data is only a hint, and
// may be out of date when the read comes: a read is right in any case.
//
// Thread: under the lock of the ReplicatedDisk that owns it, but find_data() anywhere.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "core/result.h"
#include "disk/disk_image.h"

namespace ft {

class DiskSync {
 public:
  static constexpr uint64_t kReadBytesMax = 256 * 1024;
  static constexpr uint64_t kScanBytesMax = 8ull << 20;  // neighbouring holes are joined in the log

  struct Step {
    bool scan;
    uint64_t offset;
    uint64_t bytes;
  };

  /// Begins anew. `wanted`: one bit a region, little-endian, as RegionMap::snapshot gives it.
  void begin(uint64_t image_bytes, uint64_t region_bytes, const std::vector<uint8_t>& wanted);
  void cancel() { active_ = false; }

  /// Counts the syncs, so that a step of an older one is recognised.
  uint64_t number() const { return number_; }
  bool active() const { return active_; }
  /// Nothing is left and nothing is under way.
  bool finished() const { return active_ && steps_ == 0 && offset_ >= image_bytes_; }
  uint32_t steps_under_way() const { return steps_; }
  uint64_t bytes_left() const { return bytes_left_; }
  double progress() const;

  /// The next step, none while nothing is left or a scan must end first. take() it to begin it.
  std::optional<Step> next() const;
  void take(const Step& step);
  /// A scan found a hole up to `hole_end` and data from there to `data_end`.
  void scanned(const Step& step, uint64_t hole_end, uint64_t data_end);
  void has_read(const Step& step);

 private:
  void skip_unwanted();
  bool wanted(uint64_t region) const { return (wanted_[region / 64] >> (region % 64) & 1) != 0; }

  bool active_ = false;
  bool scanning_ = false;
  uint64_t number_ = 0;
  uint64_t image_bytes_ = 0, region_bytes_ = 0;
  uint64_t offset_ = 0;      // everything before it was taken
  uint64_t data_until_ = 0;  // from offset_ to here there is data, said the last scan
  uint64_t bytes_left_ = 0, bytes_total_ = 0;
  uint32_t steps_ = 0;
  std::vector<uint64_t> wanted_;
};

/// Where the data in [offset, offset + bytes) begins, and where that data ends.
struct DataExtent {
  uint64_t hole_end;
  uint64_t data_end;
};
/// Without holes to be found the whole range is data. Error: FT_ERR_DISK_IO when the image has
/// become shorter than the disk. Any thread.
Result<DataExtent> find_data(const DiskImage& image, uint64_t offset, uint64_t bytes);

}  // namespace ft

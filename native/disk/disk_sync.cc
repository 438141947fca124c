// The steps of a sync, and the search for holes.
#include "disk/disk_sync.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

namespace ft {

void DiskSync::begin(uint64_t image_bytes, uint64_t region_bytes,
                     const std::vector<uint8_t>& wanted) {
  active_ = true;
  scanning_ = false;
  number_++;
  image_bytes_ = image_bytes;
  region_bytes_ = region_bytes;
  offset_ = data_until_ = 0;
  steps_ = 0;
  const uint64_t regions = (image_bytes + region_bytes - 1) / region_bytes;
  wanted_.assign((regions + 63) / 64, 0);
  for (size_t i = 0; i < wanted.size() && i / 8 < wanted_.size(); i++) {
    wanted_[i / 8] |= static_cast<uint64_t>(wanted[i]) << (i % 8 * 8);
  }
  if (regions % 64 != 0) wanted_.back() &= (1ull << (regions % 64)) - 1;
  bytes_total_ = 0;
  for (const uint64_t word : wanted_) {
    bytes_total_ += static_cast<uint64_t>(std::popcount(word)) * region_bytes;
  }
  // The last region may be a part of one.
  if (wanted_.size() > 0 && this->wanted(regions - 1)) {
    bytes_total_ -= regions * region_bytes - image_bytes;
  }
  bytes_left_ = bytes_total_;
  skip_unwanted();
}

void DiskSync::skip_unwanted() {
  const uint64_t regions = (image_bytes_ + region_bytes_ - 1) / region_bytes_;
  uint64_t region = offset_ / region_bytes_;
  if (region >= regions || wanted(region)) return;
  while (region < regions && !wanted(region)) {
    // A word of 64 unwanted regions is skipped at once.
    region += region % 64 == 0 && wanted_[region / 64] == 0 ? 64 : 1;
  }
  offset_ = std::min(region * region_bytes_, image_bytes_);
}

double DiskSync::progress() const {
  if (!active_) return 0;
  if (bytes_total_ == 0) return 1;
  return 1 - static_cast<double>(bytes_left_) / static_cast<double>(bytes_total_);
}

std::optional<DiskSync::Step> DiskSync::next() const {
  if (!active_ || scanning_ || offset_ >= image_bytes_) return std::nullopt;
  const bool scan = offset_ >= data_until_;
  const uint64_t limit =
      scan ? offset_ + kScanBytesMax : std::min(offset_ + kReadBytesMax, data_until_);
  const uint64_t regions = (image_bytes_ + region_bytes_ - 1) / region_bytes_;
  uint64_t region = offset_ / region_bytes_;
  uint64_t end = offset_;
  while (region < regions && end < limit && wanted(region)) end = ++region * region_bytes_;
  end = std::min({end, limit, image_bytes_});
  return Step{scan, offset_, end - offset_};
}

void DiskSync::take(const Step& step) {
  steps_++;
  if (step.scan) {
    scanning_ = true;
  } else {
    offset_ = step.offset + step.bytes;
    skip_unwanted();
  }
}

void DiskSync::scanned(const Step& step, uint64_t hole_end, uint64_t data_end) {
  scanning_ = false;
  steps_--;
  bytes_left_ -= hole_end - step.offset;
  offset_ = hole_end;
  data_until_ = data_end;
  skip_unwanted();
}

void DiskSync::has_read(const Step& step) {
  steps_--;
  bytes_left_ -= step.bytes;
}

Result<DataExtent> find_data(const DiskImage& image, uint64_t offset, uint64_t bytes) {
  const uint64_t end = offset + bytes;
  if (image.block_device()) return DataExtent{offset, end};
  const off_t data = ::lseek(image.fd(), static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0 && errno == ENXIO) {
    // No data behind here: a hole to the end, or an image that ends before here.
    struct stat info = {};
    if (::fstat(image.fd(), &info) == 0 && static_cast<uint64_t>(info.st_size) >= image.bytes()) {
      return DataExtent{end, end};
    }
    return Error{"FT_ERR_DISK_IO", EIO,
                 "The disk image " + image.path() +
                     " has become shorter than the disk; something else has changed it."};
  }
  if (data < 0) return DataExtent{offset, end};
  const uint64_t first = static_cast<uint64_t>(data) / kSectorBytes * kSectorBytes;
  if (first >= end) return DataExtent{end, end};
  const off_t hole = ::lseek(image.fd(), data, SEEK_HOLE);
  uint64_t last = end;
  if (hole >= 0) {
    last = (static_cast<uint64_t>(hole) + kSectorBytes - 1) / kSectorBytes * kSectorBytes;
  }
  return DataExtent{std::max(first, offset), std::clamp(last, first + kSectorBytes, end)};
}

}  // namespace ft

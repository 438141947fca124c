// The file behind a region map, and the movements between its sets. The argument why no mark is
// missing is in region_map.h.
#include "disk/region_map.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>

#include "core/crc32c.h"

namespace ft {
namespace {

constexpr char kMagic[8] = {'F', 'T', 'D', 'S', 'K', 'M', 'A', 'P'};
constexpr uint32_t kVersion = 1;
constexpr size_t kBootIdBytes = 40;
constexpr int kLockTries = 50;
constexpr useconds_t kLockRetryUs = 20'000;

/// Names this run of the host's kernel; empty when it cannot be read, which never matches.
std::string this_boot() {
  UniqueFd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char text[kBootIdBytes] = {};
  const ssize_t got = fd.valid() ? ::read(fd.get(), text, sizeof text - 1) : 0;
  std::string id(text, got > 0 ? static_cast<size_t>(got) : 0);
  while (!id.empty() && id.back() == '\n') id.pop_back();
  return id;
}

Error map_error(const std::string& what, const std::string& path) {
  Error error = sys_error("FT_ERR_DISK_MAP", what + " the disk's region map " + path);
  error.message +=
      "; it must be a file that this process can write, on a file system with room for it.";
  return error;
}

/// Stores before this point are made before those after it, as a killed process leaves them.
void keep_order() {
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

}  // namespace

/// The first bytes of the file, little-endian like every machine that runs this; the rest of the
/// 4,096 is zero.
struct RegionMap::Header {
  char magic[8];
  uint32_t version;
  uint32_t region_bytes;
  uint64_t image_bytes;
  uint64_t inode;
  int64_t modified_ns;  // when clean: the image's, as it was left
  uint32_t clean;       // 1: closed in order
  uint32_t bits_crc;    // when clean: crc32c of the bits
  char boot_id[kBootIdBytes];
  uint32_t sync_id_bytes;
  char sync_id[kSyncIdBytesMax];
  uint32_t header_crc;  // crc32c of everything above

  uint32_t crc() const {
    return crc32c({reinterpret_cast<const uint8_t*>(this), offsetof(Header, header_crc)});
  }
};

uint32_t RegionMap::region_bytes_for(uint64_t image_bytes) {
  FT_CHECK(image_bytes <= kImageBytesMax, "a disk is larger than its map can be");
  uint64_t bytes = kRegionBytesMin;
  while (image_bytes > bytes * kRegionsMax) bytes *= 2;
  return static_cast<uint32_t>(bytes);
}

Result<RegionMap> RegionMap::open(const std::string& path, uint64_t image_bytes,
                                  const ImageStamp& stamp) {
  static_assert(sizeof(Header) <= kHeaderBytes && std::endian::native == std::endian::little);
  RegionMap map;
  map.path_ = path;
  map.image_bytes_ = image_bytes;
  map.inode_ = stamp.inode;
  map.region_bytes_ = region_bytes_for(image_bytes);
  map.regions_ = (image_bytes + map.region_bytes_ - 1) / map.region_bytes_;
  const size_t words = (map.regions_ + 63) / 64;
  for (auto* marks : {&map.legacy_, &map.older_, &map.newer_, &map.failed_}) marks->resize(words);
  if (!path.empty()) {
    FT_TRY(map.create_file(path, stamp));
    return map;
  }
  auto memory = MappedRegion::anonymous(kHeaderBytes + words * 8, "a disk's region map");
  if (!memory) return memory.error();
  map.mapped_ = memory.take();
  map.write_header(stamp, false);
  return map;
}

Status RegionMap::create_file(const std::string& path, const ImageStamp& stamp) {
  const size_t file_bytes = kHeaderBytes + legacy_.size() * 8;
  fd_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600));
  if (!fd_.valid()) return map_error("Cannot open", path);
  struct stat info = {};
  if (::fstat(fd_.get(), &info) != 0) return map_error("Cannot examine", path);
  if (!S_ISREG(info.st_mode)) {
    errno = EINVAL;
    return map_error("Cannot use", path);
  }
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  // A killed process lets go of the image first and of its map a moment later.
  for (int tries = 0; ::fcntl(fd_.get(), F_OFD_SETLK, &lock) != 0; tries++) {
    if ((errno != EAGAIN && errno != EACCES) || tries == kLockTries) {
      return map_error("Cannot lock", path);
    }
    ::usleep(kLockRetryUs);
  }

  bool whole = info.st_size == static_cast<off_t>(file_bytes);
  if (!whole && ::ftruncate(fd_.get(), 0) != 0) return map_error("Cannot empty", path);
  // Every block is there before it is mapped: a full disk is an error here, not a fault later.
  const int allocated = ::posix_fallocate(fd_.get(), 0, static_cast<off_t>(file_bytes));
  if (allocated != 0) {
    errno = allocated;
    return map_error("Cannot make room for", path);
  }
  auto mapped = MappedRegion::shared(fd_.get(), file_bytes, 0, "a disk's region map");
  if (!mapped) return mapped.error();
  mapped_ = mapped.take();
  whole = whole && believe(stamp, this_boot());
  if (!whole) {
    sync_id_.clear();
    std::fill(legacy_.begin(), legacy_.end(), 0);
    std::fill(bits(), bits() + legacy_.size(), 0);
  }
  // A host that crashes later must not find the file as "closed in order" again, so this is on the
  // disk before the first mark is made.
  write_header(stamp, false);
  if (::msync(mapped_.data(), mapped_.size(), MS_SYNC) != 0 || ::fsync(fd_.get()) != 0) {
    return map_error("Cannot write", path);
  }
  return Ok{};
}

/// Takes the syncId and the marks of the mapped file over, unless something speaks against it.
bool RegionMap::believe(const ImageStamp& stamp, const std::string& boot_id) {
  Header header;
  std::memcpy(&header, mapped_.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.version != kVersion ||
      header.header_crc != header.crc() || header.region_bytes != region_bytes_ ||
      header.image_bytes != image_bytes_ || header.inode != stamp.inode || header.clean > 1 ||
      header.sync_id_bytes > kSyncIdBytesMax) {
    return false;
  }
  const size_t bits_bytes = legacy_.size() * 8;
  const std::string theirs(header.boot_id, ::strnlen(header.boot_id, kBootIdBytes));
  const bool same_boot = !theirs.empty() && theirs == boot_id;
  // A device has no time of its last change, and its number is good for one boot alone.
  if (stamp.modified_ns == 0 && (!same_boot || stamp.inode == 0)) return false;
  if (header.clean == 1) {
    if (header.modified_ns != stamp.modified_ns) return false;
    if (header.bits_crc != crc32c({mapped_.data() + kHeaderBytes, bits_bytes})) return false;
  } else if (!same_boot) {
    return false;
  }
  // Bits past the last region mean that the file is not what it says it is.
  const uint64_t spare = legacy_.size() * 64 - regions_;
  if (spare > 0 && bits()[legacy_.size() - 1] >> (64 - spare) != 0) return false;
  sync_id_.assign(header.sync_id, header.sync_id_bytes);
  std::copy(bits(), bits() + legacy_.size(), legacy_.begin());
  return true;
}

void RegionMap::write_header(const ImageStamp& stamp, bool clean) {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.region_bytes = region_bytes_;
  header.image_bytes = image_bytes_;
  header.inode = stamp.inode;
  header.modified_ns = clean ? stamp.modified_ns : 0;
  header.clean = clean ? 1 : 0;
  header.bits_crc = clean ? crc32c({mapped_.data() + kHeaderBytes, legacy_.size() * 8}) : 0;
  const std::string boot = this_boot();
  std::memcpy(header.boot_id, boot.data(), std::min(boot.size(), kBootIdBytes));
  header.sync_id_bytes = static_cast<uint32_t>(sync_id_.size());
  std::memcpy(header.sync_id, sync_id_.data(), sync_id_.size());
  header.header_crc = header.crc();
  keep_order();
  std::memcpy(mapped_.data(), &header, sizeof header);
  keep_order();
}

void RegionMap::show(size_t word) {
  bits()[word] = legacy_[word] | older_[word] | newer_[word] | failed_[word];
}

void RegionMap::set(std::vector<uint64_t>& marks, uint64_t offset, uint64_t bytes) {
  FT_CHECK(bytes > 0 && offset < image_bytes_ && bytes <= image_bytes_ - offset,
           "a mark lies outside the disk");
  const uint64_t last = (offset + bytes - 1) / region_bytes_;
  for (uint64_t region = offset / region_bytes_; region <= last;) {
    const uint64_t word = region / 64;
    const uint64_t end = std::min(last, word * 64 + 63);
    const uint64_t mask = (~0ull << (region % 64)) & (~0ull >> (63 - end % 64));
    marks[word] |= mask;
    bits()[word] |= mask;
    region = end + 1;
  }
  keep_order();
}

void RegionMap::mark(uint64_t offset, uint64_t bytes) {
  set(newer_, offset, bytes);
  newer_used_ = true;
}

void RegionMap::fail(uint64_t offset, uint64_t bytes) {
  set(failed_, offset, bytes);
}

void RegionMap::rotate() {
  FT_CHECK(!older_used_, "older marks are not settled yet");
  older_.swap(newer_);  // older was all zero
  older_used_ = newer_used_;
  newer_used_ = false;
}

void RegionMap::retire() {
  if (!older_used_) return;
  for (size_t i = 0; i < older_.size(); i++) {
    if (older_[i] == 0) continue;
    // What is acknowledged in a session that is not in step yet says nothing about the image that
    // syncId is about.
    if (!in_step_) legacy_[i] |= older_[i];
    older_[i] = 0;
    show(i);
  }
  older_used_ = false;
}

void RegionMap::collect() {
  for (size_t i = 0; i < legacy_.size(); i++) {
    legacy_[i] |= older_[i] | newer_[i] | failed_[i];
    older_[i] = newer_[i] = failed_[i] = 0;
  }
  older_used_ = newer_used_ = in_step_ = false;
}

void RegionMap::forget_sync() {
  sync_id_.clear();
  in_step_ = false;
  write_header({inode_, 0}, false);
}

void RegionMap::in_step(const std::string& sync_id) {
  sync_id_ = sync_id.size() <= kSyncIdBytesMax ? sync_id : std::string();
  write_header({inode_, 0}, false);
  for (size_t i = 0; i < legacy_.size(); i++) {
    if (legacy_[i] == 0) continue;
    legacy_[i] = 0;
    show(i);
  }
  keep_order();
  in_step_ = true;
}

Status RegionMap::close_clean(const ImageStamp& stamp) {
  if (path_.empty()) return Ok{};
  // First the marks, then the word that they are whole.
  if (::msync(mapped_.data(), mapped_.size(), MS_SYNC) == 0) {
    write_header({inode_, stamp.modified_ns}, true);
    if (::msync(mapped_.data(), kHeaderBytes, MS_SYNC) == 0 && ::fsync(fd_.get()) == 0) return Ok{};
    write_header({inode_, 0}, false);
  }
  return map_error("Cannot write", path_);
}

std::vector<uint8_t> RegionMap::snapshot() const {
  const uint8_t* first = reinterpret_cast<const uint8_t*>(bits());
  return {first, first + (regions_ + 7) / 8};
}

uint64_t RegionMap::marked() const {
  uint64_t count = 0;
  for (size_t i = 0; i < legacy_.size(); i++)
    count += static_cast<uint64_t>(std::popcount(bits()[i]));
  return count;
}

}  // namespace ft

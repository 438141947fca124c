// A disk device as a test drives it: the driver's side from virtio_support.h, and behind the device
// an image in memory whose operations end when the test says so.
//
//   request i:  header at kHeaders + 32·i, status at kStatuses + i, data where the test likes;
//               descriptors 4·i … of queue 0
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <vector>

#include "machine/virtio_blk.h"
#include "virtio_support.h"

namespace ft::test {

inline constexpr uint64_t kHeaders = 0x20000;
inline constexpr uint64_t kStatuses = 0x24000;
inline constexpr uint8_t kNoStatus = 0xaa;
inline constexpr uint32_t kServeAll = 1 << 30;

struct BlkHeader {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};
struct DiscardRange {
  uint64_t sector;
  uint32_t sectors;
  uint32_t flags;
};

/// Takes operations and keeps them until run().
struct FakeDisk {
  std::vector<uint8_t> image;
  std::deque<IoOp> waiting;
  uint32_t flushes = 0;
  size_t most_waiting = 0;

  explicit FakeDisk(uint64_t bytes) : image(bytes) {
    for (size_t i = 0; i < image.size(); i++) image[i] = static_cast<uint8_t>(i / 512 * 3 + i);
  }
  void take(IoOp op) {
    REQUIRE(op.offset + op.bytes <= image.size());
    waiting.push_back(std::move(op));
    most_waiting = std::max(most_waiting, waiting.size());
  }
  /// Carries out the operation at `index` of those that wait.
  DiskCompletion run(size_t index = 0, int error = 0) {
    const IoOp op = waiting[index];
    waiting.erase(waiting.begin() + static_cast<long>(index));
    if (error != 0) return {op.id, error, nullptr};
    uint8_t* at = image.data() + op.offset;
    if (op.kind == IoKind::kRead) std::copy_n(at, op.bytes, op.data->data());
    if (op.kind == IoKind::kWrite) std::copy_n(op.data->data(), op.bytes, at);
    if (op.kind == IoKind::kZero) std::fill_n(at, op.bytes, 0);
    if (op.kind == IoKind::kFlush) flushes++;
    return {op.id, 0, op.kind == IoKind::kRead ? op.data : nullptr};
  }
};

/// Made before the transport in front of it.
struct BlkParts {
  FakeDisk disk;
  uint32_t wakes = 0;
  VirtioBlk blk;
  explicit BlkParts(uint64_t bytes = 1 << 20, bool read_only = false)
      : disk(bytes),
        blk(
            options(bytes, read_only), [this](IoOp op) { disk.take(std::move(op)); },
            [this] { wakes++; }) {}
  static VirtioBlk::Options options(uint64_t bytes, bool read_only) {
    VirtioBlk::Options options;
    options.bytes = bytes;
    options.read_only = read_only;
    options.id = "romulus-0";
    return options;
  }
};

/// The requests of a sound driver, and room for unsound ones.
struct BlkRig : BlkParts, DriverRig {
  explicit BlkRig(uint64_t bytes = 1 << 20, bool read_only = false)
      : BlkParts(bytes, read_only), DriverRig(blk) {}

  void header(uint16_t i, uint32_t type, uint64_t sector) {
    poke(kHeaders + 32u * i, BlkHeader{type, 0, sector});
    poke(kStatuses + i, kNoStatus);
  }
  /// Header, one data buffer (none when `bytes` is 0) and status, as request `i`.
  void ask(uint16_t i, uint32_t type, uint64_t sector, uint64_t gpa, uint32_t bytes) {
    header(i, type, sector);
    const auto d = static_cast<uint16_t>(4 * i);
    const bool in = type == kBlkTypeIn || type == kBlkTypeGetId;
    const auto next = static_cast<uint16_t>(bytes == 0 ? d + 2 : d + 1);
    desc(0, d, {kHeaders + 32u * i, 16, kNext, next});
    desc(0, static_cast<uint16_t>(d + 1),
         {gpa, bytes, static_cast<uint16_t>(kNext | (in ? kWrite : 0)),
          static_cast<uint16_t>(d + 2)});
    desc(0, static_cast<uint16_t>(d + 2), {kStatuses + i, 1, kWrite, 0});
    offer(0, d);
  }
  uint8_t answer(uint16_t i) { return peek<uint8_t>(kStatuses + i); }
  void serve() { blk.serve(kServeAll); }
  void finish(size_t index = 0, int error = 0) { blk.complete(disk.run(index, error)); }
  /// Until nothing is left to do.
  void run_all() {
    serve();
    while (!disk.waiting.empty()) {
      finish();
      serve();
    }
    blk.signal();
  }
  void fill(uint64_t gpa, size_t bytes, uint8_t seed) {
    for (size_t i = 0; i < bytes; i++) {
      memory.host_base()[gpa + i] = static_cast<uint8_t>(seed + i * 5 + i / 256);
    }
  }
  bool same(uint64_t gpa, uint64_t offset, size_t bytes) {
    return std::equal(memory.host_base() + gpa, memory.host_base() + gpa + bytes,
                      disk.image.begin() + static_cast<long>(offset));
  }
  bool marked(uint64_t gpa) const {
    const auto gfns = memory.dirty_gfns();
    return std::find(gfns.begin(), gfns.end(), gpa / 4096) != gfns.end();
  }
  std::vector<uint8_t> capture() {
    StateWriter writer;
    writer.begin();
    mmio.capture(writer);
    const auto blob = writer.finish();
    return {blob.begin(), blob.end()};
  }
};

}  // namespace ft::test

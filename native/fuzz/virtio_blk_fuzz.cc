// libFuzzer target: a driver made of fuzzer bytes against the virtio-mmio transport and the disk
// device. The bytes are a programme: what virtio_driver.h offers, servings with a budget, and ends
// of operations in any order, well or badly. The first byte says what disk it is.
//
// Held, besides what virtio_driver.h holds:
//   - every operation lies inside the disk, begins and ends with a sector and is no larger than its
//     bound; a read-only disk is never written;
//   - never more operations under way than the device has places for, nor more requests than heads;
//   - one serving starts no more than its budget and one piece, or one request of many ranges;
//   - when the last operation ended, no request is left that waits for one.
#include <cstdint>
#include <memory>
#include <vector>

#include "machine/virtio_blk.h"
#include "virtio_driver.h"

namespace {

using namespace ft;  // NOLINT: one short programme about this namespace
using ft::fuzz::Input;

constexpr uint64_t kDiskBytes = 48 * 512;
constexpr size_t kOpsMax = 64;

class Programme {
 public:
  explicit Programme(bool read_only)
      : read_only_(read_only),
        blk_(
            options(read_only), [this](IoOp op) { take(std::move(op)); }, [] {}) {}

  void step(Input& in) {
    const uint8_t kind = in.number<uint8_t>() % 13;
    switch (kind) {
      case 9:
        return serve(1024 * (1 + in.number<uint8_t>()));
      case 10:
        return complete(in.number<uint8_t>(), in.number<uint8_t>());
      case 11:
        blk_.signal();
        return;
      case 12:
        return finish();
      default:
        return driver_.step(kind, in);
    }
  }

  void finish() {
    serve(1 << 30);
    while (!under_way_.empty()) {
      complete(0, 0);
      serve(1 << 30);
    }
    blk_.signal();
  }
  void check_end() const {
    FT_CHECK(blk_.unfinished() == 0 || !blk_.active(), "a request was lost");
  }

 private:
  static VirtioBlk::Options options(bool read_only) {
    VirtioBlk::Options options;
    options.bytes = kDiskBytes;
    options.read_only = read_only;
    options.id = "romulus-0";
    return options;
  }

  void take(IoOp op) {
    FT_CHECK(op.offset <= kDiskBytes && op.bytes <= kDiskBytes - op.offset, "beyond the disk");
    FT_CHECK(op.offset % 512 == 0 && op.bytes % 512 == 0, "no whole sectors");
    const bool changes = op.kind == IoKind::kWrite || op.kind == IoKind::kZero;
    FT_CHECK(!read_only_ || !changes, "a read-only disk is written");
    if (op.kind != IoKind::kFlush) FT_CHECK(op.bytes > 0, "an operation of nothing");
    if (op.kind == IoKind::kRead || op.kind == IoKind::kWrite) {
      FT_CHECK(op.bytes <= kBlkPieceBytes && op.data->bytes() == op.bytes, "a wrong buffer");
    }
    under_way_.push_back(std::move(op));
    FT_CHECK(under_way_.size() <= kOpsMax, "more operations than places for them");
  }

  void serve(uint32_t bytes) {
    const size_t before = under_way_.size();
    // True and nothing done would make the disk thread spin.
    const uint64_t requests = blk_.facts().requests + blk_.facts().submitted;
    const bool more = blk_.serve(bytes);
    FT_CHECK(!more || blk_.facts().requests + blk_.facts().submitted > requests, "work for ever");
    FT_CHECK(under_way_.size() - before <= bytes / 512 + kOpsMax, "more than its budget");
    FT_CHECK(blk_.unfinished() <= kQueueSizeMax, "more requests than heads");
  }

  void complete(uint8_t which, uint8_t how) {
    if (under_way_.empty()) return;
    const size_t index = which % under_way_.size();
    const IoOp op = under_way_[index];
    under_way_.erase(under_way_.begin() + static_cast<long>(index));
    DiskCompletion done{op.id, how % 8 == 7 ? 5 : 0, nullptr};
    if (op.kind == IoKind::kRead && done.error == 0) {
      // Bytes that are never zero, so that what the device writes always shows.
      std::fill_n(op.data->data(), op.bytes, uint8_t{0xa5});
      done.data = op.data;
    }
    blk_.complete(done);
  }

  bool read_only_;
  std::vector<IoOp> under_way_;
  VirtioBlk blk_;
  fuzz::VirtioDriver driver_{blk_};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const auto programme = std::make_unique<Programme>(in.number<uint8_t>() % 4 == 3);
  for (size_t n = 0; n < fuzz::kStepsMax && !in.empty(); n++) programme->step(in);
  programme->finish();
  programme->check_end();
  return 0;
}

// A world of disks in which time is a die: three hosts with an image each, one of them with a guest
// that writes, sessions that begin, break off and end, hosts that are killed in the middle of
// anything. What the world knows for certain is held against the images and the maps.
//
//   guest ─▶ active disk ─ cut ─▶ epochs on the wire ─▶ standby disk
//              │ model engine        │ lost with the session   │ model engine
//              ▼ any order, any time ▼                         ▼ any order, any time
//            image, map                                      image, map
//
// Held, whatever the dice say:
//   - a read sees exactly the writes that were submitted before it
//   - wherever two images with the same syncId differ, one of the two maps says so
//   - a promoted standby, once its guest's unfinished requests are done again, has the image of the
//     guest's state at its last epoch, and that epoch is no older than the last acknowledged one
//   - a session that comes to rest leaves two equal images
#pragma once

#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "disk_support.h"

namespace ft::test {

class Dice {
 public:
  explicit Dice(uint64_t seed) : generator_(seed) {}
  uint64_t below(uint64_t n) { return generator_() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }

 private:
  std::mt19937_64 generator_;
};

/// Carries operations out on a real file, one at a time, when the world says so.
class ModelEngine : public IoEngine {
 public:
  ModelEngine(int fd, Dice& dice) : fd_(fd), dice_(dice), event_(::eventfd(0, EFD_NONBLOCK)) {}

  void submit(const IoOp& op) override {
    FT_CHECK(pending_.size() < kDepth, "too many operations");
    for (const IoOp& other : pending_) {
      const bool overlap = op.offset < other.offset + other.bytes &&
                           other.offset < op.offset + op.bytes &&
                           (op.kind != IoKind::kRead || other.kind != IoKind::kRead);
      FT_CHECK(!overlap, "operations that overlap are under way at once");
    }
    pending_.push_back(op);
  }
  void start() override {}
  void reap(std::vector<IoDone>& out) override {
    uint64_t ignored;
    static_cast<void>(!::read(event_.get(), &ignored, sizeof ignored));
    out.insert(out.end(), done_.begin(), done_.end());
    done_.clear();
  }
  int event_fd() const override { return event_.get(); }
  const char* name() const override { return "model"; }

  bool idle() const { return pending_.empty() && done_.empty(); }
  size_t under_way() const { return pending_.size(); }
  /// What has been carried out so far, in its order.
  const std::vector<IoKind>& order() const { return order_; }
  /// One operation, chosen by the dice, ends.
  void carry_one_out() {
    if (pending_.empty()) return;
    const size_t i = dice_.below(pending_.size());
    const IoOp op = pending_[i];
    pending_.erase(pending_.begin() + static_cast<ptrdiff_t>(i));
    move_bytes(op, op.bytes);
    done_.push_back({op.id, 0});
    order_.push_back(op.kind);
  }
  /// The process is killed: what is under way is done, half done, or not done at all.
  void abandon() {
    for (const IoOp& op : pending_) {
      if (op.kind == IoKind::kRead || dice_.one_in(3)) continue;
      move_bytes(op, dice_.one_in(2) ? op.bytes : dice_.below(op.bytes / 512 + 1) * 512);
    }
    pending_.clear();
  }

 private:
  void move_bytes(const IoOp& op, uint64_t bytes) {
    if (op.kind == IoKind::kFlush || bytes == 0) return;
    const auto offset = static_cast<off_t>(op.offset);
    std::vector<uint8_t> zeros(op.kind == IoKind::kZero ? bytes : 0);
    uint8_t* memory = op.kind == IoKind::kZero ? zeros.data() : op.data->data();
    const ssize_t moved = op.kind == IoKind::kRead ? ::pread(fd_, memory, bytes, offset)
                                                   : ::pwrite(fd_, memory, bytes, offset);
    FT_CHECK(moved == static_cast<ssize_t>(bytes), "the model's file");
  }

  const int fd_;
  Dice& dice_;
  const UniqueFd event_;
  std::vector<IoOp> pending_;
  std::vector<IoDone> done_;
  std::vector<IoKind> order_;
};

using Bytes = std::vector<uint8_t>;

struct GuestRequest {
  IoKind kind;
  uint64_t offset, bytes;
  std::shared_ptr<IoBuffer> data;  // a write's
  Bytes expected;                  // a read's: what it must see
};

/// What the primary sends for one epoch, and what it means.
struct WireEpoch {
  uint64_t number;
  bool base;
  std::vector<DiskRecord> records;
  std::shared_ptr<const Bytes> state;  // the disk as the guest knows it at the cut
  std::vector<GuestRequest> unfinished;
};

/// One host: an image, and while its process lives a disk.
struct Host {
  std::string path;
  std::unique_ptr<ReplicatedDisk> disk;
  ModelEngine* engine = nullptr;
  bool started = false;  // at least once, so that there is a map

  Host(std::string image_path, uint64_t bytes) : path(std::move(image_path)) {
    make_image(path, bytes);
  }
  void start(Dice& dice, ReplicatedDisk::Hooks hooks = {}) {
    DiskImage image = open_image(path);
    auto made = std::make_unique<ModelEngine>(image.fd(), dice);
    engine = made.get();
    auto opened = ReplicatedDisk::create(std::move(image), path + ".ftmap", std::move(hooks),
                                         std::move(made));
    FT_CHECK(opened.ok(), "a disk of the model does not open");
    disk = opened.take();
    started = true;
  }
  void kill() {
    engine->abandon();
    disk.reset();
  }
};

class DiskWorld {
 public:
  explicit DiskWorld(uint64_t seed);
  /// Sessions and deaths, as many as `turns`.
  void run(int turns);

  struct Counts {
    uint64_t partial_syncs = 0, full_syncs = 0, failovers = 0, kills = 0, epochs = 0, reads = 0;
    uint64_t regions_compared = 0, regions_excused = 0, in_step = 0, broken_syncs = 0;
  };
  const Counts& counts() const { return counts_; }

 private:
  // the guest, and what is held at any moment
  void guest_asks();
  void submit(GuestRequest request);
  void pump_active();
  void finish_guest();
  void check_maps();
  void check_maps_of(const Host& one, const Host& other);

  // sessions and deaths
  void begin_session();
  void session_step();
  std::shared_ptr<const Bytes> state_now();
  void cut();
  void deliver();
  void apply_held();
  void acknowledge();
  void come_to_rest();
  void lose_link();
  void kill_standby();
  void kill_active();
  void fence_active();
  void fall_behind();
  void start_another();
  void promote();
  void restart_in_order();

  uint64_t random_offset();

  Dice dice_;
  TempDir dir_;
  uint64_t bytes_;
  std::vector<std::unique_ptr<Host>> hosts_;
  Host* active_ = nullptr;
  Host* standby_ = nullptr;
  Counts counts_;
  std::array<uint64_t, 3> places_ = {};  // sectors around which the guest works
  std::vector<std::shared_ptr<Bytes>> states_;
  Bytes region_one_, region_other_;

  Bytes disk_;                                   // as the guest knows it: every submitted write
  std::map<uint64_t, GuestRequest> unfinished_;  // by cookie, which counts up
  uint64_t next_cookie_ = 1;
  uint64_t reign_cookie_ = 1;  // the first of the guest that runs now
  std::vector<DiskCompletion> completions_;

  std::string session_;
  int sessions_ = 0;
  uint64_t next_epoch_ = 1, acked_ = 0;
  bool base_cut_ = false, base_held_ = false, base_acked_ = false;
  std::deque<WireEpoch> wire_;       // cut, not delivered
  std::deque<WireEpoch> held_;       // promised, not applied
  std::deque<uint64_t> acks_;        // given, not arrived
  std::optional<WireEpoch> resume_;  // the last epoch held, without its records
  uint64_t base_epoch_ = 0;
};

}  // namespace ft::test

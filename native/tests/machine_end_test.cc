// The end of a machine: storage that moves is waited for, however slow it is; with storage that
// does not answer it comes all the same. Then nothing that the storage may still touch is freed,
// and what is left ends in order when the storage answers.
#include <doctest/doctest.h>
#include <sys/timerfd.h>

#include <atomic>
#include <chrono>
#include <deque>

#include "disk/io_support.h"
#include "disk_support.h"
#include "kvm_support.h"
#include "machine/machine.h"
#include "net_namespace_support.h"

namespace ft {
namespace {

using test::must;

/// Does nothing of what it is asked before it is let go.
class StuckEngine : public IoEngine {
 public:
  explicit StuckEngine(UniqueFd event) : event_(std::move(event)) {}
  void submit(const IoOp& op) override { done_.push_back({op.id, 0}); }
  void start() override {}
  void reap(std::vector<IoDone>& out) override {
    drain_event_fd(event_.get());
    if (let_go_) out.swap(done_);
  }
  int event_fd() const override { return event_.get(); }
  const char* name() const override { return "stuck"; }
  void let_go() {
    let_go_ = true;
    wake();
  }

 private:
  const UniqueFd event_;
  std::vector<IoDone> done_;
  std::atomic<bool> let_go_{false};
};

/// Ends one operation each time that its clock ticks. Nothing else wakes it: each tick does.
class SlowEngine : public IoEngine {
 public:
  explicit SlowEngine(int tick_ms)
      : clock_(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)) {
    const timespec tick = {tick_ms / 1000, tick_ms % 1000 * 1'000'000};
    const itimerspec each = {tick, tick};
    REQUIRE(::timerfd_settime(clock_.get(), 0, &each, nullptr) == 0);
  }
  void submit(const IoOp& op) override { under_way_.push_back({op.id, 0}); }
  void start() override {}
  void reap(std::vector<IoDone>& out) override {
    uint64_t ticks = 0;
    if (::read(clock_.get(), &ticks, sizeof(ticks)) != sizeof(ticks) || under_way_.empty()) return;
    out.push_back(under_way_.front());
    under_way_.pop_front();
  }
  int event_fd() const override { return clock_.get(); }
  const char* name() const override { return "slow"; }

 private:
  const UniqueFd clock_;
  std::deque<IoDone> under_way_;
};

/// A machine that has yet to start, with one disk or none, in a namespace of its own.
struct Bench {
  const UniqueFd other = make_net_namespace();
  const test::TempDir dir;
  const std::string path = dir.file("image");
  int told = 0;

  std::unique_ptr<Machine> make(std::function<std::unique_ptr<IoEngine>(int)> make_engine) {
    REQUIRE_MESSAGE(other.valid(), "making a network namespace with a TAP needs root");
    MachineOptions options;
    options.memory_bytes = 16 << 20;
    options.tap_name = "inner0";
    options.netns = "/proc/self/fd/" + std::to_string(other.get());
    if (make_engine) {
      test::make_image(path, 1 << 20);
      options.disks = {
          {.path = path, .read_only = false, .map_path = "", .make_engine = make_engine}};
    }
    MachineHooks hooks;
    hooks.on_disks_synced = hooks.on_disk_failed = hooks.on_disk_sync_failed = [this] { told++; };
    return must(Machine::create(options, hooks));
  }
};

KVM_TEST_CASE("a machine whose storage hangs ends within its bound") {
  Bench bench;
  StuckEngine* engine = nullptr;
  auto machine = bench.make([&](int) {
    auto made = std::make_unique<StuckEngine>(must(make_event_fd()));
    engine = made.get();
    return made;
  });
  machine->disks().disk(0).submit(IoKind::kZero, 0, 4096, nullptr, 1);

  const auto since = std::chrono::steady_clock::now();
  const Status ended = Machine::end(std::move(machine), {.idle_ms_max = 300});
  const auto took = std::chrono::steady_clock::now() - since;
  REQUIRE_FALSE(ended.ok());
  CHECK(std::string(ended.error().code) == "FT_ERR_DISK_STUCK");
  CHECK(ended.error().message.find(bench.path) != std::string::npos);
  CHECK(took < std::chrono::seconds(20));
  // Nobody else may use the image before the last transfer has ended.
  const auto second = DiskImage::open({bench.path, false, 0});
  REQUIRE_FALSE(second.ok());
  CHECK(std::string(second.error().code) == "FT_ERR_DISK_BUSY");

  engine->let_go();
  CHECK(DiskImage::open({bench.path, false, 20'000}).ok());
  CHECK(bench.told == 0);
}

KVM_TEST_CASE("a machine whose storage is slow ends when everything is written") {
  Bench bench;
  auto machine = bench.make([](int) { return std::make_unique<SlowEngine>(250); });
  for (uint64_t i = 0; i < 8; i++) {
    machine->disks().disk(0).submit(IoKind::kZero, i * 4096, 4096, nullptr, i);
  }
  const auto since = std::chrono::steady_clock::now();
  // Two seconds in all, and more than the bound of which no part was idle for long.
  CHECK(Machine::end(std::move(machine), {.idle_ms_max = 1500}).ok());
  CHECK(std::chrono::steady_clock::now() - since > std::chrono::milliseconds(1600));
  CHECK(DiskImage::open({bench.path, false, 0}).ok());
}

KVM_TEST_CASE("the end of a machine waits longer for a flush") {
  Bench bench;
  auto machine = bench.make([](int) { return std::make_unique<SlowEngine>(1000); });
  machine->disks().disk(0).submit(IoKind::kFlush, 0, 0, nullptr, 1);
  CHECK(Machine::end(std::move(machine), {.idle_ms_max = 300}).ok());
}

KVM_TEST_CASE("a machine without disks ends without a bound") {
  Bench bench;
  CHECK(Machine::end(bench.make(nullptr), {.idle_ms_max = 0, .flush_ms_max = 0}).ok());
}

}  // namespace
}  // namespace ft

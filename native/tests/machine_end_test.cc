// The end of a machine whose storage does not answer: it comes within its bound, nothing that the
// storage may still touch is freed, and what is left ends in order when the storage answers.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>

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

KVM_TEST_CASE("a machine whose storage hangs ends within its bound") {
  const UniqueFd other = make_net_namespace();
  REQUIRE_MESSAGE(other.valid(), "making a network namespace with a TAP needs root");
  const test::TempDir dir;
  const std::string path = dir.file("image");
  test::make_image(path, 1 << 20);
  StuckEngine* engine = nullptr;
  int told = 0;
  MachineOptions options;
  options.memory_bytes = 16 << 20;
  options.tap_name = "inner0";
  options.netns = "/proc/self/fd/" + std::to_string(other.get());
  options.disks = {{.path = path, .read_only = false, .map_path = "", .make_engine = [&](int) {
                      auto made = std::make_unique<StuckEngine>(must(make_event_fd()));
                      engine = made.get();
                      return made;
                    }}};
  MachineHooks hooks;
  hooks.on_disks_synced = hooks.on_disk_failed = hooks.on_disk_sync_failed = [&told] { told++; };
  auto machine = must(Machine::create(options, hooks));
  machine->disks().disk(0).submit(IoKind::kFlush, 0, 0, nullptr, 1);

  const auto since = std::chrono::steady_clock::now();
  const Status ended = Machine::end(std::move(machine));
  const auto took = std::chrono::steady_clock::now() - since;
  REQUIRE_FALSE(ended.ok());
  CHECK(std::string(ended.error().code) == "FT_ERR_DISK_STUCK");
  CHECK(ended.error().message.find(path) != std::string::npos);
  CHECK(took < std::chrono::milliseconds(4 * Machine::kEndMsMax));
  // Nobody else may use the image before the last transfer has ended.
  const auto second = DiskImage::open({path, false, 0});
  REQUIRE_FALSE(second.ok());
  CHECK(std::string(second.error().code) == "FT_ERR_DISK_BUSY");

  engine->let_go();
  CHECK(DiskImage::open({path, false, 20'000}).ok());
  CHECK(told == 0);
}

}  // namespace
}  // namespace ft

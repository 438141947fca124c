// The whole machine, under the sanitizers, with a guest that means harm (guest/hostile): it posts
// malformed chains, loops, addresses beyond memory and huge lengths to every queue of every device,
// and noise to every register, while its epochs are cut, encoded and verified as under replication.
//
// Needs root, for a network namespace of the process's own with the TAP in it.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "kvm_support.h"
#include "machine/machine.h"

namespace ft {
namespace {

using test::must;

constexpr const char* kKernel = "build/guest/hostile.elf";
constexpr const char* kTapName = "tap0";
constexpr const char* kStandbyTapName = "tap1";
constexpr auto kLifeMax = std::chrono::seconds(150);
constexpr uint64_t kMemoryBytes = 64 << 20;
constexpr off_t kDiskBytes = 4 << 20;

// A namespace of this process alone, with the TAPs of both sides; the process ends with the test
// case, and all of it with the process.
void enter_network() {
  REQUIRE_MESSAGE(::unshare(CLONE_NEWNET) == 0, "the test needs root for a network namespace");
  for (const char* name : {kTapName, kStandbyTapName}) {
    const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    REQUIRE(tun.valid());
    ifreq request = {};
    std::strcpy(request.ifr_name, name);
    request.ifr_flags = IFF_TAP | IFF_NO_PI;
    REQUIRE(::ioctl(tun.get(), TUNSETIFF, &request) == 0);
    REQUIRE(::ioctl(tun.get(), TUNSETPERSIST, 1) == 0);
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    REQUIRE(::ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0);
  }
}

// Frames for the guest, so that its receive queue is looked at.
class Traffic {
 public:
  Traffic() : socket_(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)) {
    REQUIRE(socket_.valid());
    thread_ = std::thread([this] { run(); });
  }
  ~Traffic() {
    stop_ = true;
    thread_.join();
  }

 private:
  void run() {
    sockaddr_ll to = {};
    to.sll_family = AF_PACKET;
    to.sll_protocol = htons(ETH_P_IP);
    to.sll_ifindex = static_cast<int>(::if_nametoindex(kTapName));
    uint8_t frame[100];
    std::memset(frame, 0xff, sizeof(frame));
    while (!stop_) {
      ::sendto(socket_.get(), frame, sizeof(frame), 0, reinterpret_cast<sockaddr*>(&to),
               sizeof(to));
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  UniqueFd socket_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

// A disk image of this test's own.
class Image {
 public:
  Image() {
    const UniqueFd fd(::mkstemp(path_));
    REQUIRE(fd.valid());
    REQUIRE(::ftruncate(fd.get(), kDiskBytes) == 0);
  }
  ~Image() { ::unlink(path_); }
  DiskOptions options() const { return {.path = path_, .read_only = false, .map_path = ""}; }

 private:
  char path_[32] = "/tmp/ft-hostile-XXXXXX";
};

// What the event loop of a primary does with cuts, with a standby that applies all of them.
void follow(Machine& primary, Machine& standby, uint64_t* epochs) {
  static std::vector<uint8_t> body(1 << 20);
  while (const EpochSlot* slot = primary.front_cut()) {
    const uint64_t epoch = slot->facts.epoch;
    EncodedBody piece;
    do {
      piece = primary.encode_cut(body);
      const std::span<const uint8_t> bytes(body.data(), piece.bytes);
      const auto verified = standby.verify(bytes);
      if (!verified.ok()) FAIL(verified.error().message);
      std::vector<uint32_t> mismatches;
      const auto applied = standby.apply(bytes, &mismatches);
      if (!applied.ok()) FAIL(applied.error().message);
    } while (!piece.last);
    primary.commit(epoch);
    (*epochs)++;
  }
}

MachineOptions machine_options(const char* tap, const Image& disk) {
  MachineOptions options;
  options.memory_bytes = kMemoryBytes;
  options.tap_name = tap;
  options.mac = {0x52, 0x54, 0, 0, 0, 1};
  options.disks = {disk.options()};
  return options;
}

std::string text_of(int fd) {
  std::string text(static_cast<size_t>(::lseek(fd, 0, SEEK_END)), 0);
  REQUIRE(::pread(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  return text;
}

KVM_TEST_CASE("a hostile guest harms nobody, and every device asks for a reset") {
  enter_network();
  const UniqueFd console(::memfd_create("console", MFD_CLOEXEC));
  const Image disk, copy;
  std::atomic<bool> ended{false};
  std::string why = "nothing";
  MachineOptions options = machine_options(kTapName, disk);
  options.kernel_path = kKernel;
  options.console.kind = Console::Kind::kFile;
  options.console.file = console.get();
  MachineHooks hooks;
  hooks.on_cut = [] {};
  hooks.on_guest_end = [&](GuestEnd) { ended = true; };
  hooks.on_stopped = [&](std::string message) {
    why = std::move(message);
    ended = true;
  };
  hooks.on_disks_synced = [] {};
  hooks.on_disk_failed = [] {};
  hooks.on_disk_sync_failed = [] {};
  auto standby = must(Machine::create(machine_options(kStandbyTapName, copy), hooks));
  auto primary = must(Machine::create(std::move(options), hooks));
  const Traffic traffic;
  REQUIRE(primary->boot().ok());
  CutPolicy policy;
  policy.interval_us = 2000;
  const std::string never_in_step[1];
  REQUIRE(standby->begin_sync(never_in_step).ok());
  REQUIRE(primary->begin_replication(policy, 1, DiskSet::Maps(1)).ok());

  const auto end = std::chrono::steady_clock::now() + kLifeMax;
  std::string said;
  uint64_t epochs = 0;
  while (said.find(" unexpected\n") == std::string::npos && !ended) {
    REQUIRE_MESSAGE(std::chrono::steady_clock::now() < end, "it said:\n" << said);
    follow(*primary, *standby, &epochs);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    said = text_of(console.get());
  }
  follow(*primary, *standby, &epochs);
  CHECK(Machine::end(std::move(primary)).ok());
  CHECK(Machine::end(std::move(standby)).ok());
  said = text_of(console.get());
  INFO("it said:\n" << said << "\nand stopped for: " << why);
  CHECK(said.find(", 0 unexpected") != std::string::npos);
  for (const char* device : {"net", "blk", "rng"}) {
    CHECK(said.find("attacking " + std::string(device)) != std::string::npos);
  }
  CHECK(epochs > 100);
}

}  // namespace
}  // namespace ft

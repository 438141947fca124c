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
constexpr auto kLifeMax = std::chrono::seconds(150);

// A namespace of this process alone, with one TAP; the process ends with the test case, and both
// with it. The descriptor keeps the TAP until the machine attaches to it.
void enter_network() {
  REQUIRE_MESSAGE(::unshare(CLONE_NEWNET) == 0, "the test needs root for a network namespace");
  const UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
  REQUIRE(tun.valid());
  ifreq request = {};
  std::strcpy(request.ifr_name, kTapName);
  request.ifr_flags = IFF_TAP | IFF_NO_PI;
  REQUIRE(::ioctl(tun.get(), TUNSETIFF, &request) == 0);
  REQUIRE(::ioctl(tun.get(), TUNSETPERSIST, 1) == 0);
  const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  REQUIRE(::ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0);
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

// What the event loop of a primary does with cuts, with a standby that agrees to all of it.
class Follower {
 public:
  explicit Follower(Machine& machine)
      : machine_(machine), body_(1 << 20), memory_(must(GuestMemory::create(kMemoryBytes))) {}

  static constexpr uint64_t kMemoryBytes = 64 << 20;

  void turn() {
    while (const EpochSlot* slot = machine_.front_cut()) {
      const uint64_t epoch = slot->facts.epoch;
      EncodedBody piece;
      do {
        piece = machine_.encode_cut(body_);
        const std::span<const uint8_t> bytes(body_.data(), piece.bytes);
        const auto verified = image_.verify(bytes);
        if (!verified.ok()) FAIL(verified.error().message);
        std::vector<uint32_t> mismatches;
        REQUIRE(image_.apply(bytes, &mismatches).ok());
      } while (!piece.last);
      machine_.commit(epoch);
      epochs_++;
    }
  }
  uint64_t epochs() const { return epochs_; }

 private:
  Machine& machine_;
  std::vector<uint8_t> body_;
  GuestMemory memory_;
  ImageApplier image_{memory_};
  uint64_t epochs_ = 0;
};

std::string text_of(int fd) {
  std::string text(static_cast<size_t>(::lseek(fd, 0, SEEK_END)), 0);
  REQUIRE(::pread(fd, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  return text;
}

KVM_TEST_CASE("a hostile guest harms nobody, and every device asks for a reset") {
  enter_network();
  const UniqueFd console(::memfd_create("console", MFD_CLOEXEC));
  std::atomic<bool> stopped{false};
  std::string why;
  MachineOptions options;
  options.memory_bytes = Follower::kMemoryBytes;
  options.kernel_path = kKernel;
  options.tap_name = kTapName;
  options.mac = {0x52, 0x54, 0, 0, 0, 1};
  options.console.kind = Console::Kind::kFile;
  options.console.file = console.get();
  MachineHooks hooks;
  hooks.on_cut = [] {};
  hooks.on_stopped = [&](StopReason, std::string message) {
    why = std::move(message);
    stopped = true;
  };
  const auto machine = must(Machine::create(std::move(options), std::move(hooks)));
  Follower follower(*machine);
  const Traffic traffic;
  REQUIRE(machine->boot().ok());
  CutPolicy policy;
  policy.interval_us = 2000;
  REQUIRE(machine->begin_replication(policy, 1).ok());

  const auto end = std::chrono::steady_clock::now() + kLifeMax;
  std::string said;
  while (said.find(" unexpected\n") == std::string::npos && !stopped) {
    REQUIRE_MESSAGE(std::chrono::steady_clock::now() < end, "it said:\n" << said);
    follower.turn();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    said = text_of(console.get());
  }
  machine->stop();
  INFO("it said:\n" << said << "\nand ended: " << why);
  CHECK(said.find(", 0 unexpected") != std::string::npos);
  CHECK(said.find("attacking net") != std::string::npos);
  CHECK(said.find("attacking rng") != std::string::npos);
  CHECK(follower.epochs() > 100);
}

}  // namespace
}  // namespace ft

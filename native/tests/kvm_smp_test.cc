// Two vCPUs: a second one started by the first, and start-up signals that arrive while it stands
// still, which the synced registers cannot know of.
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "kvm_support.h"

using namespace ft;
using namespace ft::test;

namespace {

constexpr uint64_t kRealCode = 0x9000;
constexpr uint64_t kSecondCode = 0xb000;  // start-up vector 0x0b

// Sends INIT and the start-up signal to APIC id 1, exits, counts.
GUEST_CODE(guest_first, ".code16", R"(
    movl $0xfee00000, %ebx
    movl $0x1ff, %fs:0xf0(%ebx)
    movl $0x01000000, %fs:0x310(%ebx)
    movl $0x00004500, %fs:0x300(%ebx)
    movl $0x01000000, %fs:0x310(%ebx)
    movl $0x0000460b, %fs:0x300(%ebx)
    outb %al, $0x66
1:  incl 0x6000
    jmp 1b
)");
// Starts with CS = 0x0b00, everything else as after a reset.
GUEST_CODE(guest_second, ".code16", R"(
    xorw %ax, %ax
    movw %ax, %ds
1:  incl 0x6100
    jmp 1b
)");

void on_kick(int) {}

/// Runs vCPU 1 on a thread of its own until told to stop.
class SecondThread {
 public:
  explicit SecondThread(Guest& guest) : guest_(guest) {
    struct sigaction action {};
    action.sa_handler = on_kick;
    sigaction(SIGRTMIN + 7, &action, nullptr);
    thread_ = std::thread([this] {
      while (!stop_.load()) {
        const auto exit = guest_.vcpu(1).run();
        if (!exit.ok() || exit.value() != Vcpu::Exit::kInterrupted) unexpected_.store(true);
      }
      done_.store(true);
    });
  }
  /// Stops the vCPU. True when it only ever ran or slept.
  bool stop() {
    stop_.store(true);
    while (!done_.load()) {
      __atomic_store_n(&guest_.vcpu(1).run_page()->immediate_exit, 1, __ATOMIC_RELAXED);
      pthread_kill(thread_.native_handle(), SIGRTMIN + 7);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    thread_.join();
    guest_.vcpu(1).run_page()->immediate_exit = 0;
    return !unexpected_.load();
  }

 private:
  Guest& guest_;
  std::atomic<bool> stop_{false}, done_{false}, unexpected_{false};
  std::thread thread_;
};

GuestOptions two() {
  GuestOptions options;
  options.vcpus = 2;
  return options;
}

void start_first(Guest& guest) {
  guest.load(kRealCode, guest_bytes(guest_first, guest_first_end));
  guest.load(kSecondCode, guest_bytes(guest_second, guest_second_end));
  guest.start_real(kRealCode);
}

bool second_counts(Guest& guest) {
  const uint32_t before = guest.value<uint32_t>(0x6100);
  SecondThread second(guest);
  for (int i = 0; i < 5000; i++) {
    if (__atomic_load_n(&guest.value<uint32_t>(0x6100), __ATOMIC_RELAXED) > before + 10) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(second.stop());
  return guest.value<uint32_t>(0x6100) > before + 10;
}

kvm_mp_state mp_state_in(const std::vector<uint8_t>& blob, uint16_t vcpu) {
  kvm_mp_state state{};
  must(read_state_struct(must(StateReader::open(blob)), StateKind::kMpState, vcpu, &state));
  return state;
}

}  // namespace

KVM_TEST_CASE("a second vCPU waits, is started, and goes on in another VM") {
  Guest a(two());
  start_first(a);
  {
    SecondThread second(a);  // waits for its start-up signal; this also counts as interrupted
    REQUIRE(a.run() == Vcpu::Exit::kIo);
    for (int i = 0; i < 5000; i++) {
      if (__atomic_load_n(&a.value<uint32_t>(0x6100), __ATOMIC_RELAXED) > 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(second.stop());
  }
  REQUIRE(a.value<uint32_t>(0x6100) > 0);
  REQUIRE(must(a.vcpu(0).complete_pending_io()) == Vcpu::Exit::kInterrupted);
  const auto blob = a.capture();
  CHECK(mp_state_in(blob, 0).mp_state == KVM_MP_STATE_RUNNABLE);
  CHECK(mp_state_in(blob, 1).mp_state == KVM_MP_STATE_RUNNABLE);

  Guest b(two());
  b.copy_memory_from(a);
  must(b.restore(blob));
  CHECK(second_counts(b));
  REQUIRE(b.run_for(20'000, 0) == Vcpu::Exit::kInterrupted);
}

KVM_TEST_CASE("a start-up signal to a vCPU that stands still is in the capture") {
  Guest a(two());
  start_first(a);
  const auto before = a.capture();
  CHECK(mp_state_in(before, 1).mp_state == KVM_MP_STATE_UNINITIALIZED);
  REQUIRE(a.run() == Vcpu::Exit::kIo);  // the signal is sent; vCPU 1 has never been entered
  REQUIRE(must(a.vcpu(0).complete_pending_io()) == Vcpu::Exit::kInterrupted);
  const auto blob = a.capture();
  kvm_sregs2 sregs{};
  must(read_state_struct(must(StateReader::open(blob)), StateKind::kSregs, 1, &sregs));
  CHECK(sregs.cs.base == kSecondCode);
  CHECK(sregs.cs.selector == kSecondCode >> 4);

  Guest b(two());
  b.copy_memory_from(a);
  must(b.restore(blob));
  CHECK(second_counts(b));
}

KVM_TEST_CASE("an NMI to a vCPU that stands still is in the capture") {
  Guest a(two());
  start_first(a);
  REQUIRE(a.run() == Vcpu::Exit::kIo);
  REQUIRE(must(a.vcpu(0).complete_pending_io()) == Vcpu::Exit::kInterrupted);
  REQUIRE(ioctl(a.vcpu(0).fd(), KVM_NMI) == 0);  // as if vCPU 1 had sent it
  const auto blob = a.capture();
  kvm_vcpu_events events{};
  must(read_state_struct(must(StateReader::open(blob)), StateKind::kEvents, 0, &events));
  CHECK(events.nmi.pending == 1);
}

KVM_TEST_CASE("each vCPU's writes are in its own ring, and one reset serves both") {
  Guest a(two());
  start_first(a);
  {
    SecondThread second(a);
    REQUIRE(a.run() == Vcpu::Exit::kIo);
    REQUIRE(must(a.vcpu(0).complete_pending_io()) == Vcpu::Exit::kInterrupted);
    for (int i = 0; i < 5000; i++) {
      if (__atomic_load_n(&a.value<uint32_t>(0x6100), __ATOMIC_RELAXED) > 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    REQUIRE(a.run_for(20'000, 0) != Vcpu::Exit::kShutdown);
    CHECK(second.stop());
  }
  uint32_t first = 0, other = 0;
  CHECK(a.harvest(&first, 0).count(6) == 1);
  CHECK(a.harvest(&other, 1).count(6) == 1);
  CHECK(must(a.vm().reset_dirty_rings(SignalsBlocked(), first + other)) == first + other);
}

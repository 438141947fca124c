// The dirty ring, held against what a guest really wrote. The guests run in user mode, where a page
// is logged once until it is reset (kernel mode may be emulated and log every store).
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "kvm_support.h"

using namespace ft;
using namespace ft::test;

namespace {

// Writes RAX into each of the pages whose numbers are listed at RSI, RCX of them (u32), at offset
// RBX of the page; then exits by MMIO and starts over.
GUEST_CODE(guest_writer, ".code64", R"(
1:  movl (%rsi), %edx
    shlq $12, %rdx
    movq %rax, (%rdx,%rbx)
    addq $4, %rsi
    decq %rcx
    jnz 1b
    movl $0xd0000000, %edx
    movl %eax, (%rdx)
    jmp 1b
)");

constexpr uint64_t kListGpa = 0x200000;
constexpr uint64_t kFirstPage = kPagesGpa >> 12;
constexpr uint64_t kPages = (kMemoryBytes - kPagesGpa) >> 12;

class Writer : public Guest {
 public:
  explicit Writer(const GuestOptions& options = {}) : Guest(options) {
    load(kCodeGpa, guest_bytes(guest_writer, guest_writer_end));
    start_user();
    // KVM may log a page at its first read as well, when it maps it writable at once. The pages
    // that the guest only reads (its code and its list) get that behind them here.
    write({static_cast<uint32_t>(kFirstPage)}, 0);
    uint32_t entries = 0;
    harvest(&entries);
    CHECK(must(vm().reset_dirty_rings(SignalsBlocked(), entries)) == entries);
  }
  /// Makes the guest's next run write `value` to each of `pages`.
  void ask(const std::vector<uint32_t>& pages, uint64_t value) {
    load(kListGpa, {reinterpret_cast<const uint8_t*>(pages.data()), pages.size() * 4});
    kvm_regs regs{};
    regs.rip = kCodeGpa;
    regs.rflags = 2;
    regs.rsi = kListGpa;
    regs.rcx = pages.size();
    regs.rax = value;
    regs.rbx = value * 8 % 4096;
    set_regs(regs);
  }
  void finish() { REQUIRE(must(vcpu().complete_pending_io()) == Vcpu::Exit::kInterrupted); }
  void write(const std::vector<uint32_t>& pages, uint64_t value) {
    ask(pages, value);
    Vcpu::Exit exit = run();
    while (exit == Vcpu::Exit::kInterrupted) exit = run();
    REQUIRE(exit == Vcpu::Exit::kMmio);
    finish();
  }
};

std::vector<uint32_t> some_pages(std::mt19937& random, size_t count) {
  std::set<uint32_t> chosen;
  while (chosen.size() < count) {
    chosen.insert(static_cast<uint32_t>(kFirstPage + random() % kPages));
  }
  std::vector<uint32_t> pages(chosen.begin(), chosen.end());
  std::shuffle(pages.begin(), pages.end(), random);
  return pages;
}

std::set<uint64_t> as_set(const std::vector<uint32_t>& pages) {
  return {pages.begin(), pages.end()};
}

/// The smallest ring this host takes (hosts with a page-modification log need a larger one).
uint32_t smallest_ring(const Kvm& kvm) {
  uint32_t bytes = 4096;
  while (!Vm::create(kvm, bytes).ok() && bytes < kvm.caps().ring_bytes_max) bytes *= 2;
  return bytes;
}

}  // namespace

KVM_TEST_CASE("the ring holds all and only the pages written, round after round") {
  Writer guest;
  std::mt19937 random(1);
  for (uint64_t round = 1; round <= 200; round++) {
    const auto pages = some_pages(random, 1 + random() % 64);
    guest.write(pages, round);
    CHECK(guest.vcpu().ring().has_entries());
    CHECK(guest.vcpu().ring().pending(1000) == pages.size());
    CHECK(guest.vcpu().ring().pending(1) == 1);
    uint32_t entries = 0;
    REQUIRE(guest.harvest(&entries) == as_set(pages));
    CHECK(entries == pages.size());
    CHECK_FALSE(guest.vcpu().ring().has_entries());
    REQUIRE(must(guest.vm().reset_dirty_rings(SignalsBlocked(), entries)) == entries);
  }
  CHECK(guest.vm().rearms() < 5);  // a machine that stood still for long may have caused one
}

KVM_TEST_CASE("entries come in the order of the first writes") {
  Writer guest;
  std::mt19937 random(2);
  const auto pages = some_pages(random, 100);
  guest.write(pages, 1);
  guest.write(pages, 2);  // not reset: nothing new
  std::vector<uint32_t> order;
  guest.vcpu().ring().harvest(
      [&](const DirtyEntry& entry) { order.push_back(static_cast<uint32_t>(entry.offset)); });
  CHECK(order == pages);
}

KVM_TEST_CASE("a small ring wraps many times and loses nothing") {
  GuestOptions options;
  options.ring_bytes = smallest_ring(must(Kvm::open()));
  Writer guest(options);
  const uint32_t capacity = guest.vcpu().ring().capacity();
  CHECK(capacity == options.ring_bytes / 16);
  std::mt19937 random(3);
  uint32_t total = 0;
  for (uint64_t round = 1; total < capacity * 20; round++) {
    const auto pages = some_pages(random, 1 + random() % 100);
    guest.write(pages, round);
    uint32_t entries = 0;
    REQUIRE(guest.harvest(&entries) == as_set(pages));
    REQUIRE(entries == pages.size());
    REQUIRE(must(guest.vm().reset_dirty_rings(SignalsBlocked(), entries)) == entries);
    total += entries;
  }
}

KVM_TEST_CASE("a full ring stops the guest before an entry is lost") {
  GuestOptions options;
  options.ring_bytes = smallest_ring(must(Kvm::open()));
  Writer guest(options);
  std::mt19937 random(4);
  const auto pages = some_pages(random, kPages);
  REQUIRE(pages.size() >= 1024);
  guest.ask(pages, 7);
  std::set<uint64_t> seen;
  int full = 0;
  for (;;) {
    const Vcpu::Exit exit = guest.run();
    uint32_t entries = 0;
    for (uint64_t page : guest.harvest(&entries)) seen.insert(page);
    REQUIRE(entries < guest.vcpu().ring().capacity());
    REQUIRE(must(guest.vm().reset_dirty_rings(SignalsBlocked(), entries)) == entries);
    if (exit == Vcpu::Exit::kMmio) break;
    REQUIRE(exit == Vcpu::Exit::kRingFull);
    full++;
  }
  CHECK(full >= 1);
  CHECK(seen == as_set(pages));
  for (uint32_t page : pages) REQUIRE(guest.value<uint64_t>(page * 4096ull + 56) == 7);
}

KVM_TEST_CASE("a ring that is full stays so until it is reset") {
  GuestOptions options;
  options.ring_bytes = smallest_ring(must(Kvm::open()));
  Writer guest(options);
  std::mt19937 random(5);
  guest.ask(some_pages(random, kPages), 7);
  REQUIRE(guest.run() == Vcpu::Exit::kRingFull);
  CHECK(guest.run() == Vcpu::Exit::kRingFull);
  uint32_t entries = 0;
  guest.harvest(&entries);
  CHECK(guest.run() == Vcpu::Exit::kRingFull);
  REQUIRE(must(guest.vm().reset_dirty_rings(SignalsBlocked(), entries)) == entries);
  const Vcpu::Exit next = guest.run();
  CHECK((next == Vcpu::Exit::kRingFull || next == Vcpu::Exit::kMmio));
  CHECK(guest.vcpu().ring().has_entries());
}

KVM_TEST_CASE("a slot without logging leaves the ring empty, and logging can be switched") {
  GuestOptions options;
  options.log_dirty = false;
  Writer guest(options);
  std::mt19937 random(6);
  const auto pages = some_pages(random, 50);
  guest.write(pages, 1);
  CHECK_FALSE(guest.vcpu().ring().has_entries());
  must(guest.vm().set_memory(0, 0, guest.at(0), kMemoryBytes, true));
  guest.write(pages, 2);  // known to the guest's page tables as writable from before
  uint32_t entries = 0;
  CHECK(guest.harvest(&entries) == as_set(pages));
  CHECK(must(guest.vm().reset_dirty_rings(SignalsBlocked(), entries)) == entries);
  must(guest.vm().set_memory(0, 0, guest.at(0), kMemoryBytes, false));
  guest.write(pages, 3);
  CHECK_FALSE(guest.vcpu().ring().has_entries());
}

KVM_TEST_CASE("what the VMM writes is not in the ring") {
  Writer guest;
  std::memset(guest.at(kPagesGpa), 0x5a, 64 * 4096);
  guest.write({static_cast<uint32_t>(kFirstPage + 100)}, 1);
  CHECK(guest.harvest() == std::set<uint64_t>{kFirstPage + 100});
}

KVM_TEST_CASE("arming anew makes pages log again that were never reset") {
  Writer guest;
  std::mt19937 random(7);
  const auto pages = some_pages(random, 40);
  guest.write(pages, 1);
  must(guest.vm().rearm_dirty_logging());
  CHECK(guest.vcpu().ring().pending(1000) == 40);  // what was there stays
  guest.write(pages, 2);
  uint32_t entries = 0;
  CHECK(guest.harvest(&entries) == as_set(pages));
  CHECK(entries == 80);
  CHECK(must(guest.vm().reset_dirty_rings(SignalsBlocked(), entries)) == entries);
}

KVM_TEST_CASE("a reset that falls short of the harvest arms the slots anew") {
  Writer guest;
  std::mt19937 random(8);
  const auto pages = some_pages(random, 10);
  guest.write(pages, 1);
  uint32_t entries = 0;
  guest.harvest(&entries);
  CHECK(must(guest.vm().reset_dirty_rings(SignalsBlocked(), entries + 1)) == entries);
  CHECK(guest.vm().rearms() == 1);
  guest.write(pages, 2);
  CHECK(guest.harvest() == as_set(pages));
}

namespace {
void ignore(int) {}
}  // namespace

// With signals let through, Linux 6.16 and newer drop the pages of an interrupted reset: counted,
// but not write-protected, so that their next writes go unseen (vm_reset.cc).
KVM_TEST_CASE("signals in the middle of a reset cost no page") {
  struct sigaction action {};
  action.sa_handler = ignore;
  REQUIRE(sigaction(SIGRTMIN + 6, &action, nullptr) == 0);
  sigevent event{};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGRTMIN + 6;
  event._sigev_un._tid = static_cast<int>(syscall(SYS_gettid));
  timer_t timer{};
  REQUIRE(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);

  Writer guest;
  std::vector<uint32_t> pages;  // neighbours, as these are gathered into batches
  for (uint32_t i = 0; i < kPages - 1; i++) pages.push_back(static_cast<uint32_t>(kFirstPage + i));
  std::mt19937 random(9);
  for (uint64_t round = 1; round <= 300; round++) {
    guest.write(pages, round);
    uint32_t entries = 0;
    REQUIRE(guest.harvest(&entries) == as_set(pages));
    itimerspec soon{};  // arrives while the rings are being reset, or shortly before or after
    soon.it_value.tv_nsec = 500 + static_cast<long>(random() % 50'000);
    REQUIRE(timer_settime(timer, 0, &soon, nullptr) == 0);
    REQUIRE(must(guest.vm().reset_dirty_rings(SignalsBlocked(), entries)) == entries);
  }
  timer_delete(timer);
  // Without the signals blocked nearly every second round is cut short and made good at a price.
  CHECK(guest.vm().rearms() < 5);
}

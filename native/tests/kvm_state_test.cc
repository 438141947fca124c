// The captured state itself: complete, the same on every way of reading it, unchanged by a restore,
// and refused by name when it does not fit.
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <random>
#include <utility>

#include "kvm_support.h"

using namespace ft;
using namespace ft::test;

namespace {

// Sets a good deal of state that no getter shows by default, then sleeps or spins.
GUEST_CODE(guest_settings, ".code16", R"(
    movl $0x1234, %eax
    movl %eax, %dr0
    movl $0x401, %eax
    movl %eax, %dr7
    movl $0xc0000082, %ecx
    movl $0x11223344, %eax
    movl $0x7fff, %edx
    wrmsr
    movl $0xc0000102, %ecx
    wrmsr
    movl $0x174, %ecx
    movl $0x10, %eax
    xorl %edx, %edx
    wrmsr
    movl $0xfee00000, %ebx
    movl $0x1ff, %fs:0xf0(%ebx)
    movl $0x55, %fs:0x80(%ebx)
    movb $0x80, %al
    outb %al, $0x66
    hlt
)");

constexpr uint64_t kRealCode = 0x9000;

void start_with_settings(Guest& guest) {
  guest.load(kRealCode, guest_bytes(guest_settings, guest_settings_end));
  guest.start_real(kRealCode);
  REQUIRE(guest.run() == Vcpu::Exit::kIo);
  REQUIRE(must(guest.vcpu().complete_pending_io()) == Vcpu::Exit::kInterrupted);
}

GUEST_CODE(guest_spin, ".code64", R"(
1:  incq %rax
    jmp 1b
)");

void start_spinning(Guest& guest) {
  guest.load(kCodeGpa, guest_bytes(guest_spin, guest_spin_end));
  guest.start_user();
  REQUIRE(guest.run_for(2000) == Vcpu::Exit::kInterrupted);
}

using Blob = std::vector<uint8_t>;
using Bytes = std::vector<uint8_t>;

Bytes entry(const Blob& blob, StateKind kind, uint16_t index = 0) {
  const auto reader = must(StateReader::open(blob));
  const auto bytes = reader.find(kind, index);
  return {bytes.begin(), bytes.end()};
}

constexpr StateKind kAll[] = {StateKind::kRegs,    StateKind::kSregs,   StateKind::kXsave,
                              StateKind::kXcrs,    StateKind::kEvents,  StateKind::kDebugRegs,
                              StateKind::kMpState, StateKind::kLapic,   StateKind::kMsrs,
                              StateKind::kTscKhz,  StateKind::kIrqchip, StateKind::kPit2,
                              StateKind::kClock};

/// What may differ between two captures of a vCPU that stood still: the clock, the TSC, and the
/// current count of a running APIC timer.
Bytes steady(StateKind kind, Bytes bytes) {
  if (kind == StateKind::kClock || bytes.empty()) return {};
  if (kind == StateKind::kLapic) std::memset(&bytes[0x390], 0, 4);
  if (kind == StateKind::kMsrs) {
    for (size_t at = 0; at + 16 <= bytes.size(); at += 16) {
      uint32_t index;
      std::memcpy(&index, &bytes[at], 4);
      if (index == 0x10) std::memset(&bytes[at + 8], 0, 8);
    }
  }
  return bytes;
}

void check_same(const Blob& a, const Blob& b) {
  CHECK(a.size() == b.size());
  for (StateKind kind : kAll) {
    CAPTURE(state_kind_name(kind));
    for (uint16_t index = 0; index < 3; index++) {
      const Bytes left = steady(kind, entry(a, kind, index));
      const Bytes right = steady(kind, entry(b, kind, index));
      CHECK(left == right);
    }
  }
}

/// The blob with one entry replaced.
Blob with_entry(const Blob& blob, StateKind kind, uint16_t index, const Bytes* replacement) {
  const auto reader = must(StateReader::open(blob));
  StateWriter writer;
  writer.begin();
  for (uint32_t k = 0; k < 64; k++) {
    for (uint16_t i = 0; i < 3; i++) {
      const auto each = static_cast<StateKind>(k);
      auto bytes = reader.find(each, i);
      if (bytes.empty()) continue;
      if (each == kind && i == index) {
        if (replacement == nullptr) continue;
        bytes = *replacement;
      }
      uint8_t* out = writer.add(each, i, static_cast<uint32_t>(bytes.size()));
      if (!bytes.empty()) std::memcpy(out, bytes.data(), bytes.size());
    }
  }
  const auto out = writer.finish();
  return {out.begin(), out.end()};
}

uint64_t msr_of(const Blob& blob, uint32_t index) {
  const Bytes bytes = entry(blob, StateKind::kMsrs);
  for (size_t at = 0; at + 16 <= bytes.size(); at += 16) {
    kvm_msr_entry msr;
    std::memcpy(&msr, &bytes[at], sizeof(msr));
    if (msr.index == index) return msr.data;
  }
  FAIL("no such MSR in the capture");
  return 0;
}

}  // namespace

KVM_TEST_CASE("every entry is there, and what the guest set is in it") {
  Guest guest;
  start_with_settings(guest);
  const Blob blob = guest.capture();
  for (StateKind kind : kAll) {
    CAPTURE(state_kind_name(kind));
    CHECK_FALSE(entry(blob, kind).empty());
  }
  CHECK(msr_of(blob, 0xc0000082) == 0x7fff11223344);
  CHECK(msr_of(blob, 0xc0000102) == 0x7fff11223344);
  CHECK(msr_of(blob, 0x174) == 0x10);
  kvm_debugregs debug{};
  must(read_state_struct(must(StateReader::open(blob)), StateKind::kDebugRegs, 0, &debug));
  CHECK(debug.db[0] == 0x1234);
  CHECK((debug.dr7 & 1) == 1);
  CHECK(entry(blob, StateKind::kLapic)[0x80] == 0x55);
  const auto msrs = guest.access().msrs();
  CHECK(std::find(msrs.begin(), msrs.end(), 0x10u) != msrs.end());
  CHECK(msrs.back() == 0x6e0);
}

KVM_TEST_CASE("a capture after a restore equals the capture") {
  Guest a, b, c;
  start_with_settings(a);
  const Blob first = a.capture();
  b.copy_memory_from(a);
  must(b.restore(first));
  const Blob second = b.capture();
  check_same(first, second);
  CHECK(msr_of(second, 0xc0000082) == 0x7fff11223344);
  c.copy_memory_from(a);
  must(c.restore(second));
  check_same(first, c.capture());
}

KVM_TEST_CASE("a capture of a user-mode guest after a restore equals the capture") {
  Guest a, b;
  start_spinning(a);
  const Blob first = a.capture();
  b.copy_memory_from(a);
  must(b.restore(first));
  check_same(first, b.capture());
}

KVM_TEST_CASE("two captures of a vCPU that stands still are alike, and in the same place") {
  Guest guest;
  start_spinning(guest);
  const Blob first = guest.capture();
  for (int i = 0; i < 20; i++) {
    const Blob next = guest.capture();
    check_same(first, next);
    size_t differing = 0;
    for (size_t at = 0; at < first.size(); at += 8) {
      differing += std::memcmp(&first[at], &next[at], 8) != 0;
    }
    CHECK(differing <= 4);  // the clock, the TSC: what a delta has to carry
  }
}

KVM_TEST_CASE("synced registers and the ways around them give the same capture") {
  const KvmCaps all = must(Kvm::open()).caps();
  GuestOptions options;
  for (uint32_t sync = 0; sync < 8; sync++) {
    CAPTURE(sync);
    KvmCaps caps = all;
    caps.sync_regs &= sync;
    if (sync == 0) caps.sregs2 = caps.xsave2 = false;
    options.caps = caps;
    Guest real(options), user(options);
    start_with_settings(real);
    start_spinning(user);
    for (Guest* guest : {&real, &user}) {
      const Blob blob = guest->capture();
      kvm_regs regs{};
      kvm_sregs2 sregs{};
      kvm_vcpu_events events{};
      const auto reader = must(StateReader::open(blob));
      must(read_state_struct(reader, StateKind::kRegs, 0, &regs));
      must(read_state_struct(reader, StateKind::kSregs, 0, &sregs));
      must(read_state_struct(reader, StateKind::kEvents, 0, &events));
      const int fd = guest->vcpu().fd();
      const kvm_regs own = guest->regs();
      kvm_sregs2 own_sregs{};
      kvm_vcpu_events own_events{};
      REQUIRE(ioctl(fd, KVM_GET_SREGS2, &own_sregs) == 0);
      REQUIRE(ioctl(fd, KVM_GET_VCPU_EVENTS, &own_events) == 0);
      CHECK(std::memcmp(&regs, &own, sizeof(regs)) == 0);
      CHECK(std::memcmp(&sregs, &own_sregs, sizeof(sregs)) == 0);
      CHECK(std::memcmp(&events, &own_events, sizeof(events)) == 0);
      kvm_mp_state mp_state{};
      REQUIRE(ioctl(fd, KVM_GET_MP_STATE, &mp_state) == 0);
      CHECK(entry(blob, StateKind::kMpState) ==
            Bytes({static_cast<uint8_t>(mp_state.mp_state), 0, 0, 0}));
      Guest other(options);
      other.copy_memory_from(*guest);
      must(other.restore(blob));
      check_same(blob, other.capture());
    }
  }
}

KVM_TEST_CASE("a restore sets what the synced registers say") {
  Guest a, b;
  start_spinning(a);
  must(b.restore(a.capture()));
  CHECK(b.vcpu().run_page()->s.regs.regs.rip == a.regs().rip);
  CHECK(b.vcpu().run_page()->s.regs.sregs.cr3 == a.vcpu().run_page()->s.regs.sregs.cr3);
}

KVM_TEST_CASE("an entry that is missing or has another length is refused by name") {
  Guest a, b;
  start_spinning(a);
  const Blob good = a.capture();
  const Blob before = b.capture();
  for (StateKind kind : kAll) {
    CAPTURE(state_kind_name(kind));
    Bytes shorter = entry(good, kind);
    // An XSAVE area of another host may end earlier, but not within its header.
    shorter.resize(kind == StateKind::kXsave ? 575 : shorter.size() - 4);
    Bytes longer = entry(good, kind);
    longer.resize(longer.size() + 4);
    // It may also go on further, but only with zeros.
    if (kind == StateKind::kXsave) longer.back() = 1;
    for (const Bytes* bytes :
         {static_cast<const Bytes*>(nullptr), &std::as_const(shorter), &std::as_const(longer)}) {
      const Status status = b.restore(with_entry(good, kind, 0, bytes));
      REQUIRE_FALSE(status.ok());
      CHECK(std::string(status.error().code) == "FT_ERR_STATE_FORMAT");
      CHECK(status.error().message.find(state_kind_name(kind)) != std::string::npos);
    }
  }
  // The vCPU's own registers were never touched.
  CHECK(entry(before, StateKind::kRegs) == entry(b.capture(), StateKind::kRegs));
  CHECK(entry(before, StateKind::kSregs) == entry(b.capture(), StateKind::kSregs));
}

KVM_TEST_CASE("an XSAVE area of another length holds the same components") {
  Guest a;
  start_spinning(a);
  const Blob good = a.capture();
  for (const bool further : {false, true}) {
    Bytes area = entry(good, StateKind::kXsave);
    const size_t own = area.size();
    while (!further && area.size() > 576 && area.back() == 0) area.pop_back();
    if (further) area.resize(own + 8192);
    Guest b;
    must(b.restore(with_entry(good, StateKind::kXsave, 0, &area)));
    CHECK(entry(b.capture(), StateKind::kXsave) == entry(good, StateKind::kXsave));
  }
}

KVM_TEST_CASE("values that KVM refuses are named") {
  Guest a;
  start_spinning(a);
  const Blob good = a.capture();
  auto restored = [&](StateKind kind, size_t at, uint8_t value) {
    Bytes bytes = entry(good, kind);
    bytes[at] = value;
    Guest b;
    const Status status = b.restore(with_entry(good, kind, 0, &bytes));
    return status.ok() ? std::string() : status.error().code + (": " + status.error().message);
  };
  auto refused = [&](StateKind kind, size_t at, uint8_t value) {
    const std::string message = restored(kind, at, value);
    CAPTURE(message);
    return message.find("FT_ERR_STATE_RESTORE") == 0 &&
           message.find(state_kind_name(kind)) != std::string::npos;
  };
  CHECK(refused(StateKind::kSregs, offsetof(kvm_sregs2, flags) + 1, 1));
  CHECK(refused(StateKind::kXcrs, 0, 200));
  CHECK(refused(StateKind::kXsave, 512 + 7, 0x80));  // a component nobody has
  CHECK(refused(StateKind::kDebugRegs, offsetof(kvm_debugregs, flags), 1));
  CHECK(refused(StateKind::kMpState, 0, 99));
  CHECK(refused(StateKind::kEvents, offsetof(kvm_vcpu_events, flags) + 3, 0x80));
  const std::string chip = restored(StateKind::kIrqchip, 0, 7);
  CHECK(chip.find("FT_ERR_STATE_FORMAT") == 0);
  CHECK(chip.find("chip 7") != std::string::npos);

  Bytes msrs = entry(good, StateKind::kMsrs);
  const uint32_t nobody = 0x12345;
  std::memcpy(&msrs[16 * 3], &nobody, 4);
  Guest b;
  const Status status = b.restore(with_entry(good, StateKind::kMsrs, 0, &msrs));
  REQUIRE_FALSE(status.ok());
  CHECK(std::string(status.error().code) == "FT_ERR_STATE_FORMAT");
  CHECK(status.error().message.find("MSR 0x12345") != std::string::npos);
  msrs = entry(good, StateKind::kMsrs);
  for (size_t at = 0; at < msrs.size(); at += 16) {
    uint32_t index;
    std::memcpy(&index, &msrs[at], 4);
    if (index == 0xc0000082) std::memset(&msrs[at + 8], 0x80, 8);  // no canonical address
  }
  const Status lstar = b.restore(with_entry(good, StateKind::kMsrs, 0, &msrs));
  REQUIRE_FALSE(lstar.ok());
  CHECK(std::string(lstar.error().code) == "FT_ERR_STATE_RESTORE");
  CHECK(lstar.error().message.find("MSR 0xc0000082") != std::string::npos);
}

KVM_TEST_CASE("no flipped bit in a state brings the process down") {
  Guest a;
  start_with_settings(a);
  const Blob good = a.capture();
  std::mt19937 random(11);
  Guest b;
  int refused = 0;
  for (int i = 0; i < 400; i++) {
    Blob bad = good;
    for (int flips = 1 + static_cast<int>(random() % 4); flips > 0; flips--) {
      const size_t bit = random() % (bad.size() * 8);
      bad[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    }
    refused += !b.restore(bad).ok();
  }
  CHECK(refused > 10);
  must(b.restore(good));
  check_same(good, b.capture());
}

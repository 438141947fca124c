// State that only kernel mode changes: what is kept from an earlier capture is what a fresh reading
// gives, and every way of changing it is noticed.
#include <sys/ioctl.h>

#include <algorithm>

#include "kvm/vcpu_counters.h"
#include "kvm/vcpu_state.h"
#include "kvm_support.h"

using namespace ft;
using namespace ft::test;

namespace {

constexpr uint64_t kKernelCode = kCodeGpa + 0x1000;

// One round: the value of ESI in DR0 and in two MSRs.
GUEST_CODE(guest_privileged, ".code64", R"(
    movq %rsi, %dr0
    movl $0xc0000102, %ecx
    movl %esi, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x174, %ecx
    wrmsr
    outb %al, $0x66
)");

GUEST_CODE(guest_counts, ".code64", R"(
1:  incq %rax
    movq %rax, %xmm3
    movq %rax, 0x400000
    jmp 1b
)");

std::vector<uint8_t> capture(Guest& guest, VcpuStateAccess& access) {
  StateWriter writer;
  writer.begin();
  must(access.capture(guest.vcpu(), writer));
  const auto span = writer.finish();
  return {span.begin(), span.end()};
}

struct Privileged {
  kvm_xcrs xcrs;
  kvm_debugregs debugregs;
  std::vector<kvm_msr_entry> msrs;
  uint64_t tsc = 0;
};

Privileged read(const std::vector<uint8_t>& blob) {
  const StateReader reader = must(StateReader::open(blob));
  Privileged out;
  must(read_state_struct(reader, StateKind::kXcrs, 0, &out.xcrs));
  must(read_state_struct(reader, StateKind::kDebugRegs, 0, &out.debugregs));
  const auto bytes = reader.find(StateKind::kMsrs, 0);
  out.msrs.resize(bytes.size() / sizeof(kvm_msr_entry));
  std::memcpy(out.msrs.data(), bytes.data(), bytes.size());
  for (kvm_msr_entry& msr : out.msrs) {
    if (msr.index != kMsrTsc) continue;
    out.tsc = msr.data;
    msr.data = 0;
  }
  return out;
}

/// `kept` says what a reading of everything says, and its clock stands within `tsc_max` of it.
void check_equal(const Privileged& kept, const Privileged& fresh, uint64_t tsc_max) {
  CHECK(std::memcmp(&kept.xcrs, &fresh.xcrs, sizeof(kept.xcrs)) == 0);
  CHECK(std::memcmp(&kept.debugregs, &fresh.debugregs, sizeof(kept.debugregs)) == 0);
  REQUIRE(kept.msrs.size() == fresh.msrs.size());
  for (size_t i = 0; i < kept.msrs.size(); i++) {
    CAPTURE(kept.msrs[i].index);
    CHECK(kept.msrs[i].data == fresh.msrs[i].data);
  }
  CHECK(fresh.tsc - kept.tsc + tsc_max < 2 * tsc_max);
}

void run_user(Guest& guest) {
  guest.load(kCodeGpa, guest_bytes(guest_counts, guest_counts_end));
  guest.start_user();
  REQUIRE(guest.run_for(1000) == Vcpu::Exit::kInterrupted);
}

/// Enters kernel mode and runs up to its OUT; DR0 and the MSRs then hold `round`.
void run_kernel(Guest& guest, uint32_t round) {
  guest.load(kKernelCode, guest_bytes(guest_privileged, guest_privileged_end));
  guest.start_user();
  kvm_sregs sregs{};
  REQUIRE(ioctl(guest.vcpu().fd(), KVM_GET_SREGS, &sregs) == 0);
  for (kvm_segment* segment : {&sregs.cs, &sregs.ds, &sregs.es, &sregs.ss}) {
    segment->dpl = 0;
    segment->selector &= 0xfffc;
  }
  REQUIRE(ioctl(guest.vcpu().fd(), KVM_SET_SREGS, &sregs) == 0);
  kvm_regs regs{};
  regs.rip = kKernelCode;
  regs.rflags = 2;
  regs.rsi = round;
  guest.set_regs(regs);
  REQUIRE(guest.run() == Vcpu::Exit::kIo);
  must(guest.vcpu().complete_pending_io());
}

}  // namespace

KVM_TEST_CASE("privileged: what is kept equals what is read") {
  Guest guest;
  run_kernel(guest, 77);
  run_user(guest);
  VcpuStateAccess reads_all = must(VcpuStateAccess::probe(guest.kvm(), guest.vcpu()));
  (void)capture(guest, guest.access());
  for (int i = 0; i < 50; i++) {
    REQUIRE(guest.run_for(300) == Vcpu::Exit::kInterrupted);
    const Privileged kept = read(capture(guest, guest.access()));
    reads_all.probe_again(guest.vcpu());  // forgets, so that the next capture reads everything
    const Privileged fresh = read(capture(guest, reads_all));
    check_equal(kept, fresh, 50'000'000);
    CHECK(kept.debugregs.db[0] == 77);
  }
  CHECK(reads_all.privileged_kept() == 0);
  // Where kernel mode is not counted, nothing may be kept; where it is, all but a few are: those
  // in which the host did something that is not told apart from a change.
  if (kernel_mode_is_counted(guest.kvm())) {
    CHECK(guest.access().privileged_kept() > 25);
  } else {
    CHECK(guest.access().privileged_kept() == 0);
  }
}

KVM_TEST_CASE("privileged: a change in kernel mode is in the next capture") {
  Guest guest;
  for (uint32_t round = 1; round <= 20; round++) {
    CAPTURE(round);
    run_user(guest);
    (void)capture(guest, guest.access());
    (void)capture(guest, guest.access());
    run_kernel(guest, round);
    run_user(guest);
    const Privileged seen = read(capture(guest, guest.access()));
    CHECK(seen.debugregs.db[0] == round);
    for (const kvm_msr_entry& msr : seen.msrs) {
      if (msr.index == 0xc0000102 || msr.index == 0x174) CHECK(msr.data == round);
    }
  }
}

KVM_TEST_CASE("privileged: nothing is kept across a restore, or beside another vCPU") {
  Guest guest;
  run_user(guest);
  const auto blob = capture(guest, guest.access());
  (void)capture(guest, guest.access());
  const uint64_t before = guest.access().privileged_kept();
  must(guest.access().restore(guest.vcpu(), must(StateReader::open(blob))));
  (void)capture(guest, guest.access());
  CHECK(guest.access().privileged_kept() == before);

  Guest two({.vcpus = 2});
  run_user(two);
  for (int i = 0; i < 5; i++) (void)capture(two, two.access());
  CHECK(two.access().privileged_kept() == 0);
}

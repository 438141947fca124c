// Several vCPUs on their threads under cuts: the barrier, what a cut holds of each vCPU, and the
// ways in which threads can be wanted elsewhere while it is under way.
//
// The guest: vCPU 0 starts the others (INIT, start-up), then goes round and round: an interrupt to
// all others, each counts it and interrupts vCPU 0 back; both sides halt in between, and all of
// them write to a port, so that a cut finds vCPUs halted, interrupts on their way and accesses half
// done. An interrupt that is lost anywhere stops the rounds for good.
#include <sys/ioctl.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

#include "kvm/cpuid_topology.h"
#include "kvm_support.h"
#include "machine/cut.h"
#include "machine/epoch_codec.h"
#include "machine/vcpu_threads.h"

using namespace ft;
using namespace ft::test;

namespace {

constexpr uint64_t kFirst = 0x9000, kOthers = 0xb000, kCount = 0xc000, kBack = 0xd000;
constexpr uint64_t kOtherCount = 0x7004, kRounds = 0x7010;
constexpr uint64_t kBytes = 4 << 20;

GUEST_CODE(smp_first, ".code16", R"(
    movl $0x1b, %ecx
    rdmsr
    orl $0xc00, %eax
    wrmsr
    xorl %edx, %edx
    movl $0x80f, %ecx
    movl $0x1ff, %eax
    wrmsr
    movl $0x830, %ecx
    movl $0xc4500, %eax
    wrmsr
    movl $0xc460b, %eax
    wrmsr
1:  movl 0x7000, %eax
    cmpl 0x7004, %eax
    jne 1b
2:  movl 0x7004, %eax
    addl %eax, 0x7008
    movl $0x830, %ecx
    movl $0xc4040, %eax
    xorl %edx, %edx
    wrmsr
3:  cli
    movl 0x700c, %eax
    cmpl 0x7008, %eax
    je 4f
    sti
    hlt
    jmp 3b
4:  sti
    incl 0x7010
    movl 0x7010, %eax
    movl %eax, 0x1000
    outb %al, $0x66
    jmp 2b
)");
GUEST_CODE(smp_others, ".code16", R"(
    xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %ss
    movl $0x100, %eax
    lock xaddl %eax, 0x7014
    movl $0x6000, %esp
    subl %eax, %esp
    movl $0x1b, %ecx
    rdmsr
    orl $0xc00, %eax
    wrmsr
    xorl %edx, %edx
    movl $0x80f, %ecx
    movl $0x1ff, %eax
    wrmsr
    lock incl 0x7000
1:  sti
    hlt
    outb %al, $0x67
    lock incl 0x2000
    jmp 1b
)");
GUEST_CODE(smp_count, ".code16", R"(
    pushl %eax
    pushl %ecx
    pushl %edx
    lock incl 0x700c
    xorl %eax, %eax
    xorl %edx, %edx
    movl $0x80b, %ecx
    wrmsr
    movl $0x830, %ecx
    movl $0x4041, %eax
    wrmsr
    popl %edx
    popl %ecx
    popl %eax
    iretw
)");
GUEST_CODE(smp_back, ".code16", R"(
    pushl %eax
    pushl %ecx
    pushl %edx
    xorl %eax, %eax
    xorl %edx, %edx
    movl $0x80b, %ecx
    wrmsr
    popl %edx
    popl %ecx
    popl %eax
    iretw
)");

// Calls come with the machine lock held; the test reads the count at any time.
struct Sink : Device {
  void write(uint64_t offset, std::span<const uint8_t>) override {
    writes++;
    if (offset == 1 && armed.exchange(false)) on_other();
  }
  void read(uint64_t, std::span<uint8_t> out) override {
    std::fill(out.begin(), out.end(), uint8_t{0});
  }
  std::atomic<uint64_t> writes{0};
  std::atomic<bool> armed{false};
  std::function<void()> on_other;  // a vCPU but the first writes, and we are armed: once
};

/// A machine without devices but a port that counts, and a standby's image of it.
struct Rig {
  explicit Rig(uint32_t count)
      : kvm(must(Kvm::open())),
        memory(must(GuestMemory::create(kBytes))),
        vm(must(Vm::create(kvm, kvm.caps().ring_bytes_max))),
        slots(must(SlotPool::create(4, memory.page_count()))),
        encoder(must(EpochEncoder::create(memory))),
        image(must(GuestMemory::create(kBytes))),
        applier(image),
        body(8 << 20) {
    must(vm.set_memory(0, 0, memory.host_base(), memory.size(), false));
    const auto leaves = with_topology(must(kvm.supported_cpuid()), count);
    for (uint32_t id = 0; id < count; id++) {
      vcpus.push_back(must(Vcpu::create(kvm, vm, id, leaves)));
      states.push_back(must(VcpuStateAccess::probe(kvm, vcpus.back())));
    }
    bus.add_port(0x66, 2, sink);
    cutter = std::make_unique<Cutter>(Cutter::Parts{.vm = vm,
                                                    .vcpus = vcpus,
                                                    .vcpu_states = states,
                                                    .memory = memory,
                                                    .outbox = outbox,
                                                    .slots = *slots,
                                                    .machine_lock = lock,
                                                    .capture_devices = [](StateWriter&) {},
                                                    .take_disk_logs = {},
                                                    .on_cut = [this] { made++; },
                                                    .faults = {}});
    threads = std::make_unique<VcpuThreads>(
        VcpuThreads::Parts{.vcpus = vcpus,
                           .bus = bus,
                           .machine_lock = lock,
                           .cutter = *cutter,
                           .outbox = outbox,
                           .on_stopped = [this](std::string) { broken = true; },
                           .on_guest_end = [this](GuestEnd) { ended = true; },
                           .flush_output = [] {},
                           .cpus = std::vector<int>(count, -1)});
  }

  void put(uint64_t gpa, const uint8_t* begin, const uint8_t* end) {
    REQUIRE(memory.write(gpa, guest_bytes(begin, end)));
  }

  void boot() {
    put(kFirst, smp_first, smp_first_end);
    put(kOthers, smp_others, smp_others_end);
    put(kCount, smp_count, smp_count_end);
    put(kBack, smp_back, smp_back_end);
    REQUIRE(memory.write_value<uint32_t>(0x40 * 4, kCount));
    REQUIRE(memory.write_value<uint32_t>(0x41 * 4, kBack));
    REQUIRE(memory.write_value<uint32_t>(kOtherCount, static_cast<uint32_t>(vcpus.size() - 1)));
    kvm_sregs sregs{};
    REQUIRE(ioctl(vcpus[0].fd(), KVM_GET_SREGS, &sregs) == 0);
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    REQUIRE(ioctl(vcpus[0].fd(), KVM_SET_SREGS, &sregs) == 0);
    kvm_regs regs{};
    regs.rip = kFirst;
    regs.rsp = 0x8000;
    regs.rflags = 2;
    REQUIRE(ioctl(vcpus[0].fd(), KVM_SET_REGS, &regs) == 0);
    must(vcpus[0].refresh_synced_regs());
    threads->start();
  }

  void begin() {
    {
      const VcpuThreads::Parked parked(*threads);
      must(vm.set_memory(0, 0, memory.host_base(), memory.size(), true));
      memory.set_tracking(true);
      encoder->begin();
      must(applier.begin());
      CutPolicy policy;
      policy.audit_pages = 0;
      cutter->begin(policy, 1);
      threads->set_interval(1000, false);
    }
    bool last = false;
    while (!last) {
      const EncodedBody piece = encoder->scan(body);
      take(piece);
      last = piece.last;
    }
  }

  void take(const EncodedBody& piece) {
    std::vector<uint32_t> mismatches;
    const std::span<const uint8_t> bytes{body.data(), piece.bytes};
    must(applier.verify(bytes));
    must(applier.apply(bytes, &mismatches));
  }

  /// Encodes, applies and acknowledges every cut that waits.
  void drain() {
    while (const EpochSlot* slot = slots->front()) {
      const uint64_t epoch = slot->facts.epoch;
      const GuestEnd end = slot->facts.guest_end;
      const EncodedBody piece = encoder->encode_slot(*slot, body);
      take(piece);
      if (!piece.last) continue;
      ends.push_back(end);
      slots->retire();
      REQUIRE(outbox.release(epoch));
      cutter->commit(epoch);
      cuts++;
      threads->credit_changed();
    }
  }

  uint32_t rounds() const {
    return __atomic_load_n(reinterpret_cast<uint32_t*>(memory.host_base() + kRounds),
                           __ATOMIC_RELAXED);
  }

  /// True when the rounds go on within ten seconds.
  bool goes_on(uint32_t by = 3) {
    const uint32_t before = rounds();
    for (int i = 0; i < 10'000 && rounds() - before < by; i++) {
      drain();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return rounds() - before >= by;
  }

  bool image_is_equal() const {
    return std::memcmp(memory.host_base(), image.host_base(), kBytes) == 0;
  }

  Kvm kvm;
  GuestMemory memory;
  Vm vm;
  std::vector<Vcpu> vcpus;
  std::vector<VcpuStateAccess> states;
  Outbox outbox;
  std::mutex lock;
  std::unique_ptr<SlotPool> slots;
  std::unique_ptr<EpochEncoder> encoder;
  GuestMemory image;
  ImageApplier applier;
  std::vector<uint8_t> body;
  Sink sink;
  DeviceBus bus;
  std::atomic<bool> broken{false}, ended{false};
  std::unique_ptr<Cutter> cutter;
  std::unique_ptr<VcpuThreads> threads;
  uint64_t cuts = 0;
  std::atomic<uint64_t> made{0};  // known before any vCPU goes on
  std::vector<GuestEnd> ends;     // what each drained cut says of the guest's end
};

/// The last applied epoch of `from`, resumed on another machine.
bool resumes(Rig& from) {
  Rig other(static_cast<uint32_t>(from.vcpus.size()));
  std::memcpy(other.memory.host_base(), from.image.host_base(), kBytes);
  const StateReader reader = must(StateReader::open(from.applier.state()));
  must(restore_vm_state(other.vm, reader));
  for (size_t i = 0; i < other.vcpus.size(); i++) {
    must(other.states[i].restore(other.vcpus[i], reader));
  }
  other.threads->start();
  const bool goes_on = other.goes_on();
  other.threads->stop();
  return goes_on && !other.broken;
}

/// Stops every vCPU, makes one more cut, and holds the image against all of memory.
void check_image(Rig& rig) {
  const VcpuThreads::Parked parked(*rig.threads);
  rig.drain();
  REQUIRE(rig.cutter->can_cut());
  rig.cutter->cut(SignalsBlocked());
  rig.drain();
  CHECK(rig.image_is_equal());
}

}  // namespace

TEST_SUITE("threads") {
  KVM_TEST_CASE("smp: every image is all of memory, and no interrupt is lost in a cut") {
    for (const uint32_t count : {1u, 2u, 4u}) {
      CAPTURE(count);
      Rig rig(count);
      rig.boot();
      REQUIRE(rig.goes_on());
      rig.begin();
      for (int i = 0; i < 12; i++) {
        REQUIRE(rig.goes_on(1 + i % 3));
        check_image(rig);
        if (i % 3 == 0) CHECK(resumes(rig));
      }
      CHECK(rig.cuts > 12);
      CHECK(rig.sink.writes > 0);
      CHECK_FALSE(rig.broken);
      rig.threads->stop();
    }
  }

  KVM_TEST_CASE("smp: threads are parked, asked for cuts and stopped at any moment") {
    for (int run = 0; run < 6; run++) {
      Rig rig(3);
      rig.boot();
      REQUIRE(rig.goes_on());
      rig.begin();
      for (int i = 0; i < 60; i++) {
        if (i % 3 != 0) rig.threads->request_cut();
        if (i % 4 == 0) rig.threads->recheck_limits();
        if (i % 2 == 0) {
          const VcpuThreads::Parked parked(*rig.threads);
          const uint32_t before = rig.rounds();
          std::this_thread::sleep_for(std::chrono::microseconds(200));
          CHECK(rig.rounds() == before);
        }
        rig.drain();
      }
      CHECK(rig.goes_on());
      if (run % 2 == 0) {
        const VcpuThreads::Parked parked(*rig.threads);
        rig.threads->stop();  // while everybody is parked
      } else {
        rig.threads->stop();
      }
      CHECK_FALSE(rig.broken);
    }
  }

  KVM_TEST_CASE("smp: vCPUs that wait for output room are cut, parked and let go") {
    Rig rig(3);
    rig.boot();
    REQUIRE(rig.goes_on());
    rig.begin();
    rig.cutter->hold_output_at_next_cut();
    REQUIRE(rig.goes_on());
    rig.outbox.set_bytes_max(1);
    const uint8_t frame[64] = {};
    {
      const std::lock_guard lock(rig.lock);
      rig.outbox.append(OutputPort::kNet, frame);
    }
    REQUIRE(rig.outbox.over_limit());
    rig.threads->recheck_limits();
    {
      const VcpuThreads::Parked parked(*rig.threads);  // a thread that waits for room parks, too
    }
    CHECK(rig.goes_on());  // the cut that seals the frame is still made; its release makes room
    CHECK_FALSE(rig.outbox.over_limit());
    rig.threads->stop();
  }

  KVM_TEST_CASE("smp: an end that is said while another vCPU runs stops all of them, once") {
    Rig rig(4);
    rig.boot();
    REQUIRE(rig.goes_on());
    rig.begin();
    REQUIRE(rig.goes_on());
    rig.threads->guest_ended(GuestEnd::kTripleFault);
    for (int i = 0; i < 5000 && !rig.cutter->final_cut_made(); i++) {
      rig.drain();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    REQUIRE(rig.cutter->final_cut_made());
    CHECK(rig.ended);
    rig.drain();
    const VcpuThreads::Parked parked(*rig.threads);
    CHECK(rig.image_is_equal());
    CHECK_FALSE(rig.broken);
  }

  KVM_TEST_CASE("smp: no ordinary cut follows an end that another vCPU says") {
    for (int run = 0; run < 20; run++) {
      Rig rig(3);
      rig.boot();
      REQUIRE(rig.goes_on());
      rig.begin();
      uint64_t made_before = 0;
      rig.sink.on_other = [&] {
        made_before = rig.made;
        rig.threads->guest_ended(GuestEnd::kResetPort);
      };
      REQUIRE(rig.goes_on(1 + static_cast<uint32_t>(run % 4)));
      rig.sink.armed = true;
      const auto is_over = [&] { return !rig.ends.empty() && rig.ends.back() != GuestEnd::kNone; };
      // Cuts come at once first, then ever more rarely: on a slow machine a guest that is cut
      // every 20 us never comes as far as the instruction at which this test ends it.
      for (int i = 0; i < 3000 && !is_over(); i++) {
        rig.threads->request_cut();
        rig.drain();
        std::this_thread::sleep_for(std::chrono::microseconds(20 + 2 * i));
      }
      REQUIRE(is_over());
      REQUIRE(rig.ends.size() == made_before + 1);
      CHECK(rig.ends.back() == GuestEnd::kResetPort);
    }
  }
}

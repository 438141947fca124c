// A machine without devices whose vCPUs run on their threads under cuts, and a standby's image of
// it.
//
// The guest: vCPU 0 starts the others (INIT, start-up), then goes round and round: an interrupt to
// all others, each counts it and interrupts vCPU 0 back; both sides halt in between, and all of
// them write to a port, so that a cut finds vCPUs halted, interrupts on their way and accesses half
// done. An interrupt that is lost anywhere stops the rounds for good.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

#include "kvm/cpuid_topology.h"
#include "kvm_support.h"
#include "machine/change_log.h"
#include "machine/cut.h"
#include "machine/epoch_codec.h"
#include "machine/vcpu_threads.h"

namespace ft::test {

inline constexpr uint64_t kRounds = 0x7010;
inline constexpr uint64_t kRigBytes = 4 << 20;

// Calls come with the machine lock held; the test reads the count at any time.
struct PortSink : Device {
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
struct VcpuRig {
  explicit VcpuRig(uint32_t count, uint32_t ring_bytes = 0)
      : kvm(must(Kvm::open())),
        memory(must(GuestMemory::create(kRigBytes))),
        vm(must(Vm::create(kvm, ring_bytes != 0 ? ring_bytes : kvm.caps().ring_bytes_max))),
        slots(must(SlotPool::create(4, memory.page_count()))),
        encoder(must(EpochEncoder::create(memory))),
        image(must(GuestMemory::create(kRigBytes))),
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
    changes = std::make_unique<ChangeLog>(ChangeLog::Parts{
        .vm = vm, .vcpus = vcpus, .memory = memory, .machine_lock = lock, .stop_logging = [this] {
          must(vm.set_memory(0, 0, memory.host_base(), memory.size(), false));
          logging_ended = true;
        }});
    threads = std::make_unique<VcpuThreads>(
        VcpuThreads::Parts{.vcpus = vcpus,
                           .bus = bus,
                           .machine_lock = lock,
                           .cutter = *cutter,
                           .outbox = outbox,
                           .changes = changes.get(),
                           .on_stopped = [this](std::string) { broken = true; },
                           .on_guest_end = [this](GuestEnd) { ended = true; },
                           .flush_output = [] {},
                           .cpus = std::vector<int>(count, -1)});
  }

  /// Puts the guest into memory and starts the threads.
  void boot();

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
      const uint64_t halt = slot->facts.halt;
      const EncodedBody piece = encoder->encode_slot(*slot, body);
      take(piece);
      if (!piece.last) continue;
      ends.push_back(end);
      newest_halt = halt;
      slots->retire();
      REQUIRE(outbox.release(epoch));
      cutter->commit(epoch);
      cuts++;
      threads->credit_changed();
    }
  }

  /// True when a cut made in this halt was drained within five seconds.
  bool cut_in(uint64_t halt) {
    for (int i = 0; i < 5000 && newest_halt != halt; i++) {
      drain();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return newest_halt == halt;
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
    return std::memcmp(memory.host_base(), image.host_base(), kRigBytes) == 0;
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
  PortSink sink;
  DeviceBus bus;
  std::atomic<bool> broken{false}, ended{false}, logging_ended{false};
  std::unique_ptr<Cutter> cutter;
  std::unique_ptr<ChangeLog> changes;
  std::unique_ptr<VcpuThreads> threads;
  uint64_t cuts = 0;
  std::atomic<uint64_t> made{0};  // known before any vCPU goes on
  uint64_t newest_halt = 0;
  std::vector<GuestEnd> ends;  // what each drained cut says of the guest's end
};

/// The last applied epoch of `from`, resumed on another machine.
inline bool resumes(VcpuRig& from) {
  VcpuRig other(static_cast<uint32_t>(from.vcpus.size()));
  std::memcpy(other.memory.host_base(), from.image.host_base(), kRigBytes);
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
inline void check_rig_image(VcpuRig& rig) {
  const VcpuThreads::Parked parked(*rig.threads);
  rig.drain();
  REQUIRE(rig.cutter->can_cut());
  rig.cutter->cut(SignalsBlocked());
  rig.drain();
  CHECK(rig.image_is_equal());
}

}  // namespace ft::test

// One virtual machine, whole: KVM, memory, devices, threads, the cut and the standby's image.
//
//   blank ──boot──▶ running ⇄ replicating          running: output open, nothing logged
//     │               ▲                            replicating: rings on, epochs cut
//     └─apply…─promote┘
//
// Threads: every public method belongs to the event loop. Inside: one thread a vCPU
// (vcpu_threads.h), one I/O thread (io_thread.h) and, with disks, one for them (disk_thread.h).
// Locks, in the order in which they may nest:
//   gate (vCPU threads)   who is parked, who waits for credit
//   machine lock          devices, guest memory writes and marks; held for the whole cut
//   outbox, slot pool     their own, innermost
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kvm/guest_cpu.h"
#include "kvm/kvm.h"
#include "kvm/state.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"
#include "machine/change_log.h"
#include "machine/console.h"
#include "machine/console_tail.h"
#include "machine/cpu_plan.h"
#include "machine/cut.h"
#include "machine/device_bus.h"
#include "machine/device_set.h"
#include "machine/disk_set.h"
#include "machine/disk_thread.h"
#include "machine/epoch_codec.h"
#include "machine/epoch_slot.h"
#include "machine/guest_memory.h"
#include "machine/io_thread.h"
#include "machine/mp_table.h"
#include "machine/outbox.h"
#include "machine/tap.h"
#include "machine/vcpu_threads.h"

namespace ft {

struct MachineOptions {
  uint64_t memory_bytes = 64ull << 20;
  uint32_t vcpus = 1;
  std::string cpu_model = "host";  // see kvm/cpuid_model.h
  std::string kernel_path;         // empty on a standby
  std::string initrd_path;         // empty: none
  std::string cmdline;
  std::string tap_name;
  std::string netns;  // network namespace of the TAP (core/net_namespace.h); empty: this one
  MacAddress mac{};
  Console::Options console;
  int first_cpu = kAnyCpu;
  std::vector<DiskOptions> disks;  // at most kDisksMax
  uint64_t outbox_bytes_max = 64ull << 20;
  std::string kvm_path = "/dev/kvm";
  TestFaults faults;
  /// Not 0: from boot() on, floor cuts this often instead of replication (CutPolicy::floor).
  uint32_t floor_interval_us = 0;
  bool paced = false;  // somebody calls tick(): CutPolicy::paced, for the floor
};

/// The guest's clock (kvmclock) at the cut that it was resumed from, and when its vCPUs were let
/// go.
struct GuestClock {
  uint64_t cut_ns;
  uint64_t resumed_ns;
};

struct MachineHooks {
  /// A cut waits in front_cut(). On the cutting thread; must not block.
  std::function<void()> on_cut;
  /// The guest ended itself. While replicating, a cut with the same word follows or waits; without,
  /// everything the guest said is in the outbox. On a vCPU thread, once.
  std::function<void(GuestEnd)> on_guest_end;
  /// The machine cannot go on. On any thread; more than once if more than one part fails.
  std::function<void(std::string message)> on_stopped;
  /// What DiskSet::Hooks says. On the disk thread; must not block.
  std::function<void()> on_disks_synced;
  std::function<void()> on_disk_failed;
  std::function<void()> on_disk_sync_failed;
  /// The guest printed something, while ConsoleTail::watch(). On any thread; must not block.
  std::function<void()> on_console;
};

class Machine {
 public:
  /// Makes everything but a running guest. Errors: those of Kvm::open, Vm::create,
  /// GuestMemory::create, Tap::open, DiskSet::create, and FT_ERR_VCPUS, FT_ERR_VCPU_CPU,
  /// FT_ERR_CPU_MODEL, FT_ERR_CPU_LACKING, FT_ERR_DISK_COUNT.
  static Result<std::unique_ptr<Machine>> create(MachineOptions options, MachineHooks hooks);
  ~Machine();

  /// How long end() waits for storage that ends nothing, and for a flush, which shows nothing
  /// before its end. The second is half of what systemd gives the process.
  struct Patience {
    uint32_t idle_ms_max = 5000;
    uint32_t flush_ms_max = 30'000;
  };
  /// The end of a machine, in order: every thread stops, what the disks have under way is done and
  /// flushed, their maps are closed and everything is freed. No hook is called any more.
  ///
  /// Slow storage is waited for as long as it moves. Error: those of DiskSet::close (the machine is
  /// gone all the same), and FT_ERR_DISK_STUCK when nothing moved any more. What is left of the
  /// machine then is beyond anybody's reach until the storage answers or the process ends: images,
  /// maps and TAP stay locked, and memory that the kernel may still write to stays mapped. The maps
  /// are as a killed process leaves them: every write that may yet come is marked.
  static Status end(std::unique_ptr<Machine> machine) { return end(std::move(machine), {}); }
  static Status end(std::unique_ptr<Machine> machine, const Patience& patience);

  /// The CPU features by name ("cpuid.7.0.ebx"): those the guest was given; of a standby, those
  /// that it offers.
  const std::vector<std::pair<std::string, uint32_t>>& cpu_features() const { return features_; }

  /// The time for a cut has come (CutPolicy::paced). True when one was asked for. Event loop.
  bool tick() { return threads_->tick(); }

  // The active side; see src/machine/machine.ts for the meaning of each.
  Status boot();
  Status begin_replication(const CutPolicy& policy, uint64_t first_epoch,
                           const DiskSet::Maps& peer_disk_maps, bool catch_up = false);
  /// Another time between cuts than the policy's. False without replication: nothing changes.
  bool set_cut_interval(uint32_t interval_us);
  Status end_replication(bool note_changes = false);
  std::optional<uint64_t> noted_since();
  size_t catch_up_map(std::span<uint8_t> out) const;
  EncodedBody scan(std::span<uint8_t> out) { return encoder_->scan(out); }
  double scan_progress() const { return encoder_->scan_progress(); }
  void hold_output() { cutter_->hold_output_at_next_cut(); }
  const EpochSlot* front_cut() const { return slots_->front(); }
  /// Encodes the next piece of front_cut(); the slot is free again after the last.
  EncodedBody encode_cut(std::span<uint8_t> out);
  void commit(uint64_t epoch);
  void extend_lease(uint64_t sent_ns);
  void heal(std::span<const uint32_t> gfns);
  void open_output();
  void fence();
  bool output_waits_for_lease() const { return outbox_.lease_waited_for(); }
  /// Either side, in any phase: a guest that is booted or promoted later does not run either.
  void halt_guest() { threads_->halt(); }
  void resume_guest() { threads_->resume(); }
  /// True for a cut that has all that the guest ever did: it was made while the guest was halted,
  /// and it still is.
  bool is_of_halted(const CutFacts& facts) const {
    return facts.halt % 2 == 1 && facts.halt == threads_->halts();
  }

  // The standby.
  Result<DiskSet::Maps> begin_sync(std::span<const std::string> peer_sync_ids,
                                   bool keep_memory = false);
  /// Errors: those of ImageApplier::clear_pages.
  Status clear_pages(std::span<const uint8_t> map) { return applier_->clear_pages(map); }
  Status verify(std::span<const uint8_t> body) { return applier_->verify(body); }
  /// Errors: those of ImageApplier::apply; with the first state of a session also
  /// FT_ERR_STATE_FORMAT, FT_ERR_STATE_RESTORE and FT_ERR_KVM_CPUID: this host could not resume it.
  Result<uint32_t> apply(std::span<const uint8_t> body, std::vector<uint32_t>* mismatches);
  /// Errors: those of restoring, and the one that made a disk no copy (DiskSet::failure).
  /// After an error no vCPU has run, and nothing of the guest has left.
  /// Says how the guest's clock went over; it never went back.
  Result<GuestClock> promote();

  /// The guest's disks, on either side.
  DiskSet& disks() { return *disks_; }
  const DiskSet& disks() const { return *disks_; }

  /// What the guest printed last, as far as it has left the outbox.
  ConsoleTail& console_tail() { return console_tail_; }
  /// Types on the guest's serial console; returns how many bytes it had room for: 0 unless it runs
  /// here.
  size_t type_console(std::span<const uint8_t> typed);

  /// Stops every thread; the guest does not run again. Does not wait for the disks' thread, which
  /// may wait for storage.
  void stop();

  Outbox::Facts outbox_facts() const { return outbox_.facts(); }
  uint64_t exits(Vcpu::Exit kind) const { return threads_ ? threads_->exits(kind) : 0; }
  uint32_t floor_interval_us() const { return options_.floor_interval_us; }
  FloorFacts floor_facts() const { return cutter_->floor_facts(); }
  uint64_t pages_healed() const { return encoder_->pages_healed(); }

 private:
  explicit Machine(MachineOptions options, MachineHooks hooks);
  Status take_cpus();
  Status make_disks();
  Status make_vm(const Kvm& kvm);
  Status make_devices();
  Status make_console();
  std::vector<DeviceSet::DiskBackend> disk_backends();
  Status make_threads();
  Status make_disk_thread();
  void make_change_log();
  bool gather_changes();
  Status stop_logging();
  void start_threads();
  Result<GuestClock> guest_clock(const StateReader& reader) const;
  void announce();
  Status adopt_cpu(const StateReader& reader);
  void wake_devices();
  void tell(const std::function<void()>& hook);
  Status close_disks();

  MachineOptions options_;
  MachineHooks hooks_;
  std::mutex hooks_lock_;  // held while a hook about the disks is called; innermost
  bool silent_ = false;    // nobody listens any more
  GuestCpu cpu_;
  std::vector<std::pair<std::string, uint32_t>> features_;
  bool state_checked_ = false;  // the first state of this session was held against this host
  CpuPlan cpus_;

  std::mutex lock_;  // the machine lock
  std::unique_ptr<DiskSet> disks_;
  bool disks_closed_ = false;
  std::unique_ptr<GuestMemory> memory_;
  std::unique_ptr<Vm> vm_;
  std::vector<Vcpu> vcpus_;
  std::vector<VcpuStateAccess> vcpu_states_;
  Outbox outbox_;
  std::unique_ptr<Tap> tap_;
  ConsoleTail console_tail_;
  std::unique_ptr<Console> console_;
  bool active_ = false;  // the guest was started here
  DeviceBus bus_;
  std::unique_ptr<DeviceSet> devices_;
  std::unique_ptr<SlotPool> slots_;
  std::unique_ptr<EpochEncoder> encoder_;
  std::unique_ptr<ImageApplier> applier_;
  std::unique_ptr<Cutter> cutter_;
  std::unique_ptr<ChangeLog> changes_;
  uint64_t noted_since_ = 0;  // the log holds every change after this epoch
  std::unique_ptr<VcpuThreads> threads_;
  std::unique_ptr<IoThread> io_;
  std::unique_ptr<DiskThread> disk_thread_;  // without disks: none
};

}  // namespace ft

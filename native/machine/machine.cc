#include "machine/machine.h"

#include <sched.h>

#include "core/run_within.h"
#include "kvm/cpuid_topology.h"
#include "machine/announce.h"
#include "machine/kernel_loader.h"

namespace ft {
namespace {

constexpr uint32_t kMemorySlot = 0;
constexpr uint32_t kSlots = 16;
constexpr uint32_t kVcpusMax = 8;

MpTableFacts describe_cpus(const GuestCpu& cpu, uint32_t vcpus) {
  MpTableFacts facts;
  facts.vcpus = vcpus;
  for (const kvm_cpuid_entry2& leaf : cpu.leaves) {
    if (leaf.function != 1) continue;
    facts.cpu_signature = leaf.eax;
    facts.cpu_features = leaf.edx;
  }
  return facts;
}

}  // namespace

Machine::Machine(MachineOptions options, MachineHooks hooks)
    : options_(std::move(options)), hooks_(std::move(hooks)) {}

Machine::~Machine() {
  stop();
  const auto closed = close_disks();
  // Nobody is left to tell, and the maps that were not closed make the next sync a full one.
  static_cast<void>(closed);
}

Result<std::unique_ptr<Machine>> Machine::create(MachineOptions options, MachineHooks hooks) {
  if (options.vcpus == 0 || options.vcpus > kVcpusMax) {
    return Error{"FT_ERR_VCPUS", 0,
                 "a guest has 1 to " + std::to_string(kVcpusMax) + " vCPUs, not " +
                     std::to_string(options.vcpus)};
  }
  std::unique_ptr<Machine> machine(new Machine(std::move(options), std::move(hooks)));
  FT_TRY(machine->take_cpus());
  const auto kvm = Kvm::open(machine->options_.kvm_path);
  if (!kvm.ok()) return kvm.error();
  FT_TRY(machine->make_disks());
  FT_TRY(machine->make_vm(kvm.value()));
  FT_TRY(machine->make_devices());
  FT_TRY(machine->make_threads());
  FT_TRY(machine->make_disk_thread());
  return machine;
}

// Every thread there is, and every one made later, keeps off the vCPUs' CPUs (see cpu_plan.h).
Status Machine::take_cpus() {
  // As the process was started: a machine before this one may have left this thread fewer.
  static const cpu_set_t allowed = [] {
    cpu_set_t set;
    FT_CHECK(sched_getaffinity(0, sizeof(set), &set) == 0, "this process may use no known CPU");
    return set;
  }();
  auto plan = plan_cpus(allowed, options_.first_cpu, options_.vcpus);
  if (!plan.ok()) return plan.error();
  cpus_ = plan.take();
  sched_setaffinity(0, sizeof(cpus_.rest), &cpus_.rest);
  // The others only once: a machine made later must not move the vCPUs of this one.
  [[maybe_unused]] static const bool moved =
      options_.first_cpu != kAnyCpu && keep_threads_to(cpus_.rest);
  return Ok{};
}

Status Machine::make_disks() {
  if (options_.disks.size() > kDisksMax) {
    return Error{"FT_ERR_DISK_COUNT", 0,
                 "a guest has at most " + std::to_string(kDisksMax) + " disks, not " +
                     std::to_string(options_.disks.size())};
  }
  auto disks = DiskSet::create(options_.disks,
                               {.on_log_pressure = [this] { threads_->request_cut(); },
                                .on_synced = [this] { tell(hooks_.on_disks_synced); },
                                .on_apply_failed = [this] { tell(hooks_.on_disk_failed); },
                                .on_sync_failed = [this] { tell(hooks_.on_disk_sync_failed); }});
  if (!disks.ok()) return disks.error();
  disks_ = disks.take();
  return Ok{};
}

void Machine::tell(const std::function<void()>& hook) {
  const std::lock_guard lock(hooks_lock_);
  if (!silent_) hook();
}

// What the devices do with the disks. The thread is made after the devices, and started last.
std::vector<DeviceSet::DiskBackend> Machine::disk_backends() {
  std::vector<DeviceSet::DiskBackend> list;
  for (size_t i = 0; i < disks_->count(); i++) {
    const DiskSet::Description& description = disks_->descriptions()[i];
    DeviceSet::DiskBackend backend;
    backend.bytes = description.bytes;
    backend.read_only = description.read_only;
    backend.submit = [disk = &disks_->disk(i)](IoOp op) {
      disk->submit(op.kind, op.offset, op.bytes, std::move(op.data), op.id);
    };
    backend.wake = [this] { disk_thread_->wake(); };
    list.push_back(std::move(backend));
  }
  return list;
}

Status Machine::make_vm(const Kvm& kvm) {
  auto memory = GuestMemory::create(options_.memory_bytes);
  if (!memory.ok()) return memory.error();
  memory_ = std::make_unique<GuestMemory>(memory.take());
  auto vm = Vm::create(kvm, kvm.caps().ring_bytes_max);
  if (!vm.ok()) return vm.error();
  vm_ = std::make_unique<Vm>(vm.take());
  FT_TRY(vm_->set_memory(kMemorySlot, 0, memory_->host_base(), memory_->size(), false));
  auto cpu = GuestCpu::make(kvm, options_.cpu_model);
  if (!cpu.ok()) return cpu.error();
  cpu_ = cpu.take();
  cpu_.leaves = with_topology(cpu_.leaves, options_.vcpus);
  // A standby (which has no kernel) offers its host's family and model, too.
  features_ =
      options_.kernel_path.empty() ? feature_words(CpuModel::kHost, cpu_.leaves) : cpu_.words();
  for (uint32_t id = 0; id < options_.vcpus; id++) {
    auto vcpu = Vcpu::create(kvm, *vm_, id, cpu_.leaves);
    if (!vcpu.ok()) return vcpu.error();
    vcpus_.push_back(vcpu.take());
    auto access = VcpuStateAccess::probe(kvm, vcpus_.back());
    if (!access.ok()) return access.error();
    vcpu_states_.push_back(access.take());
  }
  auto slots = SlotPool::create(kSlots, memory_->page_count());
  if (!slots.ok()) return slots.error();
  slots_ = slots.take();
  auto encoder = EpochEncoder::create(*memory_);
  if (!encoder.ok()) return encoder.error();
  encoder_ = encoder.take();
  applier_ = std::make_unique<ImageApplier>(*memory_, disks_->targets());
  return Ok{};
}

Status Machine::make_devices() {
  auto tap = Tap::open(options_.tap_name, options_.netns);
  if (!tap.ok()) return tap.error();
  tap_ = std::make_unique<Tap>(tap.take());
  outbox_.set_bytes_max(options_.outbox_bytes_max);
  outbox_.set_sink(OutputPort::kNet, [this](auto frame) { tap_->write_frame(frame); });
  auto devices = DeviceSet::create(
      DeviceSet::Parts{.vm = *vm_, .memory = *memory_, .outbox = outbox_, .bus = bus_},
      DeviceSet::Options{.mac = options_.mac, .disks = disk_backends()});
  if (!devices.ok()) return devices.error();
  devices_ = devices.take();
  return make_console();
}

Status Machine::make_console() {
  console_tail_.set_on_output(hooks_.on_console);
  outbox_.set_sink(OutputPort::kConsole, [this](auto bytes) {
    console_tail_.write(bytes);
    if (console_) console_->write(bytes);
  });
  if (options_.console.kind == Console::Kind::kNone) return Ok{};
  auto console = Console::create(options_.console, [this](std::span<const uint8_t> typed) {
    const std::lock_guard lock(lock_);
    return devices_->serial().push_input(typed);
  });
  if (!console.ok()) return console.error();
  console_ = console.take();
  devices_->serial().set_room_hook([this] { console_->input_room(); });
  return Ok{};
}

Status Machine::make_threads() {
  std::function<void(uint64_t, DiskLogs&)> take_disk_logs;
  if (disks_->count() > 0) {
    take_disk_logs = [this](uint64_t epoch, DiskLogs& logs) { disks_->take_logs(epoch, logs); };
  }
  cutter_ = std::make_unique<Cutter>(Cutter::Parts{
      .vm = *vm_,
      .vcpus = vcpus_,
      .vcpu_states = vcpu_states_,
      .memory = *memory_,
      .outbox = outbox_,
      .slots = *slots_,
      .machine_lock = lock_,
      .capture_devices =
          [this](StateWriter& writer) {
            cpu_.capture(writer);
            devices_->capture(writer);
          },
      .take_disk_logs = take_disk_logs,
      .on_cut = hooks_.on_cut,
      .faults = options_.faults,
  });
  make_change_log();
  threads_ = std::make_unique<VcpuThreads>(VcpuThreads::Parts{
      .vcpus = vcpus_,
      .bus = bus_,
      .machine_lock = lock_,
      .cutter = *cutter_,
      .outbox = outbox_,
      .changes = changes_.get(),
      .on_stopped = hooks_.on_stopped,
      .on_guest_end = hooks_.on_guest_end,
      .flush_output =
          [this] {
            const std::lock_guard lock(lock_);
            devices_->flush_output();
          },
      .cpus = cpus_.vcpus,
  });
  devices_->power().set_on_end([this](GuestEnd how) { threads_->guest_ended(how); });
  VirtioMmio& net_transport = devices_->transport(kSlotNet);
  auto io = IoThread::create(IoThread::Parts{
      .tap = *tap_,
      .transport = net_transport,
      .net = devices_->net(),
      .cutter = *cutter_,
      .outbox = outbox_,
      .machine_lock = lock_,
      .rx_event_fd = devices_->queue_event(kSlotNet, kNetQueueRx),
      .tx_event_fd = devices_->queue_event(kSlotNet, kNetQueueTx),
      .request_cut = [this] { threads_->request_cut(); },
      .recheck_limits = [this] { threads_->recheck_limits(); },
      .on_error = [this](const Error& e) { hooks_.on_stopped(e.message); },
  });
  if (!io.ok()) return io.error();
  io_ = io.take();
  // Receive buffers given by a plain register write never show on the ioeventfd.
  net_transport.set_notify_hook([this](uint32_t) { io_->wake(); });
  return Ok{};
}

// Runs from now on: a standby's disks are written to before a guest runs here.
Status Machine::make_disk_thread() {
  if (disks_->count() == 0) return Ok{};
  std::vector<DiskThread::Disk> list;
  for (size_t i = 0; i < disks_->count(); i++) {
    const auto slot = static_cast<uint16_t>(kSlotDisk + i);
    list.push_back({.disk = disks_->disk(i),
                    .device = devices_->disk(i),
                    .queue_event_fd = devices_->queue_event(slot, 0)});
  }
  auto thread = DiskThread::create(DiskThread::Parts{
      .disks = std::move(list),
      .machine_lock = lock_,
      .frozen = [this] { return cutter_->frozen(); },
      .cut_waits = [this] { return cutter_->waits_for_lock(); },
  });
  if (!thread.ok()) return thread.error();
  disk_thread_ = thread.take();
  disk_thread_->start();
  return Ok{};
}

void Machine::start_threads() {
  active_ = true;
  if (console_) console_->set_active(true);
  threads_->start();
  io_->start();
}

Status Machine::boot() {
  std::string cmdline = options_.cmdline;
  if (!cmdline.empty()) cmdline += ' ';
  cmdline += devices_->command_line();
  const auto entry = load_kernel(*memory_, {options_.kernel_path, options_.initrd_path, cmdline});
  if (!entry.ok()) return entry.error();
  write_mp_table(*memory_, describe_cpus(cpu_, options_.vcpus));
  FT_TRY(enter_kernel(vcpus_[0], entry.value()));
  start_threads();
  if (options_.floor_interval_us == 0) return Ok{};
  CutPolicy floor;
  floor.interval_us = options_.floor_interval_us;
  floor.cut_on_output = false;
  floor.paced = options_.paced;
  floor.floor = true;
  return begin_replication(floor, 1, DiskSet::Maps(disks_->count()));
}

// Nothing touched guest memory for a while: everything is looked at again.
void Machine::wake_devices() {
  io_->wake();
  if (disk_thread_) disk_thread_->wake();
}

EncodedBody Machine::encode_cut(std::span<uint8_t> out) {
  const EpochSlot* slot = slots_->front();
  FT_CHECK(slot != nullptr, "there is no cut to encode");
  const bool overrun = slot->facts.overrun;
  const EncodedBody body = encoder_->encode_slot(*slot, out);
  if (!body.last) return body;
  slots_->retire();
  if (overrun) {
    cutter_->thaw();
    wake_devices();
  }
  threads_->credit_changed();
  return body;
}

void Machine::commit(uint64_t epoch) {
  // The caller holds acknowledgements against what it sent, so this epoch was cut.
  // Before the base, output of an earlier session may be held yet: no standby could go on from it.
  FT_CHECK(!cutter_->is_restorable(epoch) || outbox_.release(epoch),
           "output is released for an epoch that was never cut");
  cutter_->commit(epoch);
  encoder_->acked(epoch);
  disks_->acked(epoch);
  threads_->credit_changed();
}

void Machine::extend_lease(uint64_t sent_ns) {
  outbox_.extend_lease(sent_ns);
  threads_->credit_changed();
}

void Machine::heal(std::span<const uint32_t> gfns) {
  const std::lock_guard lock(lock_);
  for (const uint32_t gfn : gfns) {
    if (gfn >= memory_->page_count()) continue;
    encoder_->force_raw(gfn);
    memory_->mark_dirty(gfn);
  }
}

void Machine::open_output() {
  {
    const std::lock_guard lock(lock_);
    outbox_.open();
  }
  threads_->credit_changed();
}

void Machine::fence() {
  {
    const std::lock_guard lock(lock_);
    outbox_.drop();
  }
  stop();
}

Result<DiskSet::Maps> Machine::begin_sync(std::span<const std::string> peer_sync_ids,
                                          bool keep_memory) {
  state_checked_ = false;
  FT_TRY(applier_->begin(keep_memory));
  return disks_->begin_sync(peer_sync_ids);
}

Result<uint32_t> Machine::apply(std::span<const uint8_t> body, std::vector<uint32_t>* mismatches) {
  const auto applied = applier_->apply(body, mismatches);
  if (!applied.ok() || state_checked_ || applier_->state().empty()) return applied;
  // The first state of a session: what this host could not restore shall be known now, not when the
  // primary is gone.
  const auto reader = StateReader::open(applier_->state());
  if (!reader.ok()) return reader.error();
  FT_TRY(adopt_cpu(reader.value()));
  for (size_t i = 0; i < vcpus_.size(); i++) {
    FT_TRY(vcpu_states_[i].check(vcpus_[i], reader.value()));
  }
  state_checked_ = true;
  return applied;
}

// The guest keeps the processor that it was given, whatever this host would give.
Status Machine::adopt_cpu(const StateReader& reader) {
  auto cpu = GuestCpu::read(reader);
  if (!cpu.ok()) return cpu.error();
  if (cpu.value() == cpu_) return Ok{};
  for (size_t i = 0; i < vcpus_.size(); i++) {
    FT_TRY(vcpus_[i].set_cpuid(cpu.value().leaves));
    vcpu_states_[i].probe_again(vcpus_[i]);
  }
  cpu_ = cpu.take();
  return Ok{};
}

Result<GuestClock> Machine::promote() {
  if (const auto failure = disks_->apply_failure()) return *failure;
  if (applier_->state().empty()) {
    return Error{"FT_ERR_STATE_RESTORE", 0, "no epoch was applied yet: there is nothing to run"};
  }
  const auto reader = StateReader::open(applier_->state());
  if (!reader.ok()) return reader.error();
  FT_TRY(adopt_cpu(reader.value()));
  features_ = cpu_.words();
  FT_TRY(restore_vm_state(*vm_, reader.value()));
  for (size_t i = 0; i < vcpus_.size(); i++) {
    FT_TRY(vcpu_states_[i].restore(vcpus_[i], reader.value()));
  }
  const auto clock = guest_clock(reader.value());
  if (!clock.ok()) return clock.error();
  {
    const std::lock_guard lock(lock_);
    FT_TRY(devices_->restore(reader.value()));
    // Nothing fails from here on: nobody has heard of a guest that cannot run here.
    announce();
    devices_->kick_all();
  }
  start_threads();
  return clock.value();
}

// The clock was set first of all, before a vCPU was touched, and has been running since: from here
// the guest sees it ahead of the cut by what the restoring took, and never behind.
Result<GuestClock> Machine::guest_clock(const StateReader& reader) const {
  kvm_clock_data captured;
  FT_TRY(read_state_struct(reader, StateKind::kClock, 0, &captured));
  kvm_clock_data now;
  FT_TRY(vm_->get_clock(&now));
  if (now.clock < captured.clock) {
    return Error{"FT_ERR_STATE_RESTORE", 0,
                 "KVM set the guest's clock back by " + std::to_string(captured.clock - now.clock) +
                     " ns; a guest whose time runs backwards is not started"};
  }
  return GuestClock{captured.clock, now.clock};
}

// Before anything else leaves: switches learn the guest's new port, neighbours its address.
void Machine::announce() {
  const MacAddress mac = devices_->net().heard_mac();
  const Ipv4Address ipv4 = devices_->net().heard_ipv4();
  tap_->write_frame(rarp_request(mac));
  if (ipv4 == Ipv4Address{}) return;
  tap_->write_frame(gratuitous_arp_request(mac, ipv4));
  tap_->write_frame(gratuitous_arp_reply(mac, ipv4));
}

size_t Machine::type_console(std::span<const uint8_t> typed) {
  if (!active_) return 0;
  const std::lock_guard lock(lock_);
  return devices_->serial().push_input(typed);
}

void Machine::stop() {
  if (threads_) threads_->stop();
  if (io_) io_->stop();
  if (console_) console_->stop();
  if (disk_thread_) disk_thread_->ask_to_stop();
}

// Every step of it may wait for storage.
Status Machine::close_disks() {
  if (disk_thread_) disk_thread_->stop();
  if (!disks_ || disks_closed_) return Ok{};
  disks_closed_ = true;
  return disks_->close();
}

Status Machine::end(std::unique_ptr<Machine> machine, const Patience& patience) {
  {
    const std::lock_guard lock(machine->hooks_lock_);
    machine->silent_ = true;
  }
  machine->stop();
  if (machine->disks_->count() == 0) return Ok{};
  // Of two owners, the other of which is the thread that closes: the last one frees it.
  const std::shared_ptr<Machine> left = std::move(machine);
  uint64_t ended = 0;
  uint32_t idle_ms = 0;
  const auto moves = [&] {
    const auto seen = left->disks_->movement();
    idle_ms = seen.ended == ended ? idle_ms + kWaitSliceMs : 0;
    ended = seen.ended;
    return idle_ms < (seen.flushing ? patience.flush_ms_max : patience.idle_ms_max);
  };
  const auto closed = run_within(moves, [left] { return left->close_disks(); });
  if (closed) return *closed;
  std::string images;
  for (const DiskOptions& disk : left->options_.disks) images += " " + disk.path;
  return Error{"FT_ERR_DISK_STUCK", 0,
               "The storage does not answer: nothing of what is under way to the disk images (" +
                   images.substr(1) + ") ended in " + std::to_string(idle_ms / 1000) +
                   " s. They stay locked until this process has ended."};
}

}  // namespace ft

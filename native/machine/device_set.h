// Every device of one machine: what it is made of, where the guest finds it, and how all of them
// are captured, restored and woken together.
//
//   slot i    0 net     1…4 disks 0…3     5 rng         a place of its own for each, taken or not:
//   window    0xd0000000 + 0x1000·i, GSI 5 + i          adding a disk moves no other device
//   serial    ports 0x3f8…0x3ff, GSI 4       power     ports 0x604, 0x64, 0xcf9
//
// The slot's number is also the transport's index in the state blob, so both hosts name a device
// alike. Queues that a thread serves have an ioeventfd; the others are served where the guest's
// write to QueueNotify exits.
//
// Threads: create() and the fixed facts (command line, descriptors) from any one thread while no
// vCPU runs; capture(), restore(), kick_all() and the devices themselves under the machine lock.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/result.h"
#include "core/unique_fd.h"
#include "kvm/state.h"
#include "kvm/vm.h"
#include "machine/device_bus.h"
#include "machine/guest_memory.h"
#include "machine/outbox.h"
#include "machine/power.h"
#include "machine/serial.h"
#include "machine/virtio_blk.h"
#include "machine/virtio_mmio.h"
#include "machine/virtio_net.h"
#include "machine/virtio_rng.h"

namespace ft {

inline constexpr uint64_t kDeviceWindowBase = 0xd0000000;
inline constexpr uint32_t kDeviceGsiBase = 5;

/// The virtio slots, in the order in which the guest's kernel is told of them.
inline constexpr uint16_t kSlotNet = 0;
inline constexpr uint16_t kSlotDisk = 1;
inline constexpr uint16_t kDisksMax = 4;
inline constexpr uint16_t kSlotRng = kSlotDisk + kDisksMax;
inline constexpr uint16_t kDeviceSlots = kSlotRng + 1;

/// Where the register window of slot `slot` lies, and the interrupt line it raises.
constexpr uint64_t device_window(uint16_t slot) {
  return kDeviceWindowBase + kVirtioMmioBytes * slot;
}
constexpr uint32_t device_gsi(uint16_t slot) {
  return kDeviceGsiBase + slot;
}

class DeviceSet {
 public:
  /// All of them outlive the set.
  struct Parts {
    Vm& vm;
    GuestMemory& memory;
    Outbox& outbox;
    DeviceBus& bus;
  };
  /// What stands behind a disk's device: see VirtioBlk.
  struct DiskBackend {
    uint64_t bytes = 0;
    bool read_only = false;
    VirtioBlk::Submit submit;
    std::function<void()> wake;
  };
  struct Options {
    MacAddress mac{};
    std::vector<DiskBackend> disks;  // at most kDisksMax
  };

  /// Makes every device, puts it on the bus and wires its interrupt and queues.
  /// Errors: FT_ERR_RESOURCES, FT_ERR_KVM_EVENTFD.
  static Result<std::unique_ptr<DeviceSet>> create(const Parts& parts, const Options& options);

  Serial& serial() { return *serial_; }
  VirtioNet& net() { return *net_; }
  PowerPorts& power() { return power_; }
  VirtioBlk& disk(size_t index) { return *disks_[index]; }
  /// The transport in `slot`, which must be taken.
  VirtioMmio& transport(uint16_t slot);
  /// Signalled when the guest notifies `queue` of `slot`; only for queues given an ioeventfd.
  int queue_event(uint16_t slot, uint32_t queue) const;

  /// What the guest's kernel must be told: a "virtio_mmio.device=4K@…:…" a device, by slot,
  /// separated by spaces.
  std::string command_line() const;

  /// Adds the entries of every device, always in the same order.
  void capture(StateWriter& writer) const;
  /// Puts all of them back. Guest memory and the irqchips come before, kick_all() after.
  /// Error: FT_ERR_STATE_FORMAT; the devices are then of no further use.
  Status restore(const StateReader& reader);
  /// The guest ended itself: what it had handed to its devices by then still goes out.
  void flush_output();
  /// Notifications and interrupts that were on their way at the cut are in no state: says them all
  /// again. A spurious one does no harm.
  void kick_all();

 private:
  /// One virtio device behind its transport; empty when the machine has no such device.
  struct Slot {
    UniqueFd interrupt;
    std::array<UniqueFd, kVirtioQueuesMax> queue_events;
    std::unique_ptr<VirtioMmio> transport;
  };

  explicit DeviceSet(const Parts& parts) : parts_(parts) {}
  Status add_serial();
  Status add_disk(uint16_t index, const DiskBackend& backend);
  /// Puts `device` (owned by the set, and kept longer than its transport) into `slot`; the first
  /// `queues_with_event` queues get an ioeventfd.
  Status add_virtio(uint16_t slot, VirtioDevice& device, uint32_t queues_with_event);

  Parts parts_;
  UniqueFd serial_interrupt_;
  std::unique_ptr<Serial> serial_;
  PowerPorts power_;
  std::unique_ptr<VirtioNet> net_;
  std::vector<std::unique_ptr<VirtioBlk>> disks_;
  std::unique_ptr<VirtioRng> rng_;
  std::array<Slot, kDeviceSlots> slots_;
};

}  // namespace ft

// Every device of one machine, made, wired, captured and restored together.
#include "machine/device_set.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdio>

namespace ft {
namespace {

Result<UniqueFd> make_event() {
  UniqueFd fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!fd.valid()) return sys_error("FT_ERR_RESOURCES", "cannot make an event descriptor");
  return fd;
}

void pulse(int event_fd) {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(event_fd, &one, sizeof(one));
}

}  // namespace

Result<std::unique_ptr<DeviceSet>> DeviceSet::create(const Parts& parts, const Options& options) {
  std::unique_ptr<DeviceSet> set(new DeviceSet(parts));
  FT_TRY(set->add_serial());
  set->power_.attach(parts.bus);
  set->net_ = std::make_unique<VirtioNet>(parts.outbox, options.mac);
  FT_TRY(set->add_virtio(kSlotNet, *set->net_, set->net_->queue_count()));
  FT_CHECK(options.disks.size() <= kDisksMax, "a machine has more disks than places for them");
  for (size_t i = 0; i < options.disks.size(); i++) {
    FT_TRY(set->add_disk(static_cast<uint16_t>(i), options.disks[i]));
  }
  set->rng_ = std::make_unique<VirtioRng>();
  FT_TRY(set->add_virtio(kSlotRng, *set->rng_, 0));
  return set;
}

Status DeviceSet::add_serial() {
  auto event = make_event();
  if (!event.ok()) return event.error();
  serial_interrupt_ = event.take();
  serial_ = std::make_unique<Serial>(parts_.outbox, [fd = serial_interrupt_.get()] { pulse(fd); });
  parts_.bus.add_port(kSerialPortBase, kSerialPorts, *serial_);
  return parts_.vm.add_irqfd(kSerialGsi, serial_interrupt_.get());
}

Status DeviceSet::add_disk(uint16_t index, const DiskBackend& backend) {
  VirtioBlk::Options options;
  options.bytes = backend.bytes;
  options.read_only = backend.read_only;
  options.id = "romulus-" + std::to_string(index);
  disks_.push_back(std::make_unique<VirtioBlk>(options, backend.submit, backend.wake));
  VirtioBlk& disk = *disks_.back();
  return add_virtio(kSlotDisk + index, disk, disk.queue_count());
}

Status DeviceSet::add_virtio(uint16_t slot, VirtioDevice& device, uint32_t queues_with_event) {
  Slot& place = slots_[slot];
  FT_CHECK(place.transport == nullptr, "a device slot is taken twice");
  auto interrupt = make_event();
  if (!interrupt.ok()) return interrupt.error();
  place.interrupt = interrupt.take();
  place.transport = std::make_unique<VirtioMmio>(
      parts_.memory, device, [fd = place.interrupt.get()] { pulse(fd); }, slot);
  parts_.bus.add_mmio(device_window(slot), kVirtioMmioBytes, *place.transport);
  FT_TRY(parts_.vm.add_irqfd(device_gsi(slot), place.interrupt.get()));
  const uint64_t notify = device_window(slot) + kVirtioMmioNotifyOffset;
  for (uint32_t queue = 0; queue < queues_with_event; queue++) {
    auto event = make_event();
    if (!event.ok()) return event.error();
    place.queue_events[queue] = event.take();
    FT_TRY(parts_.vm.add_ioeventfd(notify, queue, place.queue_events[queue].get()));
  }
  return Ok{};
}

VirtioMmio& DeviceSet::transport(uint16_t slot) {
  FT_CHECK(slot < kDeviceSlots && slots_[slot].transport != nullptr, "the device slot is empty");
  return *slots_[slot].transport;
}

int DeviceSet::queue_event(uint16_t slot, uint32_t queue) const {
  FT_CHECK(
      slot < kDeviceSlots && queue < kVirtioQueuesMax && slots_[slot].queue_events[queue].valid(),
      "the queue has no event descriptor");
  return slots_[slot].queue_events[queue].get();
}

std::string DeviceSet::command_line() const {
  std::string line;
  for (uint16_t slot = 0; slot < kDeviceSlots; slot++) {
    if (slots_[slot].transport == nullptr) continue;
    char device[64];
    std::snprintf(device, sizeof(device), "virtio_mmio.device=4K@0x%llx:%u",
                  static_cast<unsigned long long>(device_window(slot)), device_gsi(slot));
    if (!line.empty()) line += ' ';
    line += device;
  }
  return line;
}

void DeviceSet::capture(StateWriter& writer) const {
  serial_->capture(writer);
  for (const Slot& place : slots_) {
    if (place.transport != nullptr) place.transport->capture(writer);
  }
}

Status DeviceSet::restore(const StateReader& reader) {
  FT_TRY(serial_->restore(reader));
  for (Slot& place : slots_) {
    if (place.transport != nullptr) FT_TRY(place.transport->restore(reader));
  }
  return Ok{};
}

void DeviceSet::flush_output() {
  // One round of the ring covers everything that was there when the guest stopped.
  net_->process_tx(kQueueSizeMax);
}

void DeviceSet::kick_all() {
  for (Slot& place : slots_) {
    if (place.transport != nullptr) place.transport->kick_all();
  }
}

}  // namespace ft

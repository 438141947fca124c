// virtio-mmio transport, version 2: one register window of 4 KiB, one device behind it.
//
//   status   0 ─ACKNOWLEDGE─▶ ─DRIVER─▶ ─FEATURES_OK (checked)─▶ ─DRIVER_OK─▶ device active
//            ▲                                                        │ a queue breaks
//            └───────────────── the driver writes 0 ◀── NEEDS_RESET ◀─┘ (+ config interrupt)
//
// Notifications normally come through an ioeventfd (value = queue number at window + 0x50) and are
// passed in by notify_queue(); a plain write to QueueNotify does the same.
// Source: Virtio 1.2, §2.1 (status), §4.2.2 (registers). Thread: every call under the machine lock.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/result.h"
#include "kvm/state.h"
#include "machine/device_bus.h"
#include "machine/guest_memory.h"
#include "machine/virtio_queue.h"

namespace ft {

inline constexpr uint64_t kVirtioMmioBytes = 0x1000;
inline constexpr uint64_t kVirtioMmioNotifyOffset = 0x50;
inline constexpr uint32_t kVirtioQueuesMax = 4;
inline constexpr uint64_t kVirtioFVersion1 = 1ull << 32;

inline constexpr uint32_t kVirtioStatusAcknowledge = 1;
inline constexpr uint32_t kVirtioStatusDriver = 2;
inline constexpr uint32_t kVirtioStatusDriverOk = 4;
inline constexpr uint32_t kVirtioStatusFeaturesOk = 8;
inline constexpr uint32_t kVirtioStatusNeedsReset = 64;
inline constexpr uint32_t kVirtioStatusFailed = 128;

inline constexpr uint32_t kVirtioIsrUsed = 1;
inline constexpr uint32_t kVirtioIsrConfig = 2;

/// What a device may ask of its transport.
class VirtioTransport {
 public:
  virtual ~VirtioTransport() = default;
  virtual VirtQueue& queue(uint32_t index) = 0;
  /// Interrupts the driver for chains pushed to `queue`, unless it asked not to be.
  virtual void signal_used(VirtQueue& queue) = 0;
  /// A queue broke: DEVICE_NEEDS_RESET and a configuration interrupt. The device stops.
  virtual void needs_reset() = 0;
  /// The configuration space changed: new generation, configuration interrupt.
  virtual void config_changed() = 0;
};

/// The device behind a transport (network, later disk and entropy).
class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;
  /// Called once, by the transport's constructor. `transport` outlives the device's use of it.
  virtual void attach(VirtioTransport& transport) = 0;
  virtual uint32_t device_id() const = 0;
  /// Features of the device's own type; the transport adds VIRTIO_F_VERSION_1.
  virtual uint64_t features() const = 0;
  virtual uint32_t queue_count() const = 0;
  virtual uint16_t queue_size_max(uint32_t queue) const = 0;
  /// Configuration space; bytes past its end read as zero.
  virtual void read_config(uint64_t offset, std::span<uint8_t> out) const = 0;
  virtual void write_config(uint64_t offset, std::span<const uint8_t> in) = 0;
  /// DRIVER_OK was set (or restored): queues may be used from now on.
  virtual void activate(uint64_t features) = 0;
  /// The driver reset the device, or it needs a reset: queues must no longer be touched.
  virtual void reset() = 0;
  /// The driver says that `queue` has something new.
  virtual void notify(uint32_t queue) = 0;
  virtual void capture(StateWriter& writer, uint16_t index) const = 0;
  /// Error: FT_ERR_STATE_FORMAT; the device is then unchanged.
  virtual Status restore(const StateReader& reader, uint16_t index) = 0;
};

/// The transport's whole state, as stored under StateKind::kVirtioMmio.
struct VirtioMmioState {
  uint32_t version = 1;
  uint32_t device_id = 0;
  uint64_t features_offered = 0;
  uint64_t features_driver = 0;
  uint32_t status = 0;
  uint32_t isr = 0;
  uint32_t config_generation = 0;
  uint32_t device_features_sel = 0;
  uint32_t driver_features_sel = 0;
  uint32_t queue_sel = 0;
  uint32_t queue_count = 0;
  uint32_t reserved = 0;
  VirtQueueState queues[kVirtioQueuesMax] = {};
};
static_assert(sizeof(VirtioMmioState) == 56 + 32 * kVirtioQueuesMax);

class VirtioMmio final : public Device, public VirtioTransport {
 public:
  struct Facts {
    uint64_t interrupts = 0;
    uint64_t resets_needed = 0;  // how often a queue broke
    uint64_t notifies_plain = 0;
  };

  /// `raise` pulses the interrupt line (edge; an irqfd's eventfd). `index` is the device number in
  /// the state blob. `memory` and `device` outlive the transport.
  VirtioMmio(GuestMemory& memory, VirtioDevice& device, std::function<void()> raise,
             uint16_t index);

  // Device: the register window.
  void read(uint64_t offset, std::span<uint8_t> out) override;
  void write(uint64_t offset, std::span<const uint8_t> in) override;

  /// The queue's ioeventfd was signalled. Ignored while the device is not active.
  void notify_queue(uint32_t queue);
  /// After restore: notifications and interrupts that were on their way at the cut are lost, so
  /// this notifies every queue and interrupts the driver once, whether or not anything waits for
  /// it.
  void kick_all();
  /// Called with the queue number for a notification that came by a plain write, after the device
  /// has had it (the thread that polls the TAP may want to know of new receive buffers).
  void set_notify_hook(std::function<void(uint32_t queue)> hook) { notify_hook_ = std::move(hook); }
  bool active() const { return active_; }
  uint32_t status() const { return s_.status; }
  /// Why the device needs a reset, for the log; empty while it does not.
  const char* broken_reason() const;
  const Facts& facts() const { return facts_; }

  /// Adds the transport's entry and the device's own.
  void capture(StateWriter& writer) const;
  /// Puts both back. Error: FT_ERR_STATE_FORMAT (a reset is then the only way on). Guest memory
  /// and the VM's irqchip must have been restored before; call kick_all() before the vCPUs run.
  Status restore(const StateReader& reader);

  // VirtioTransport, for the device.
  VirtQueue& queue(uint32_t index) override { return queues_[index]; }
  void signal_used(VirtQueue& queue) override;
  void needs_reset() override;
  void config_changed() override;

 private:
  uint32_t read_register(uint64_t offset) const;
  void write_register(uint64_t offset, uint32_t value);
  void write_queue_register(uint64_t offset, uint32_t value);
  void write_status(uint32_t value);
  void write_queue_ready(VirtQueue& queue, uint32_t value);
  void reset_all();
  void notify_all();
  void interrupt(uint32_t isr_bit);
  const char* check(const VirtioMmioState& state) const;
  uint64_t features_offered() const { return device_.features() | kVirtioFVersion1; }
  VirtQueue* selected();
  const VirtQueue* selected() const;

  VirtioDevice& device_;
  std::function<void()> raise_;
  std::function<void(uint32_t)> notify_hook_;
  uint16_t index_;
  bool active_ = false;
  std::vector<VirtQueue> queues_;
  VirtioMmioState s_;
  Facts facts_;
};

}  // namespace ft

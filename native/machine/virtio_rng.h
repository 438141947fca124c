// virtio entropy device: one queue of buffers that the guest wants filled with random bytes.
//
//   guest ──empty buffer──▶ requestq ──▶ kernel's generator ──▶ GuestMemory::write ──▶ used ring
//
// Served where the notification comes in, under the machine lock: a request gets at most
// kRngRequestBytesMax (a driver asks again for more), and one notification is worth one round of
// the ring, so that a guest cannot hold the lock by adding requests as fast as they are met. What
// is added during the round brings its own notification.
//
// Replication needs nothing of its own here: bytes that were given lie in guest memory, in the
// epoch in which they were given, and a request that no epoch saw answered is answered after a
// promotion. That those bytes are then other ones is what random means.
//
// Source: Virtio 1.2, §5.4. Thread: every call under the machine lock.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "machine/virtio_mmio.h"

namespace ft {

inline constexpr uint32_t kRngDeviceId = 4;
inline constexpr uint16_t kRngQueueSizeMax = 64;
inline constexpr uint32_t kRngRequestBytesMax = 256;

class VirtioRng final : public VirtioDevice {
 public:
  struct Facts {
    uint64_t requests = 0;
    uint64_t bytes = 0;
  };
  /// Fills the whole span with random bytes.
  using Source = std::function<void(std::span<uint8_t>)>;

  explicit VirtioRng(Source source = host_entropy) : source_(std::move(source)) {}

  /// The host kernel's generator, getrandom(2).
  static void host_entropy(std::span<uint8_t> out);
  const Facts& facts() const { return facts_; }

  // VirtioDevice.
  void attach(VirtioTransport& transport) override { transport_ = &transport; }
  uint32_t device_id() const override { return kRngDeviceId; }
  uint64_t features() const override { return 0; }
  uint32_t queue_count() const override { return 1; }
  uint16_t queue_size_max(uint32_t) const override { return kRngQueueSizeMax; }
  void read_config(uint64_t, std::span<uint8_t>) const override {}
  void write_config(uint64_t, std::span<const uint8_t>) override {}
  void activate(uint64_t) override { active_ = true; }
  void reset() override { active_ = false; }
  void notify(uint32_t queue) override;
  // The transport's entry says everything.
  void capture(StateWriter&, uint16_t) const override {}
  Status restore(const StateReader&, uint16_t) override { return Ok{}; }

 private:
  Source source_;
  VirtioTransport* transport_ = nullptr;
  bool active_ = false;
  Facts facts_;
  DescriptorChain chain_;
};

}  // namespace ft

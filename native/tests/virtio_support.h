// A driver as a test sees it: guest memory, one device behind its transport, and the rings laid out
// in memory, with the means to write anything into them, sound or not.
//
//   queue q:  0x10000 + q·0x4000   descriptor table
//             + 0x2000             available ring
//             + 0x3000             used ring
//   buffers:  0x40000 and up
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "machine/guest_memory.h"
#include "machine/outbox.h"
#include "machine/virtio_mmio.h"
#include "machine/virtio_net.h"

namespace ft::test {

inline constexpr uint16_t kNext = 1, kWrite = 2, kIndirect = 4;
inline constexpr uint64_t kBuffers = 0x40000;
inline constexpr MacAddress kGuestMac = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

struct Desc {
  uint64_t addr;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};
struct Used {
  uint32_t id;
  uint32_t len;
};

inline GuestMemory make_memory(uint64_t bytes = 1 << 20) {
  auto memory = GuestMemory::create(bytes);
  REQUIRE(memory.ok());
  return memory.take();
}

/// Guest memory and one device behind its transport, with every access that a driver has.
struct DriverRig {
  GuestMemory memory = make_memory();
  uint32_t interrupts = 0;
  uint32_t queue_count;
  uint32_t queue_size = 16;
  VirtioMmio mmio;

  /// `device` is made before this and outlives it.
  explicit DriverRig(VirtioDevice& device)
      : queue_count(device.queue_count()),
        mmio(
            memory, device, [this] { interrupts++; }, 0) {
    memory.set_tracking(true);
  }

  uint32_t reg(uint64_t offset) {
    uint32_t value = 0;
    mmio.read(offset, {reinterpret_cast<uint8_t*>(&value), sizeof(value)});
    return value;
  }
  void set(uint64_t offset, uint32_t value) {
    mmio.write(offset, {reinterpret_cast<const uint8_t*>(&value), sizeof(value)});
  }
  uint32_t status() { return reg(0x70); }
  bool needs_reset() { return (status() & kVirtioStatusNeedsReset) != 0; }

  static uint64_t desc_gpa(uint32_t q) { return 0x10000 + q * 0x4000; }
  static uint64_t avail_gpa(uint32_t q) { return desc_gpa(q) + 0x2000; }
  static uint64_t used_gpa(uint32_t q) { return desc_gpa(q) + 0x3000; }

  void accept_features(uint64_t features) {
    set(0x70, 0);
    set(0x70, kVirtioStatusAcknowledge);
    set(0x70, kVirtioStatusAcknowledge | kVirtioStatusDriver);
    set(0x24, 0);
    set(0x20, static_cast<uint32_t>(features));
    set(0x24, 1);
    set(0x20, static_cast<uint32_t>(features >> 32));
    set(0x70, status() | kVirtioStatusFeaturesOk);
  }
  void place_queue(uint32_t q, uint32_t size, uint64_t desc, uint64_t avail, uint64_t used) {
    set(0x30, q);
    set(0x38, size);
    set(0x80, static_cast<uint32_t>(desc));
    set(0x84, static_cast<uint32_t>(desc >> 32));
    set(0x90, static_cast<uint32_t>(avail));
    set(0x94, static_cast<uint32_t>(avail >> 32));
    set(0xa0, static_cast<uint32_t>(used));
    set(0xa4, static_cast<uint32_t>(used >> 32));
    set(0x44, 1);
  }
  /// Everything a sound driver does, up to DRIVER_OK.
  void start(uint32_t size = 16) {
    std::memset(memory.host_base() + desc_gpa(0), 0, 0x8000);
    accept_features(reg_features());
    for (uint32_t q = 0; q < queue_count; q++) {
      place_queue(q, size, desc_gpa(q), avail_gpa(q), used_gpa(q));
    }
    queue_size = size;
    set(0x70, status() | kVirtioStatusDriverOk);
    REQUIRE((status() & kVirtioStatusDriverOk) != 0);
    REQUIRE_FALSE(needs_reset());
    memory.clear_dirty();
  }
  uint64_t reg_features() {
    set(0x14, 0);
    const uint64_t low = reg(0x10);
    set(0x14, 1);
    return low | static_cast<uint64_t>(reg(0x10)) << 32;
  }

  // The guest's own writes are not the VMM's: they go past GuestMemory, as a vCPU's do.
  template <typename T>
  void poke(uint64_t gpa, const T& value) {
    std::memcpy(memory.host_base() + gpa, &value, sizeof(value));
  }
  template <typename T>
  T peek(uint64_t gpa) {
    T value;
    std::memcpy(&value, memory.host_base() + gpa, sizeof(value));
    return value;
  }
  void desc(uint32_t q, uint16_t index, const Desc& d) { poke(desc_gpa(q) + 16u * index, d); }
  void offer(uint32_t q, uint16_t head) {
    const uint16_t idx = peek<uint16_t>(avail_gpa(q) + 2);
    poke<uint16_t>(avail_gpa(q) + 4 + 2u * (idx % queue_size), head);
    poke<uint16_t>(avail_gpa(q) + 2, static_cast<uint16_t>(idx + 1));
  }
  void notify(uint32_t q) { set(0x50, q); }
  uint16_t used_idx(uint32_t q) { return peek<uint16_t>(used_gpa(q) + 2); }
  Used used(uint32_t q, uint32_t slot) { return peek<Used>(used_gpa(q) + 4 + 8u * slot); }
};

/// Outbox and network device, made before the transport in front of them.
struct NetParts {
  Outbox outbox;
  std::vector<std::vector<uint8_t>> sent;  // what reached the outside
  VirtioNet net{outbox, kGuestMac};
};

/// The network device wired as a machine wires it.
struct Rig : NetParts, DriverRig {
  Rig() : DriverRig(net) {
    outbox.set_sink(OutputPort::kNet, [this](std::span<const uint8_t> frame) {
      sent.emplace_back(frame.begin(), frame.end());
    });
  }

  /// Puts header and frame at `gpa` as one readable buffer and offers it for transmission.
  void transmit(const std::vector<uint8_t>& frame, uint16_t index = 0, uint64_t gpa = kBuffers) {
    std::memset(memory.host_base() + gpa, 0, kNetHeaderBytes);
    std::copy(frame.begin(), frame.end(), memory.host_base() + gpa + kNetHeaderBytes);
    desc(kNetQueueTx, index, {gpa, static_cast<uint32_t>(kNetHeaderBytes + frame.size()), 0, 0});
    offer(kNetQueueTx, index);
  }
  void offer_receive(uint32_t bytes, uint16_t index = 0, uint64_t gpa = kBuffers + 0x8000) {
    desc(kNetQueueRx, index, {gpa, bytes, kWrite, 0});
    offer(kNetQueueRx, index);
  }
};

/// A frame of `bytes` with an Ethernet header from `mac` and a recognisable body.
inline std::vector<uint8_t> make_frame(size_t bytes, uint16_t type = 0x88b5,
                                       const MacAddress& mac = kGuestMac) {
  std::vector<uint8_t> frame(bytes);
  for (size_t i = 0; i < bytes; i++) frame[i] = static_cast<uint8_t>(i * 7 + 1);
  for (size_t i = 0; i < 6 && i < bytes; i++) frame[i] = 0xff;
  for (size_t i = 6; i < 12 && i < bytes; i++) frame[i] = mac[i - 6];
  if (bytes >= 14) {
    frame[12] = static_cast<uint8_t>(type >> 8);
    frame[13] = static_cast<uint8_t>(type);
  }
  return frame;
}

}  // namespace ft::test

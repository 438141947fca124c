// virtio network device: queue 0 receives (outside → guest), queue 1 transmits (guest → outbox).
//
//   TAP ──read──▶ deliver() ──▶ receive buffers      header, 12 bytes: { u8 flags, gso_type;
//   outbox (port net) ◀── process_tx() ◀── frames      u16 hdr_len, gso_size, csum_start,
//                                                       csum_offset, num_buffers }
// Offers VIRTIO_NET_F_MAC, VIRTIO_NET_F_STATUS and nothing that changes what a frame is.
// What the guest transmits goes nowhere but to the outbox. Source: Virtio 1.2, §5.1.
// Thread: every call under the machine lock.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "machine/outbox.h"
#include "machine/virtio_mmio.h"

namespace ft {

using MacAddress = std::array<uint8_t, 6>;
using Ipv4Address = std::array<uint8_t, 4>;  // network order

inline constexpr uint32_t kNetQueueRx = 0;
inline constexpr uint32_t kNetQueueTx = 1;
inline constexpr size_t kNetHeaderBytes = 12;
inline constexpr size_t kFrameBytesMin = 14;
/// Room for a jumbo frame with a VLAN tag; longer ones are dropped and counted.
inline constexpr size_t kFrameBytesMax = 9018;

/// The device's own state, as stored under StateKind::kVirtioNet.
struct VirtioNetState {
  uint32_t version = 1;
  uint8_t mac[6] = {};   // as offered in configuration space
  uint16_t link_up = 1;  // VIRTIO_NET_S_LINK_UP
  // The guest's address as heard from what it transmits, for the announcement on promotion.
  uint8_t heard_mac[6] = {};
  uint8_t heard_ipv4[4] = {};
  uint8_t heard_from = 0;  // 0 nothing yet, 1 IPv4 source, 2 ARP sender (preferred)
  uint8_t reserved = 0;
};
static_assert(sizeof(VirtioNetState) == 24);

class VirtioNet final : public VirtioDevice {
 public:
  enum class Delivery : uint8_t {
    kDelivered,
    kNoBuffer,  // keep the frame and try again once rx_ready()
    kDropped,   // it will never fit, or the device is not running
  };
  struct Facts {
    uint64_t rx_frames = 0, rx_bytes = 0, rx_dropped = 0;
    uint64_t tx_frames = 0, tx_bytes = 0, tx_dropped = 0;
  };

  /// `outbox` outlives the device.
  VirtioNet(Outbox& outbox, const MacAddress& mac);

  /// True when the guest has a receive buffer for us. Poll the TAP only then.
  bool rx_ready() const;
  /// Puts one Ethernet frame into the next receive buffer. With `signal_later` the interrupt is
  /// left to a following signal_rx(), one for a batch.
  Delivery deliver(std::span<const uint8_t> frame, bool signal_later = false);
  void signal_rx();
  /// Moves at most `budget` transmitted frames into the outbox; returns how many chains it took,
  /// so that a return equal to `budget` means there may be more. Interrupts once, at the end.
  uint32_t process_tx(uint32_t budget);

  MacAddress mac() const;
  /// The address to announce, as heard from the guest. While it said nothing: the MAC of
  /// configuration space, and an IPv4 address of all zero.
  MacAddress heard_mac() const;
  Ipv4Address heard_ipv4() const;
  /// Changes the link state that the guest sees.
  void set_link(bool up);
  const Facts& facts() const { return facts_; }

  // VirtioDevice.
  void attach(VirtioTransport& transport) override { transport_ = &transport; }
  uint32_t device_id() const override { return 1; }
  uint64_t features() const override;
  uint32_t queue_count() const override { return 2; }
  uint16_t queue_size_max(uint32_t) const override { return kQueueSizeMax; }
  void read_config(uint64_t offset, std::span<uint8_t> out) const override;
  void write_config(uint64_t, std::span<const uint8_t>) override {}
  void activate(uint64_t) override { active_ = true; }
  void reset() override;
  void notify(uint32_t queue) override;
  void capture(StateWriter& writer, uint16_t index) const override;
  Status restore(const StateReader& reader, uint16_t index) override;

 private:
  bool transmit(VirtQueue& queue);
  void listen(std::span<const uint8_t> frame);
  void hear(const uint8_t* mac, const uint8_t* ipv4, uint8_t from);

  Outbox& outbox_;
  VirtioTransport* transport_ = nullptr;
  bool active_ = false;
  bool rx_signal_due_ = false;
  VirtioNetState s_;
  Facts facts_;
  DescriptorChain chain_;
  std::array<uint8_t, kFrameBytesMax> frame_;
};

}  // namespace ft

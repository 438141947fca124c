// virtio network device: frames between the guest's rings, the TAP's reader and the outbox.
#include "machine/virtio_net.h"

#include <algorithm>
#include <cstring>

namespace ft {

namespace {

constexpr uint64_t kNetFMac = 1ull << 5;
constexpr uint64_t kNetFStatus = 1ull << 16;

constexpr uint16_t kEtherTypeIpv4 = 0x0800;
constexpr uint16_t kEtherTypeArp = 0x0806;
constexpr size_t kArpFrameBytes = 42;
constexpr size_t kIpv4FrameBytesMin = 34;
constexpr uint8_t kHeardFromIpv4 = 1;
constexpr uint8_t kHeardFromArp = 2;

// In front of every frame. Without offloads and merged buffers only num_buffers says anything.
struct NetHeader {
  uint8_t flags = 0;
  uint8_t gso_type = 0;
  uint16_t hdr_len = 0;
  uint16_t gso_size = 0;
  uint16_t csum_start = 0;
  uint16_t csum_offset = 0;
  uint16_t num_buffers = 1;
};
static_assert(sizeof(NetHeader) == kNetHeaderBytes);

// Configuration space of the offered features.
struct NetConfig {
  uint8_t mac[6];
  uint16_t status;
};
static_assert(sizeof(NetConfig) == 8);

uint16_t be16(const uint8_t* p) {
  return static_cast<uint16_t>(p[0] << 8 | p[1]);
}

// An address that a host can have on a network: not 0.x, loopback, multicast or broadcast.
bool is_host_ipv4(const uint8_t* ip) {
  return ip[0] != 0 && ip[0] != 127 && ip[0] < 224;
}

bool is_host_mac(const uint8_t* mac) {
  static constexpr uint8_t kNone[6] = {};
  return (mac[0] & 1) == 0 && std::memcmp(mac, kNone, sizeof(kNone)) != 0;
}

}  // namespace

VirtioNet::VirtioNet(Outbox& outbox, const MacAddress& mac) : outbox_(outbox) {
  std::copy(mac.begin(), mac.end(), s_.mac);
}

uint64_t VirtioNet::features() const {
  return kNetFMac | kNetFStatus;
}

void VirtioNet::read_config(uint64_t offset, std::span<uint8_t> out) const {
  NetConfig config;
  std::memcpy(config.mac, s_.mac, sizeof(config.mac));
  config.status = s_.link_up;
  uint8_t bytes[sizeof(config)];
  std::memcpy(bytes, &config, sizeof(config));
  for (size_t i = 0; i < out.size(); i++) {
    const uint64_t at = offset + i;
    out[i] = at < sizeof(bytes) ? bytes[at] : 0;
  }
}

void VirtioNet::reset() {
  active_ = false;
  rx_signal_due_ = false;
}

void VirtioNet::notify(uint32_t queue) {
  // One round of the ring covers everything that was made available before the notification.
  // New receive buffers need no action: the TAP's reader asks rx_ready().
  if (queue == kNetQueueTx) process_tx(kQueueSizeMax);
}

bool VirtioNet::rx_ready() const {
  return active_ && transport_->queue(kNetQueueRx).has_available();
}

VirtioNet::Delivery VirtioNet::deliver(std::span<const uint8_t> frame, bool signal_later) {
  if (!active_ || frame.size() < kFrameBytesMin || frame.size() > kFrameBytesMax) {
    facts_.rx_dropped++;
    return Delivery::kDropped;
  }
  VirtQueue& queue = transport_->queue(kNetQueueRx);
  const VirtQueue::Pop popped = queue.pop(&chain_);
  if (popped == VirtQueue::Pop::kEmpty) return Delivery::kNoBuffer;
  if (popped == VirtQueue::Pop::kChain && chain_.readable_count != 0) {
    queue.break_queue("receive buffer is not writable");
  }
  if (queue.broken()) {
    facts_.rx_dropped++;
    transport_->needs_reset();
    return Delivery::kDropped;
  }
  if (chain_.writable_bytes < kNetHeaderBytes + frame.size()) {
    queue.unpop();  // the buffer is good for a smaller frame
    facts_.rx_dropped++;
    return Delivery::kDropped;
  }
  const NetHeader header;
  queue.copy_in(chain_, 0, {reinterpret_cast<const uint8_t*>(&header), sizeof(header)});
  queue.copy_in(chain_, kNetHeaderBytes, frame);
  queue.push_used(chain_.head, static_cast<uint32_t>(kNetHeaderBytes + frame.size()));
  facts_.rx_frames++;
  facts_.rx_bytes += frame.size();
  rx_signal_due_ = true;
  if (!signal_later) signal_rx();
  return Delivery::kDelivered;
}

void VirtioNet::signal_rx() {
  if (!rx_signal_due_) return;
  rx_signal_due_ = false;
  transport_->signal_used(transport_->queue(kNetQueueRx));
}

uint32_t VirtioNet::process_tx(uint32_t budget) {
  if (!active_) return 0;
  VirtQueue& queue = transport_->queue(kNetQueueTx);
  uint32_t taken = 0;
  while (taken < budget && transmit(queue)) taken++;
  if (queue.broken()) {
    transport_->needs_reset();
  } else if (taken != 0) {
    transport_->signal_used(queue);
  }
  return taken;
}

// Moves one chain. False when none waits or the queue broke.
bool VirtioNet::transmit(VirtQueue& queue) {
  if (queue.pop(&chain_) != VirtQueue::Pop::kChain) return false;
  if (chain_.readable_bytes < kNetHeaderBytes) {
    queue.break_queue("transmitted chain has no whole header");
    return false;
  }
  const size_t bytes = chain_.readable_bytes - kNetHeaderBytes;
  if (bytes < kFrameBytesMin || bytes > kFrameBytesMax) {
    facts_.tx_dropped++;
  } else {
    // Copied before it is looked at: the guest can change its own buffer meanwhile.
    const std::span<uint8_t> frame(frame_.data(), bytes);
    queue.copy_out(chain_, kNetHeaderBytes, frame);
    listen(frame);
    outbox_.append(OutputPort::kNet, frame);
    facts_.tx_frames++;
    facts_.tx_bytes += bytes;
  }
  queue.push_used(chain_.head, 0);
  return true;
}

// Learns the guest's address from what it says about itself.
//   Ethernet { dst 6; src 6; type 2 }  ARP  at 14: { hw 2; proto 2; 6; 4; op 2; sender mac, ip; … }
//                                      IPv4 at 14: { version/ihl 1; …; source at +12 }
void VirtioNet::listen(std::span<const uint8_t> frame) {
  const uint8_t* p = frame.data();
  const uint16_t type = be16(p + 12);
  if (type == kEtherTypeArp && frame.size() >= kArpFrameBytes) {
    static constexpr uint8_t kEthernetIpv4[] = {0, 1, 8, 0, 6, 4};
    if (std::memcmp(p + 14, kEthernetIpv4, sizeof(kEthernetIpv4)) != 0) return;
    hear(p + 22, p + 28, kHeardFromArp);
  } else if (type == kEtherTypeIpv4 && frame.size() >= kIpv4FrameBytesMin && p[14] >> 4 == 4) {
    hear(p + 6, p + 26, kHeardFromIpv4);
  }
}

// A guest that forwards shows others' IPv4 sources, so what it says in ARP counts for more.
void VirtioNet::hear(const uint8_t* mac, const uint8_t* ipv4, uint8_t from) {
  if (from < s_.heard_from || !is_host_mac(mac) || !is_host_ipv4(ipv4)) return;
  std::memcpy(s_.heard_mac, mac, sizeof(s_.heard_mac));
  std::memcpy(s_.heard_ipv4, ipv4, sizeof(s_.heard_ipv4));
  s_.heard_from = from;
}

MacAddress VirtioNet::mac() const {
  MacAddress mac;
  std::copy_n(s_.mac, mac.size(), mac.begin());
  return mac;
}

MacAddress VirtioNet::heard_mac() const {
  if (s_.heard_from == 0) return mac();
  MacAddress mac;
  std::copy_n(s_.heard_mac, mac.size(), mac.begin());
  return mac;
}

Ipv4Address VirtioNet::heard_ipv4() const {
  Ipv4Address ipv4;
  std::copy_n(s_.heard_ipv4, ipv4.size(), ipv4.begin());
  return ipv4;
}

void VirtioNet::set_link(bool up) {
  if ((s_.link_up != 0) == up) return;
  s_.link_up = up ? 1 : 0;
  transport_->config_changed();
}

void VirtioNet::capture(StateWriter& writer, uint16_t index) const {
  uint8_t* out = writer.add(StateKind::kVirtioNet, index, sizeof(s_));
  std::memcpy(out, &s_, sizeof(s_));
}

Status VirtioNet::restore(const StateReader& reader, uint16_t index) {
  const auto bytes = reader.find(StateKind::kVirtioNet, index);
  const auto bad = [&](const char* why) {
    return Error{"FT_ERR_STATE_FORMAT", 0,
                 "the network state of device " + std::to_string(index) + " is bad: " + why};
  };
  VirtioNetState state;
  if (bytes.size() != sizeof(state)) return bad("it is missing or has another length");
  std::memcpy(&state, bytes.data(), sizeof(state));
  if (state.version != VirtioNetState{}.version) return bad("unknown version");
  if (state.link_up > 1 || state.reserved != 0) return bad("a flag is neither 0 nor 1");
  if (state.heard_from > kHeardFromArp) return bad("the source of the address is unknown");
  if (state.heard_from != 0 && (!is_host_mac(state.heard_mac) || !is_host_ipv4(state.heard_ipv4))) {
    return bad("the address heard is not one that a host can have");
  }
  s_ = state;
  return Ok{};
}

}  // namespace ft

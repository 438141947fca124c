// Frames that tell the network where a guest now lives.
#include "machine/announce.h"

#include <cstring>

namespace ft {

namespace {

constexpr uint16_t kEtherTypeArp = 0x0806;
constexpr uint16_t kEtherTypeRarp = 0x8035;
constexpr uint16_t kArpRequest = 1;
constexpr uint16_t kArpReply = 2;
constexpr uint16_t kRarpRequest = 3;
constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr MacAddress kNoMac = {};
constexpr Ipv4Address kNoIpv4 = {};

// Writes front to back, most significant byte first.
class FrameWriter {
 public:
  explicit FrameWriter(AnnounceFrame* frame) : frame_(frame) { frame_->fill(0); }
  void u16(uint16_t value) {
    (*frame_)[at_++] = static_cast<uint8_t>(value >> 8);
    (*frame_)[at_++] = static_cast<uint8_t>(value);
  }
  template <size_t N>
  void bytes(const std::array<uint8_t, N>& value) {
    std::memcpy(frame_->data() + at_, value.data(), N);
    at_ += N;
  }

 private:
  AnnounceFrame* frame_;
  size_t at_ = 0;
};

// One Ethernet and IPv4 address resolution packet, broadcast from `mac`:
//   { u16 hardware 1; u16 protocol 0x0800; u8 6; u8 4; u16 operation;
//     sender mac, sender ip; target mac, target ip }
AnnounceFrame build(uint16_t ether_type, uint16_t operation, const MacAddress& mac,
                    const Ipv4Address& ipv4, const MacAddress& target_mac) {
  AnnounceFrame frame;
  FrameWriter w(&frame);
  w.bytes(kBroadcast);
  w.bytes(mac);
  w.u16(ether_type);
  w.u16(1);
  w.u16(0x0800);
  w.u16(0x0604);
  w.u16(operation);
  w.bytes(mac);
  w.bytes(ipv4);
  w.bytes(target_mac);
  w.bytes(ipv4);
  return frame;
}

}  // namespace

AnnounceFrame gratuitous_arp_request(const MacAddress& mac, const Ipv4Address& ipv4) {
  return build(kEtherTypeArp, kArpRequest, mac, ipv4, kNoMac);
}

AnnounceFrame gratuitous_arp_reply(const MacAddress& mac, const Ipv4Address& ipv4) {
  return build(kEtherTypeArp, kArpReply, mac, ipv4, kBroadcast);
}

AnnounceFrame rarp_request(const MacAddress& mac) {
  return build(kEtherTypeRarp, kRarpRequest, mac, kNoIpv4, mac);
}

}  // namespace ft

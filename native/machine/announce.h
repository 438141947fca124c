// Frames that tell the network where a guest now lives: sent on promotion, before anything else,
// so that switches learn the new port and neighbours renew their ARP entries.
//
//   Ethernet { dst ff:…:ff; src mac; type }   ARP 0x0806 / RARP 0x8035, 28 bytes, padded to 60
//
// Sources: RFC 826 (ARP), RFC 5227 §3 (announcement), RFC 903 (RARP).
#pragma once

#include <array>
#include <cstdint>

#include "machine/virtio_net.h"

namespace ft {

inline constexpr size_t kAnnounceFrameBytes = 60;
using AnnounceFrame = std::array<uint8_t, kAnnounceFrameBytes>;

/// Gratuitous ARP as a request: sender and target are the guest's own address.
AnnounceFrame gratuitous_arp_request(const MacAddress& mac, const Ipv4Address& ipv4);
/// Gratuitous ARP as a reply, for neighbours that take no notice of the request.
AnnounceFrame gratuitous_arp_reply(const MacAddress& mac, const Ipv4Address& ipv4);
/// RARP request for `mac`: moves the switches' tables when no IP address is known.
AnnounceFrame rarp_request(const MacAddress& mac);

}  // namespace ft

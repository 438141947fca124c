/* Ethernet and IPv4: what is not for us, broken or in fragments is dropped without a word. */
#include "stack.h"

#include "checksum.h"
#include "memory.h"
#include "net.h"
#include "tcp.h"

#define FRAGMENT_MASK 0x3fff /* more-fragments and the offset */
#define DO_NOT_FRAGMENT 0x4000
#define HEADERS_BYTES (sizeof(struct EthernetHeader) + sizeof(struct Ipv4Header))

HOT u32 stack_ip;
HOT static u16 next_id;
HOT static u8* answer_frame;

void stack_init(u32 ip) {
  stack_ip = ip;
}

static bool for_us(const u8* destination) {
  static const u8 broadcast[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  return memcmp(destination, net_mac, 6) == 0 || memcmp(destination, broadcast, 6) == 0;
}

static void ipv4_receive(const u8* frame, u32 length) {
  struct Packet packet = {(const void*)frame, (const void*)(frame + sizeof(struct EthernetHeader)),
                          NULL, 0};
  u32 room = length - (u32)sizeof(struct EthernetHeader);
  if (room < sizeof(struct Ipv4Header)) return;
  u32 header_bytes = (packet.ip->version_length & 15) * 4u;
  u32 total = swap16(packet.ip->total_length);
  if (packet.ip->version_length >> 4 != 4 || header_bytes < sizeof(struct Ipv4Header)) return;
  if (total < header_bytes || total > room) return;
  if (packet.ip->destination != stack_ip) return;
  if ((swap16(packet.ip->fragment) & FRAGMENT_MASK) != 0) return;
  if (checksum_finish(checksum_add(0, packet.ip, header_bytes)) != 0) return;
  packet.payload = (const u8*)packet.ip + header_bytes;
  packet.length = total - header_bytes;
  if (packet.ip->protocol == PROTOCOL_UDP) {
    udp_receive(&packet);
  } else if (packet.ip->protocol == PROTOCOL_ICMP) {
    icmp_receive(&packet);
  } else if (packet.ip->protocol == PROTOCOL_TCP) {
    tcp_receive(&packet);
  }
}

void stack_receive(const u8* frame, u32 length) {
  const struct EthernetHeader* ethernet = (const void*)frame;
  if (!for_us(ethernet->destination)) return;
  u16 type = swap16(ethernet->type);
  if (type == ETHERNET_TYPE_IPV4) {
    ipv4_receive(frame, length);
  } else if (type == ETHERNET_TYPE_ARP) {
    arp_receive(frame, length);
  }
}

u8* stack_answer_begin(void) {
  answer_frame = net_send_begin();
  return answer_frame == NULL ? NULL : answer_frame + HEADERS_BYTES;
}

void stack_send(const u8* to_mac, u32 to_ip, u8 protocol, u32 length) {
  struct EthernetHeader* ethernet = (void*)answer_frame;
  struct Ipv4Header* ip = (void*)(answer_frame + sizeof *ethernet);
  memcpy(ethernet->destination, to_mac, 6);
  memcpy(ethernet->source, net_mac, 6);
  ethernet->type = swap16(ETHERNET_TYPE_IPV4);
  ip->version_length = 0x45;
  ip->service = 0;
  ip->total_length = swap16((u16)(sizeof *ip + length));
  ip->id = swap16(next_id++);
  ip->fragment = swap16(DO_NOT_FRAGMENT);
  ip->ttl = 64;
  ip->protocol = protocol;
  ip->checksum = 0;
  ip->source = stack_ip;
  ip->destination = to_ip;
  ip->checksum = checksum_finish(checksum_add(0, ip, sizeof *ip));
  net_send((u32)HEADERS_BYTES + length);
}

void stack_answer(const struct Packet* packet, u32 length) {
  stack_send(packet->ethernet->source, packet->ip->source, packet->ip->protocol, length);
}

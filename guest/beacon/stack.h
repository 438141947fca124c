/* The little network stack: Ethernet, ARP, IPv4, ICMP echo, UDP, TCP. Answers go to whoever asked:
 * addresses and ports are swapped, there is no routing and no cache. */
#pragma once

#include "types.h"

struct PACKED EthernetHeader {
  u8 destination[6];
  u8 source[6];
  u16 type; /* big-endian, like everything here */
};

struct PACKED Ipv4Header {
  u8 version_length;
  u8 service;
  u16 total_length;
  u16 id;
  u16 fragment;
  u8 ttl;
  u8 protocol;
  u16 checksum;
  u32 source;
  u32 destination;
};

#define ETHERNET_TYPE_IPV4 0x0800
#define ETHERNET_TYPE_ARP 0x0806
#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17

/* What an upper layer gets: a checked IPv4 packet and its payload. */
struct Packet {
  const struct EthernetHeader* ethernet;
  const struct Ipv4Header* ip;
  const u8* payload;
  u32 length;
};

/* Our address, as it lies on the wire. */
extern u32 stack_ip;

void stack_init(u32 ip);
/* One received frame; answers, if any, are queued with net_send(). */
void stack_receive(const u8* frame, u32 length);
/* Begins a packet: room for its payload after both headers, null if there is none. */
u8* stack_answer_begin(void);
/* Writes both headers before a payload of `length` bytes and queues the frame. */
void stack_send(const u8* to_mac, u32 to_ip, u8 protocol, u32 length);
/* The same, to whoever sent `packet`. */
void stack_answer(const struct Packet* packet, u32 length);

/* arp.c */
void arp_receive(const u8* frame, u32 length);
/* Tells everyone on the wire where our address lives. */
void arp_announce(void);
/* icmp.c */
void icmp_receive(const struct Packet* packet);
/* udp.c */
struct Route;
struct BeaconAnswer;
void udp_receive(const struct Packet* packet);
/* Whether udp_answer() may be called. */
bool udp_has_room(void);
/* Queues an answer to a request that came earlier along `route`. */
void udp_answer(const struct Route* route, const struct BeaconAnswer* answer);

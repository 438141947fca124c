/* ARP: answers who asks for our address, and announces it once at the start. */
#include "memory.h"
#include "net.h"
#include "stack.h"

struct PACKED ArpMessage {
  u16 hardware;
  u16 protocol;
  u8 hardware_bytes;
  u8 protocol_bytes;
  u16 operation;
  u8 sender_mac[6];
  u32 sender_ip;
  u8 target_mac[6];
  u32 target_ip;
};
_Static_assert(sizeof(struct ArpMessage) == 28, "RFC 826 for Ethernet and IPv4");

#define REQUEST 1
#define REPLY 2

static void send(const u8* to_mac, u16 operation, const u8* target_mac, u32 target_ip) {
  u8* frame = net_send_begin();
  if (frame == NULL) return;
  struct EthernetHeader* ethernet = (void*)frame;
  struct ArpMessage* arp = (void*)(frame + sizeof *ethernet);
  memcpy(ethernet->destination, to_mac, 6);
  memcpy(ethernet->source, net_mac, 6);
  ethernet->type = swap16(ETHERNET_TYPE_ARP);
  arp->hardware = swap16(1);
  arp->protocol = swap16(ETHERNET_TYPE_IPV4);
  arp->hardware_bytes = 6;
  arp->protocol_bytes = 4;
  arp->operation = swap16(operation);
  memcpy(arp->sender_mac, net_mac, 6);
  arp->sender_ip = stack_ip;
  memcpy(arp->target_mac, target_mac, 6);
  arp->target_ip = target_ip;
  net_send((u32)(sizeof *ethernet + sizeof *arp));
}

void arp_receive(const u8* frame, u32 length) {
  if (length < sizeof(struct EthernetHeader) + sizeof(struct ArpMessage)) return;
  const struct ArpMessage* arp = (const void*)(frame + sizeof(struct EthernetHeader));
  if (arp->hardware != swap16(1) || arp->protocol != swap16(ETHERNET_TYPE_IPV4)) return;
  if (arp->operation != swap16(REQUEST) || arp->target_ip != stack_ip) return;
  if (arp->sender_ip == stack_ip) return; /* another one's announcement of our own address */
  send(arp->sender_mac, REPLY, arp->sender_mac, arp->sender_ip);
}

void arp_announce(void) {
  static const u8 everyone[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
  static const u8 nobody[6] = {0};
  send(everyone, REQUEST, nobody, stack_ip);
  net_flush();
}

/* UDP: the one port there is, with checksums checked and computed. */
#include "checksum.h"
#include "memory.h"
#include "net.h"
#include "service.h"
#include "stack.h"

struct PACKED UdpHeader {
  u16 source;
  u16 destination;
  u16 length;
  u16 checksum;
};

/* The sum over header, payload and the pseudo header of addresses, protocol and length. */
static u64 sum(const struct UdpHeader* udp, u32 length, u32 source, u32 destination) {
  return checksum_add(checksum_pseudo(source, destination, PROTOCOL_UDP, length), udp, length);
}

void udp_receive(const struct Packet* packet) {
  const struct UdpHeader* request = (const void*)packet->payload;
  if (packet->length < sizeof *request) return;
  u32 length = swap16(request->length);
  if (length < sizeof *request || length > packet->length) return;
  if (request->destination != swap16(BEACON_PORT)) return;
  if (request->checksum != 0 &&
      checksum_finish(sum(request, length, packet->ip->source, packet->ip->destination)) != 0) {
    return;
  }
  /* Room first: a request that changed something must get its answer out. */
  if (!udp_has_room()) return;
  struct Route route = {.port = request->source, .ip = packet->ip->source};
  memcpy(route.mac, packet->ethernet->source, sizeof route.mac);
  const struct BeaconAnswer* answer =
      service_request(packet->payload + sizeof *request, length - (u32)sizeof *request, &route);
  if (answer != NULL) udp_answer(&route, answer);
}

bool udp_has_room(void) {
  return stack_answer_begin() != NULL;
}

void udp_answer(const struct Route* route, const struct BeaconAnswer* answer) {
  u8* payload = stack_answer_begin();
  if (payload == NULL) return;
  struct UdpHeader* udp = (void*)payload;
  u32 length = (u32)(sizeof *udp + sizeof *answer);
  udp->source = swap16(BEACON_PORT);
  udp->destination = route->port;
  udp->length = swap16((u16)length);
  udp->checksum = 0;
  memcpy(udp + 1, answer, sizeof *answer);
  u16 checksum = checksum_finish(sum(udp, length, stack_ip, route->ip));
  udp->checksum = checksum == 0 ? 0xffff : checksum; /* 0 would mean: none computed */
  stack_send(route->mac, route->ip, PROTOCOL_UDP, length);
}

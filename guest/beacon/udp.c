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
  u8* payload = stack_answer_begin();
  if (payload == NULL) return;
  const struct BeaconAnswer* answer =
      service_request(packet->payload + sizeof *request, length - (u32)sizeof *request);
  if (answer == NULL) return;

  struct UdpHeader* udp = (void*)payload;
  u32 answer_length = (u32)(sizeof *udp + sizeof *answer);
  udp->source = request->destination;
  udp->destination = request->source;
  udp->length = swap16((u16)answer_length);
  udp->checksum = 0;
  memcpy(udp + 1, answer, sizeof *answer);
  u16 checksum = checksum_finish(sum(udp, answer_length, stack_ip, packet->ip->source));
  udp->checksum = checksum == 0 ? 0xffff : checksum; /* 0 would mean: none computed */
  stack_answer(packet, answer_length);
}

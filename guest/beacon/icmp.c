/* ICMP: echo requests are answered, all else is ignored. */
#include "checksum.h"
#include "memory.h"
#include "net.h"
#include "stack.h"

struct PACKED IcmpHeader {
  u8 type;
  u8 code;
  u16 checksum;
  u32 rest;
};

#define ECHO_REPLY 0
#define ECHO_REQUEST 8
#define PAYLOAD_BYTES_MAX (FRAME_BYTES_MAX - 34)

void icmp_receive(const struct Packet* packet) {
  const struct IcmpHeader* request = (const void*)packet->payload;
  if (packet->length < sizeof *request || packet->length > PAYLOAD_BYTES_MAX) return;
  if (request->type != ECHO_REQUEST || request->code != 0) return;
  if (checksum_finish(checksum_add(0, packet->payload, packet->length)) != 0) return;
  u8* payload = stack_answer_begin();
  if (payload == NULL) return;
  memcpy(payload, packet->payload, packet->length);
  struct IcmpHeader* reply = (void*)payload;
  reply->type = ECHO_REPLY;
  reply->checksum = 0;
  reply->checksum = checksum_finish(checksum_add(0, payload, packet->length));
  stack_answer(packet, packet->length);
}

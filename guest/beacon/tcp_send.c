/* Segments out: what the windows allow, once; again after a timeout, from the first that is not
 * acknowledged, with the timeout doubled and the flow begun anew (one segment, then ever more). */
#include "checksum.h"
#include "memory.h"
#include "pvclock.h"
#include "tcp_connection.h"

#define OPTION_MSS 2
#define OPTION_MSS_BYTES 4
#define WINDOW_UPDATE_BYTES 2048 /* a window wider by this is worth a segment of its own */
#define TRIES_HALF_OPEN_MAX 5
#define TRIES_MAX 120

struct Outgoing {
  const u8* mac;
  u32 ip;
  u16 port;
  u16 own_port;
  u32 sequence;
  u32 acknowledgement;
  u16 window;
  u8 flags;
  u32 bytes; /* of data, which lie behind the header already */
};

/* The header (with our MSS in a SYN) in front of the data, and off it goes. */
static void transmit(u8* payload, const struct Outgoing* out) {
  struct TcpHeader* tcp = (void*)payload;
  u32 header_bytes = sizeof *tcp;
  if ((out->flags & TCP_SYN) != 0) {
    const u8 option[] = {OPTION_MSS, OPTION_MSS_BYTES, SEGMENT_BYTES_MAX >> 8,
                         SEGMENT_BYTES_MAX & 255};
    memcpy(payload + header_bytes, option, sizeof option);
    header_bytes += sizeof option;
  }
  tcp->source = out->own_port;
  tcp->destination = out->port;
  tcp->sequence = swap32(out->sequence);
  tcp->acknowledgement = swap32(out->acknowledgement);
  tcp->offset = (u8)(header_bytes / 4 << 4);
  tcp->flags = out->flags;
  tcp->window = swap16(out->window);
  tcp->checksum = 0;
  tcp->urgent = 0;
  u32 length = header_bytes + out->bytes;
  u64 sum = checksum_pseudo(stack_ip, out->ip, PROTOCOL_TCP, length);
  tcp->checksum = checksum_finish(checksum_add(sum, payload, length));
  stack_send(out->mac, out->ip, PROTOCOL_TCP, length);
}

/* `bytes` of the answers from `sequence` on. False while the device holds all buffers. */
static bool send_segment(struct Connection* c, u32 sequence, u32 bytes, u8 flags) {
  u8* payload = stack_answer_begin();
  if (payload == NULL) return false;
  u8* to = payload + sizeof(struct TcpHeader);
  const u8* from = connection_buffer(c);
  u32 at = sequence % SEND_BYTES;
  u32 first = smaller(bytes, SEND_BYTES - at);
  memcpy(to, from + at, first);
  memcpy(to + first, from, bytes - first);
  u32 window = connection_window(c);
  c->offered = c->expected + window;
  c->ack_due = false;
  const struct Outgoing out = {
      .mac = c->mac,
      .ip = c->ip,
      .port = c->port,
      .own_port = swap16(TCP_PORT),
      .sequence = sequence,
      .acknowledgement = c->expected,
      .window = (u16)window,
      .flags = flags,
      .bytes = bytes,
  };
  transmit(payload, &out);
  return true;
}

static void advance(struct Connection* c, u32 length) {
  c->next += length;
  if (!before(c->sent, c->next)) return;
  c->sent = c->next;
  if (c->timing) return;
  c->timing = true;
  c->timed = c->next;
  c->timed_ns = pvclock_now_ns();
}

/* The next segment, if there is one and the windows allow it. */
static bool send_next(struct Connection* c) {
  u32 limit = connection_limit(c);
  if (c->next == limit) return false;
  u32 left = c->end - c->next;
  u32 window = smaller(c->peer_window, c->congestion);
  u32 on_its_way = c->next - c->una;
  u32 room = window > on_its_way ? window - on_its_way : 0;
  u32 bytes = smaller(smaller(left, c->segment_bytes), room);
  bool last = bytes == left;
  /* A small segment that is not the last waits while others are on their way. */
  if (!last && (bytes == 0 || (bytes < c->segment_bytes && on_its_way > 0))) return false;
  u8 flags = TCP_ACK;
  if (last) flags |= TCP_PSH;
  if (last && c->closing) flags |= TCP_FIN;
  if (!send_segment(c, c->next, bytes, flags)) return false;
  advance(c, bytes + ((flags & TCP_FIN) != 0));
  return true;
}

/* The peer's window is closed: one byte into it, so that a lost "open again" is said again. */
static void probe(struct Connection* c) {
  u32 bytes = c->end == c->una ? 0 : 1;
  if (!send_segment(c, c->una, bytes, bytes == 1 ? TCP_ACK : TCP_ACK | TCP_FIN)) return;
  advance(c, 1);
}

void tcp_queue(struct Connection* c, const void* bytes, u32 length) {
  u8* to = connection_buffer(c);
  u32 at = c->end % SEND_BYTES;
  u32 first = smaller(length, SEND_BYTES - at);
  memcpy(to + at, bytes, first);
  memcpy(to, (const u8*)bytes + first, length - first);
  c->end += length;
}

void tcp_output(struct Connection* c) {
  while (send_next(c)) {
  }
  if (c->una != connection_limit(c) && c->deadline_ns == NEVER) {
    connection_set_deadline(c, pvclock_now_ns() + c->timeout_us * 1000ull);
  }
  u32 edge = c->expected + connection_window(c);
  if (!c->peer_closed && (s32)(edge - c->offered) >= WINDOW_UPDATE_BYTES) c->ack_due = true;
  if (c->ack_due) send_segment(c, c->sent, 0, TCP_ACK);
}

void tcp_acknowledge(struct Connection* c) {
  if (c->state == kHalfOpen) {
    send_segment(c, c->una, 0, TCP_SYN | TCP_ACK);
  } else {
    send_segment(c, c->sent, 0, TCP_ACK);
  }
}

void tcp_send_missing(struct Connection* c) {
  bool fin_sent = c->closing && c->sent == connection_limit(c);
  u32 left = c->sent - c->una - (fin_sent ? 1 : 0);
  u32 bytes = smaller(left, c->segment_bytes);
  u8 flags = bytes == left && fin_sent ? TCP_ACK | TCP_FIN : TCP_ACK;
  send_segment(c, c->una, bytes, flags);
  c->timing = false;
  c->congestion = c->congestion / 2;
  if (c->congestion < 2u * c->segment_bytes) c->congestion = 2u * c->segment_bytes;
}

void tcp_timed_out(struct Connection* c, u64 now_ns) {
  bool all_acknowledged = c->una == connection_limit(c);
  if (c->state == kTimeWait || (c->closing && all_acknowledged)) {
    connection_release(c);
    return;
  }
  if (all_acknowledged) return;
  c->tries++;
  if (c->tries > (c->state == kHalfOpen ? TRIES_HALF_OPEN_MAX : TRIES_MAX)) {
    if (c->state == kOpen) send_segment(c, c->una, 0, TCP_RST | TCP_ACK);
    connection_release(c);
    return;
  }
  c->timeout_us = smaller(2 * c->timeout_us, TIMEOUT_US_MAX);
  c->timing = false;
  c->duplicates = 0;
  if (c->state == kHalfOpen) {
    tcp_acknowledge(c);
  } else {
    c->next = c->una;
    c->congestion = c->segment_bytes;
    if (c->peer_window == 0) {
      probe(c);
    } else {
      tcp_output(c);
    }
  }
  connection_set_deadline(c, now_ns + c->timeout_us * 1000ull);
}

void tcp_refuse(const struct Segment* segment) {
  u8* payload = stack_answer_begin();
  if (payload == NULL) return;
  bool known = (segment->flags & TCP_ACK) != 0;
  const struct Outgoing out = {
      .mac = segment->packet->ethernet->source,
      .ip = segment->packet->ip->source,
      .port = segment->port,
      .own_port = segment->own_port,
      .sequence = known ? segment->acknowledgement : 0,
      .acknowledgement = known ? 0 : segment->sequence + segment_length(segment),
      .flags = known ? TCP_RST : TCP_RST | TCP_ACK,
  };
  transmit(payload, &out);
}

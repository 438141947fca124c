/* Segments in: RFC 9293, with the cautions of RFC 5961 (only an exact RST ends a connection). What
 * comes out of order is dropped and acknowledged again, so that the peer sends it anew. */
#include "checksum.h"
#include "memory.h"
#include "pvclock.h"
#include "tcp_connection.h"

#define OPTION_END 0
#define OPTION_NOTHING 1
#define OPTION_MSS 2
#define SEGMENT_BYTES_DEFAULT 536
#define SEGMENT_BYTES_MIN 64
#define SEGMENTS_FIRST 10 /* sent before anything is acknowledged (RFC 6928) */
#define DUPLICATES_MEAN_LOSS 3
#define TIMEOUT_US_MIN TIMEOUT_US_FIRST
#define RTT_US_MAX 10000000u
#define TIME_WAIT_NS 1000000000ull
#define PEER_CLOSE_NS (10 * 1000000000ull) /* how long its FIN may follow ours */

static u16 mss_option(const u8* at, u32 left) {
  while (left > 0 && at[0] != OPTION_END) {
    u32 length = 1;
    if (at[0] != OPTION_NOTHING) {
      if (left < 2 || at[1] < 2 || at[1] > left) break;
      length = at[1];
      if (at[0] == OPTION_MSS && length == 4) {
        u32 mss = (u32)at[2] << 8 | at[3];
        if (mss < SEGMENT_BYTES_MIN) return SEGMENT_BYTES_MIN;
        return (u16)smaller(mss, SEGMENT_BYTES_MAX);
      }
    }
    at += length;
    left -= length;
  }
  return SEGMENT_BYTES_DEFAULT;
}

/* Someone's own address: not everyone's, not a group's, not ours. */
static bool unicast(const struct Packet* packet) {
  u32 ip = packet->ip->source;
  u32 first = ip & 255;
  return first != 0 && first != 127 && first < 224 && ip != stack_ip &&
         (packet->ethernet->destination[0] & 1) == 0 && (packet->ethernet->source[0] & 1) == 0;
}

static bool parse(const struct Packet* packet, struct Segment* segment) {
  const struct TcpHeader* tcp = (const void*)packet->payload;
  if (packet->length < sizeof *tcp || !unicast(packet)) return false;
  u32 header_bytes = (tcp->offset >> 4) * 4u;
  if (header_bytes < sizeof *tcp || header_bytes > packet->length) return false;
  u64 sum = checksum_pseudo(packet->ip->source, stack_ip, PROTOCOL_TCP, packet->length);
  if (checksum_finish(checksum_add(sum, tcp, packet->length)) != 0) return false;
  *segment = (struct Segment){
      .packet = packet,
      .data = packet->payload + header_bytes,
      .bytes = packet->length - header_bytes,
      .sequence = swap32(tcp->sequence),
      .acknowledgement = swap32(tcp->acknowledgement),
      .port = tcp->source,
      .own_port = tcp->destination,
      .window = swap16(tcp->window),
      .segment_bytes = mss_option(packet->payload + sizeof *tcp, header_bytes - sizeof *tcp),
      .flags = tcp->flags,
  };
  return true;
}

/* A SYN for us: a new connection, half open. Data that came with it will come again. */
static void open_half(const struct Segment* segment) {
  u64 now_ns = pvclock_now_ns();
  struct Connection* c = connection_take(now_ns);
  if (c == NULL) {
    tcp_refuse(segment);
    return;
  }
  c->state = kHalfOpen;
  c->ip = segment->packet->ip->source;
  c->port = segment->port;
  memcpy(c->mac, segment->packet->ethernet->source, sizeof c->mac);
  c->segment_bytes = segment->segment_bytes;
  c->una = connection_first_sequence(c->ip, c->port, now_ns);
  c->end = c->sent = c->next = c->una + 1;
  c->peer_window = segment->window;
  c->window_sequence = segment->sequence;
  c->congestion = SEGMENTS_FIRST * (u32)c->segment_bytes;
  c->expected = segment->sequence + 1;
  c->timing = true;
  c->timed = c->next;
  c->timed_ns = now_ns;
  c->timeout_us = TIMEOUT_US_FIRST;
  c->heard_ns = now_ns;
  messages_begin(&c->stream);
  connection_set_deadline(c, now_ns + c->timeout_us * 1000ull);
  tcp_acknowledge(c);
}

static bool new_syn(const struct Segment* segment) {
  return (segment->flags & (TCP_SYN | TCP_ACK | TCP_FIN | TCP_RST)) == TCP_SYN;
}

/* Neither wholly before what we have (by more than a window) nor behind what we offered. */
static bool acceptable(const struct Connection* c, const struct Segment* segment) {
  u32 behind = segment->sequence + segment_length(segment);
  return !before(behind, c->expected - SEND_BYTES) && !before(c->offered, segment->sequence);
}

/* RFC 6298, in integers. */
static void measure(struct Connection* c, u64 ns) {
  u32 us = ns / 1000 < RTT_US_MAX ? (u32)(ns / 1000) + 1 : RTT_US_MAX;
  if (c->rtt_us == 0) {
    c->rtt_us = us;
    c->rtt_var_us = us / 2;
    return;
  }
  u32 error = us > c->rtt_us ? us - c->rtt_us : c->rtt_us - us;
  c->rtt_var_us = c->rtt_var_us - c->rtt_var_us / 4 + error / 4;
  c->rtt_us = c->rtt_us - c->rtt_us / 8 + us / 8;
  if (c->rtt_us == 0) c->rtt_us = 1;
}

static void acknowledged(struct Connection* c, u32 up_to, u64 now_ns) {
  u32 bytes = up_to - c->una;
  c->una = up_to;
  if (before(c->next, up_to)) c->next = up_to;
  c->duplicates = 0;
  c->congestion = smaller(c->congestion + smaller(bytes, c->segment_bytes), SEND_BYTES);
  if (c->timing && !before(up_to, c->timed)) {
    c->timing = false;
    measure(c, now_ns - c->timed_ns);
  }
  c->timeout_us = TIMEOUT_US_FIRST;
  if (c->rtt_us != 0) {
    u32 us = smaller(c->rtt_us + 4 * c->rtt_var_us, TIMEOUT_US_MAX);
    c->timeout_us = us < TIMEOUT_US_MIN ? TIMEOUT_US_MIN : us;
  }
  bool all = c->una == connection_limit(c);
  connection_set_deadline(c, all ? NEVER : now_ns + c->timeout_us * 1000ull);
}

/* What the segment says about what we sent. False when the rest of it must not be believed. */
static bool take_acknowledgement(struct Connection* c, const struct Segment* segment, u64 now_ns) {
  u32 ack = segment->acknowledgement;
  if (before(c->sent, ack)) {
    tcp_acknowledge(c);
    return false;
  }
  c->tries = 0;
  c->heard_ns = now_ns;
  bool same_window = segment->window == c->peer_window;
  if (!before(ack, c->una) && !before(segment->sequence, c->window_sequence)) {
    c->peer_window = segment->window;
    c->window_sequence = segment->sequence;
  }
  if (before(c->una, ack)) {
    acknowledged(c, ack, now_ns);
  } else if (ack == c->una && c->una != c->sent && segment_length(segment) == 0 && same_window &&
             c->peer_window > 0) {
    if (c->duplicates < 255) c->duplicates++;
    if (c->duplicates == DUPLICATES_MEAN_LOSS) tcp_send_missing(c);
  }
  return true;
}

/* The next bytes of the stream. After the record that is the last, they are thrown away. */
static void take_bytes(struct Connection* c, const u8* at, u32 left) {
  c->expected += left;
  if (c->closing) return;
  struct MessageAnswer answer;
  while (messages_next(&c->stream, &at, &left, &answer)) {
    tcp_queue(c, &answer, sizeof answer);
    if (answer.number != MESSAGE_LAST) continue;
    c->closing = true;
    c->closed_first = true;
    return;
  }
}

static void take_data(struct Connection* c, const struct Segment* segment) {
  if (segment_length(segment) == 0) {
    /* From before what we have: someone asks whether we still live. */
    if (before(segment->sequence, c->expected)) c->ack_due = true;
    return;
  }
  c->ack_due = true;
  if (c->peer_closed || before(c->expected, segment->sequence)) return;
  u32 known = c->expected - segment->sequence;
  if (known > segment->bytes) return;
  u32 fresh = smaller(segment->bytes - known, connection_window(c));
  take_bytes(c, segment->data + known, fresh);
  bool whole = c->expected == segment->sequence + segment->bytes;
  if ((segment->flags & TCP_FIN) == 0 || !whole) return;
  c->expected++;
  c->peer_closed = true;
  c->closing = true; /* everything is answered already: nothing more will come from us */
}

/* Both directions are closed and we know it, or only ours is. */
static void end_if_over(struct Connection* c, u64 now_ns) {
  if (!c->closing || c->una != connection_limit(c)) return;
  if (!c->peer_closed) {
    if (c->deadline_ns == NEVER) connection_set_deadline(c, now_ns + PEER_CLOSE_NS);
  } else if (c->closed_first) {
    c->state = kTimeWait;
    connection_set_deadline(c, now_ns + TIME_WAIT_NS);
  } else {
    connection_release(c);
  }
}

static void take_segment(struct Connection* c, const struct Segment* segment) {
  bool reset = (segment->flags & TCP_RST) != 0;
  if (reset && segment->sequence == c->expected) {
    connection_release(c);
    return;
  }
  if (!acceptable(c, segment)) {
    if (!reset) tcp_acknowledge(c);
    return;
  }
  if (reset || (segment->flags & TCP_SYN) != 0) {
    /* Old, or a forgery: who really means it answers our acknowledgement with an exact RST. */
    tcp_acknowledge(c);
    return;
  }
  if ((segment->flags & TCP_ACK) == 0) return;
  if (c->state == kHalfOpen) {
    if (segment->acknowledgement != c->next) {
      tcp_refuse(segment);
      return;
    }
    c->state = kOpen;
  }
  u64 now_ns = pvclock_now_ns();
  if (!take_acknowledgement(c, segment, now_ns)) return;
  memcpy(c->mac, segment->packet->ethernet->source, sizeof c->mac);
  take_data(c, segment);
  tcp_output(c);
  end_if_over(c, now_ns);
}

void tcp_receive(const struct Packet* packet) {
  struct Segment segment;
  if (!parse(packet, &segment)) return;
  bool ours = segment.own_port == swap16(TCP_PORT);
  struct Connection* c = ours ? connection_find(packet->ip->source, segment.port) : NULL;
  if (c != NULL && c->state == kTimeWait) {
    bool again = new_syn(&segment) && before(c->expected, segment.sequence);
    if (!again) {
      /* The peer's FIN once more: our acknowledgement was lost. */
      if ((segment.flags & TCP_RST) == 0 && segment_length(&segment) > 0) tcp_acknowledge(c);
      return;
    }
    connection_release(c);
    c = NULL;
  }
  if (c != NULL) {
    take_segment(c, &segment);
  } else if (ours && new_syn(&segment)) {
    open_half(&segment);
  } else if ((segment.flags & TCP_RST) == 0) {
    tcp_refuse(&segment);
  }
}

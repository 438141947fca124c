/* One connection, and what the three files of TCP share.
 *
 *                SYN                  the ACK of our SYN
 *     kFree ───────────▶ kHalfOpen ─────────────────────▶ kOpen
 *       ▲                    │ not confirmed in time        │
 *       ├────────────────────┘                              │
 *       ├── RST, or silence in spite of everything sent ────┤
 *       ├── both FINs acknowledged, the peer's came first ──┤
 *       │                                                   │ … ours came first
 *       └──────── a second later ──────── kTimeWait ◀───────┘
 *
 * What we send, as sequence numbers; the byte with number n lies at n mod SEND_BYTES:
 *
 *     ── acknowledged ── una ── on its way ── next ── to be sent ── end [FIN]
 *
 * After a timeout `next` goes back to `una`; `sent` is the farthest that `next` ever was.
 *
 * Each record of 16 bytes gives an answer of 32, so the window we offer is half of the room for
 * answers, less the bytes of a record begun. It shrinks by exactly what is taken: its right edge
 * never goes back, and what it lets in always finds room.
 */
#pragma once

#include "messages.h"
#include "tcp.h"
#include "types.h"

#define CONNECTIONS_MAX 32
#define SEND_BYTES 16384u

#define SEGMENT_BYTES_MAX 1460
#define TIMEOUT_US_FIRST 60000u /* above the 40 ms that Linux delays an acknowledgement */
#define TIMEOUT_US_MAX 1000000u /* short, since what we wait for is a host that is replaced */

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_PSH 8
#define TCP_ACK 16

struct PACKED TcpHeader {
  u16 source;
  u16 destination;
  u32 sequence;
  u32 acknowledgement;
  u8 offset; /* header length in words, in the upper half */
  u8 flags;
  u16 window;
  u16 checksum;
  u16 urgent;
};
_Static_assert(sizeof(struct TcpHeader) == 20, "RFC 9293");

/* A received segment, checked; numbers in our byte order, addresses and ports as on the wire. */
struct Segment {
  const struct Packet* packet;
  const u8* data;
  u32 bytes;
  u32 sequence;
  u32 acknowledgement;
  u16 port;
  u16 own_port;
  u16 window;
  u16 segment_bytes; /* the peer's MSS option, or its default */
  u8 flags;
};
/* How far it reaches in sequence numbers. */
static inline u32 segment_length(const struct Segment* segment) {
  return segment->bytes + ((segment->flags & TCP_SYN) != 0) + ((segment->flags & TCP_FIN) != 0);
}

enum ConnectionState { kFree, kHalfOpen, kOpen, kTimeWait };

struct Connection {
  u32 ip; /* of the peer; these three as on the wire */
  u16 port;
  u8 mac[6];
  u8 state;
  bool closing;      /* our FIN follows the last answer */
  bool closed_first; /* and the peer's had not come when we decided so */
  bool peer_closed;  /* the peer's FIN has come */
  bool ack_due;
  bool timing; /* a round trip is being measured */
  u8 duplicates;
  u16 tries; /* timeouts since the peer was last heard */
  u16 segment_bytes;

  u32 una;
  u32 next;
  u32 sent;
  u32 end;
  u32 peer_window;
  u32 window_sequence; /* of the segment that told peer_window */
  u32 congestion;      /* most bytes on their way */

  u32 expected; /* the next byte we take */
  u32 offered;  /* the right edge of the window we told */

  u32 timed;  /* measured until this is acknowledged */
  u32 rtt_us; /* 0: never measured */
  u32 rtt_var_us;
  u32 timeout_us;
  u64 timed_ns;
  u64 heard_ns;
  u64 deadline_ns; /* sends again, ends waiting; NEVER when there is nothing to wait for */
  struct MessageStream stream;
} __attribute__((aligned(64)));

static inline bool before(u32 a, u32 b) {
  return (s32)(a - b) < 0;
}
static inline u32 smaller(u32 a, u32 b) {
  return a < b ? a : b;
}
/* Behind the last that we have to send: answers, and then our FIN. */
static inline u32 connection_limit(const struct Connection* c) {
  return c->end + (c->closing ? 1 : 0);
}
/* How many bytes can be taken now. */
static inline u32 connection_window(const struct Connection* c) {
  u32 room = SEND_BYTES - (c->end - c->una);
  return room / (u32)sizeof(struct MessageAnswer) * (u32)sizeof(struct MessageRecord) -
         c->stream.held;
}

/* tcp_table.c */
struct Connection* connection_find(u32 ip, u16 port);
/* A free place, zeroed but for its deadline; if need be that of a connection that has to go. Null
 * when every one is open and in use. */
struct Connection* connection_take(u64 now_ns);
void connection_release(struct Connection* c);
void connection_set_deadline(struct Connection* c, u64 at_ns);
/* SEND_BYTES for what is not acknowledged. */
u8* connection_buffer(const struct Connection* c);
/* A first sequence number that strangers cannot guess and that moves on with the clock. */
u32 connection_first_sequence(u32 ip, u16 port, u64 now_ns);

/* tcp_send.c */
/* Appends an answer to what is to be sent. There must be room. */
void tcp_queue(struct Connection* c, const void* bytes, u32 length);
/* Sends what the windows allow, and an acknowledgement if one is due. */
void tcp_output(struct Connection* c);
/* An acknowledgement at once; while half open, our SYN with it. */
void tcp_acknowledge(struct Connection* c);
/* The first unacknowledged segment again, because the peer misses it. */
void tcp_send_missing(struct Connection* c);
/* The deadline of the connection has passed (and is cleared). */
void tcp_timed_out(struct Connection* c, u64 now_ns);
/* RST to a segment that belongs to no connection. */
void tcp_refuse(const struct Segment* segment);

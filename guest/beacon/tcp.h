/* TCP, as far as a server needs it: passive open on one port, data in order, retransmission, an
 * orderly end from either side. tcp_receive.c takes segments, tcp_send.c makes them, tcp_table.c
 * keeps the connections. All state lies in guest memory, so a connection lives as long as the
 * guest.
 */
#pragma once

#include "stack.h"
#include "types.h"

#define TCP_PORT 7778
#define NEVER (~0ull)

void tcp_init(u64 boot_id);
/* One TCP packet; answers are queued with net_send(). */
void tcp_receive(const struct Packet* packet);
/* Does what is due by the clock: sends again, forgets. True if anything was. */
bool tcp_poll(void);
/* Nanoseconds until tcp_poll() is due: 0 when it is, NEVER when nothing is waited for. */
u64 tcp_due_ns(void);

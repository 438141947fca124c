/* The network device: whole Ethernet frames in and out. Receive interrupts are on only while we
 * sleep; transmit interrupts never, finished buffers are taken back when the next is needed. */
#pragma once

#include "types.h"
#include "virtio_mmio.h"

#define FRAME_BYTES_MAX 1514

extern u8 net_mac[6];

/* Brings the device up, receive buffers posted. Null, or why it could not be. */
const char* net_init(const struct VirtioDevice* device);
/* Room for one frame of FRAME_BYTES_MAX to be sent; null while the device holds all buffers. */
u8* net_send_begin(void);
/* Queues what was written there. The device learns of it at net_flush(). */
void net_send(u32 length);
/* Notifies the device of everything queued: frames to send, receive buffers given back. */
void net_flush(void);
/* Takes at most `frames_max` received frames, each through stack_receive(). True if any came or
 * are waiting still. */
bool net_poll(unsigned frames_max);
/* To be called before sleeping: ends the last interrupt if there was one (`woken`), asks for the
 * next one. False when there is work already, so there must be no sleep. */
bool net_prepare_sleep(bool woken);
/* After sleeping: no receive interrupts while we look ourselves. */
void net_awake(void);

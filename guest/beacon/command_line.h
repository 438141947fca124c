/* Reading the command line: `ip=`, `boot_id=`, `virtio_mmio.device=SIZE@ADDRESS:IRQ`. */
#pragma once

#include "types.h"

/* The next value of `key` at or after *at, which moves behind it; null when there is none. */
const char* command_line_next(const char** at, const char* key);
/* "10.77.0.2" in wire order. False when it is no address. */
bool parse_ip(const char* text, u32* ip);
bool parse_hex(const char* text, u64* value);
/* "512@0xfeb00e00:12"; numbers decimal or 0x…, the size with an optional K, M or G. */
bool parse_device(const char* text, u64* address, u32* irq);

/* The serial console (8250 at 0x3f8). Works at CPL0 and, through the I/O bitmap, at CPL3. */
#pragma once

#include "types.h"

/* Sets the line up: FIFO on, no interrupts. */
void console_init(void);
void console_print(const char* text);
void console_decimal(u64 value);
/* Lower-case hex, at least `digits_min` digits. */
void console_hex(u64 value, unsigned digits_min);

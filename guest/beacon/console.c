/* The serial console. Each port access may cost an exit, so the transmitter is asked whether it
 * is empty once for each FIFO's worth of characters, not for each character. */
#include "console.h"

#define PORT 0x3f8
#define FIFO_CHARACTERS 16
#define LSR_TRANSMITTER_EMPTY 0x20
#define TRIES_MAX 100000

static unsigned room;

void console_init(void) {
  out_byte(PORT + 1, 0);    /* no interrupts */
  out_byte(PORT + 3, 3);    /* 8 bits, no parity, one stop bit */
  out_byte(PORT + 2, 0x07); /* FIFO on and empty */
  room = 0;
}

static void put(char character) {
  if (room == 0) {
    /* Bounded: a machine without this port must not hang us. */
    for (int i = 0; i < TRIES_MAX && (in_byte(PORT + 5) & LSR_TRANSMITTER_EMPTY) == 0; i++) {
    }
    room = FIFO_CHARACTERS;
  }
  room--;
  out_byte(PORT, (u8)character);
}

void console_print(const char* text) {
  for (; *text != 0; text++) {
    if (*text == '\n') put('\r');
    put(*text);
  }
}

void console_decimal(u64 value) {
  char digits[20];
  unsigned count = 0;
  do {
    digits[count++] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  while (count > 0) put(digits[--count]);
}

void console_hex(u64 value, unsigned digits_min) {
  unsigned digits = 16;
  while (digits > digits_min && (value >> (4 * (digits - 1))) == 0) digits--;
  while (digits > 0) put("0123456789abcdef"[(value >> (4 * --digits)) & 15]);
}

/* Random numbers where devices expect something else. */
#include "attacks.h"
#include "device.h"
#include "machine.h"

#define SERIAL_BASE 0x3f8
#define SERIAL_LINE_CONTROL 0x3fb
#define KEYBOARD_COMMAND 0x64
#define RESET_CONTROL 0xcf9
#define POWER_PORT 0x604
#define REGISTER_BYTES 0x200

/* Mostly small or near what is valid, so that more than the first check is reached. */
static uint64_t odd_address(void) {
  const uint64_t r = random64();
  switch (r & 7) {
    case 0:
      return random64();
    case 1:
      return (uint64_t)queues + ((r >> 8) & 0x1fff);
    case 2:
      return 0xd0000000 + ((r >> 8) & 0x7fff);
    case 3:
      return 0xfffff000 + ((r >> 8) & 0x1fff);
    default:
      return (uint64_t)buffer + ((r >> 8) & 0x1fff);
  }
}

static uint32_t odd_length(void) {
  const uint64_t r = random64();
  return (r & 3) == 0 ? (uint32_t)(r >> 8) : (uint32_t)((r >> 8) & 0x3ff);
}

static void random_rings(uint64_t base, uint32_t id) {
  bring_up(base, queue_count(id));
  for (unsigned queue = 0; queue < queue_count(id); queue++) {
    for (unsigned at = 0; at < QUEUE_SIZE; at++) {
      const uint64_t r = random64();
      set_desc(queue, at, odd_address(), odd_length(), (uint16_t)(r & 7 & ~(r >> 8 & 4)),
               (uint16_t)((r >> 16) % (QUEUE_SIZE + 1)));
      queues[queue].avail.ring[at] = (uint16_t)((r >> 32) % (QUEUE_SIZE + 1));
    }
    queues[queue].avail.idx = (uint16_t)(random64() % (QUEUE_SIZE + 1));
    write32(base + REG_QUEUE_NOTIFY, queue);
  }
}

static void random_registers(uint64_t base) {
  for (unsigned n = 0; n < 32; n++) {
    const uint64_t r = random64();
    const unsigned bytes = 1u << (r & 3);
    const uint64_t at = base + (r >> 8) % REGISTER_BYTES;
    if ((r & 16) != 0) {
      write_any(at, bytes, (r & 32) != 0 ? random64() : (r >> 40) & 0xf);
    } else {
      read_any(at, bytes);
    }
  }
}

void make_noise(uint64_t base, uint32_t id, unsigned rounds, struct score* score) {
  for (unsigned round = 0; round < rounds; round++) {
    random_rings(base, id);
    random_registers(base);
    if (needs_reset(base)) score->resets++;
    if (round % 16 == 15) {
      judge(score, device_name(id), "works after noise", 0, works(base, id));
    }
  }
}

/* The ports of the console, with every width, and ports that nobody has. What would end the machine
 * is left out. */
void make_port_noise(unsigned rounds) {
  for (unsigned round = 0; round < rounds; round++) {
    const uint64_t r = random64();
    uint16_t port = (uint16_t)(r >> 16);
    /* The data port would only fill the console with noise. */
    if ((r & 1) != 0) port = (uint16_t)(SERIAL_BASE + 1 + (r >> 8) % 7);
    if (port >= POWER_PORT - 3 && port <= POWER_PORT + 3) continue;
    if (port >= RESET_CONTROL - 3 && port <= RESET_CONTROL + 3) continue;
    if (port >= KEYBOARD_COMMAND - 3 && port <= KEYBOARD_COMMAND + 3) continue;
    if (port >= SERIAL_BASE - 3 && port <= SERIAL_BASE) continue;
    switch ((r >> 1) & 7) {
      case 0:
        port_out8(port, (uint8_t)(r >> 40));
        break;
      case 1:
        port_out16(port, (uint16_t)(r >> 40));
        break;
      case 2:
        port_out32(port, (uint32_t)(r >> 32));
        break;
      case 3:
        port_in(port, 1);
        break;
      case 4:
        port_in(port, 2);
        break;
      default:
        port_in(port, 4);
        break;
    }
  }
  /* Back to eight data bits, no divisor latch, no interrupts. */
  port_out8(SERIAL_LINE_CONTROL, 3);
  port_out8(SERIAL_BASE + 1, 0);
  port_out8(SERIAL_BASE + 4, 0);
}

/* Ports, registers and the console of the hostile guest. */
#include "machine.h"

#define SERIAL_DATA 0x3f8
#define SERIAL_LINE_STATUS 0x3fd
#define SERIAL_CAN_TAKE 0x20
#define POWER_PORT 0x604
#define POWER_OFF 0x2000

void port_out8(uint16_t port, uint8_t value) {
  __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

void port_out16(uint16_t port, uint16_t value) {
  __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

void port_out32(uint16_t port, uint32_t value) {
  __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port) : "memory");
}

uint32_t port_in(uint16_t port, unsigned bytes) {
  uint32_t value = 0;
  if (bytes == 1) __asm__ volatile("inb %1, %b0" : "+a"(value) : "Nd"(port) : "memory");
  if (bytes == 2) __asm__ volatile("inw %1, %w0" : "+a"(value) : "Nd"(port) : "memory");
  if (bytes == 4) __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

uint32_t read32(uint64_t address) {
  return *(volatile uint32_t*)address;
}

void write32(uint64_t address, uint32_t value) {
  *(volatile uint32_t*)address = value;
}

uint64_t read_any(uint64_t address, unsigned bytes) {
  if (bytes == 1) return *(volatile uint8_t*)address;
  if (bytes == 2) return *(volatile uint16_t*)address;
  if (bytes == 4) return *(volatile uint32_t*)address;
  return *(volatile uint64_t*)address;
}

void write_any(uint64_t address, unsigned bytes, uint64_t value) {
  if (bytes == 1) *(volatile uint8_t*)address = (uint8_t)value;
  if (bytes == 2) *(volatile uint16_t*)address = (uint16_t)value;
  if (bytes == 4) *(volatile uint32_t*)address = (uint32_t)value;
  if (bytes == 8) *(volatile uint64_t*)address = value;
}

void say(const char* text) {
  for (; *text != 0; text++) {
    while ((port_in(SERIAL_LINE_STATUS, 1) & SERIAL_CAN_TAKE) == 0) {
    }
    port_out8(SERIAL_DATA, (uint8_t)*text);
  }
}

void say_number(uint64_t value) {
  char digits[21];
  int at = 20;
  digits[at] = 0;
  do {
    digits[--at] = (char)('0' + value % 10);
    value /= 10;
  } while (value != 0);
  say(digits + at);
}

uint64_t random64(void) {
  static uint64_t state = 0x9e3779b97f4a7c15;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

void power_off(void) {
  port_out16(POWER_PORT, POWER_OFF);
}

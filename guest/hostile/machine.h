/* What the hostile guest needs of its machine: ports, registers, a console, random numbers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

void port_out8(uint16_t port, uint8_t value);
void port_out16(uint16_t port, uint16_t value);
void port_out32(uint16_t port, uint32_t value);
uint32_t port_in(uint16_t port, unsigned bytes);

uint32_t read32(uint64_t address);
void write32(uint64_t address, uint32_t value);
/* An access of 1, 2, 4 or 8 bytes to any address. */
uint64_t read_any(uint64_t address, unsigned bytes);
void write_any(uint64_t address, unsigned bytes, uint64_t value);

void say(const char* text);
void say_number(uint64_t value);

/* The same numbers in every run. */
uint64_t random64(void);

void power_off(void);

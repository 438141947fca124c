/* Integers, attributes and the single instructions that C cannot say. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

/* Small state that every request touches: it shares one page, see beacon.ld. */
#define HOT __attribute__((section(".bss.hot")))
/* Arrays of whole pages. */
#define PAGES __attribute__((section(".bss.pages"), aligned(4096)))
#define PACKED __attribute__((packed))

#define PAGE_BYTES 4096u

static inline void compiler_barrier(void) {
  __asm__ volatile("" ::: "memory");
}
/* Orders our stores to a ring before our next load of what the device wrote. */
static inline void full_barrier(void) {
  __asm__ volatile("mfence" ::: "memory");
}

static inline u64 read_tsc(void) {
  u32 low, high;
  __asm__ volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
  return ((u64)high << 32) | low;
}

static inline void out_byte(u16 port, u8 value) {
  __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
static inline u8 in_byte(u16 port) {
  u8 value;
  __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

/* Device registers: one plain mov each, which every emulator can decode. */
static inline void mmio_write(u64 address, u32 value) {
  __asm__ volatile("movl %0, (%1)" ::"r"(value), "r"(address) : "memory");
}
static inline u32 mmio_read(u64 address) {
  u32 value;
  __asm__ volatile("movl (%1), %0" : "=r"(value) : "r"(address) : "memory");
  return value;
}
static inline u8 mmio_read_byte(u64 address) {
  u8 value;
  __asm__ volatile("movb (%1), %0" : "=q"(value) : "r"(address) : "memory");
  return value;
}

static inline u16 swap16(u16 value) {
  return __builtin_bswap16(value);
}
static inline u32 swap32(u32 value) {
  return __builtin_bswap32(value);
}

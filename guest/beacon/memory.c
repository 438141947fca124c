/* memcpy and friends, in the one instruction each that modern CPUs make fast. */
#include "memory.h"

void* memcpy(void* to, const void* from, size_t bytes) {
  void* at = to;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(bytes)::"memory");
  return to;
}

void* memset(void* to, int value, size_t bytes) {
  void* at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(bytes) : "a"(value) : "memory");
  return to;
}

int memcmp(const void* left, const void* right, size_t bytes) {
  const u8* a = left;
  const u8* b = right;
  for (size_t i = 0; i < bytes; i++) {
    if (a[i] != b[i]) return a[i] < b[i] ? -1 : 1;
  }
  return 0;
}

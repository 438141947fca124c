/* The command line: words with spaces between, values behind the first `=`. */
#include "command_line.h"

static bool is_end(char c) {
  return c == 0 || c == ' ' || c == '\t' || c == '\n';
}

const char* command_line_next(const char** at, const char* key) {
  const char* word = *at;
  while (*word != 0) {
    while (*word != 0 && is_end(*word)) word++;
    const char* value = word;
    const char* wanted = key;
    while (*wanted != 0 && *value == *wanted) {
      value++;
      wanted++;
    }
    bool found = *wanted == 0 && *value == '=';
    while (!is_end(*word)) word++;
    if (found) {
      *at = word;
      return value + 1;
    }
  }
  *at = word;
  return NULL;
}

static int digit(char c, u32 base) {
  int value = c >= '0' && c <= '9' ? c - '0' : 99;
  if (base == 16 && c >= 'a' && c <= 'f') value = c - 'a' + 10;
  if (base == 16 && c >= 'A' && c <= 'F') value = c - 'A' + 10;
  return value < (int)base ? value : -1;
}

/* Reads digits; returns what follows them, null when there are none or too many. */
static const char* parse_digits(const char* text, u32 base, u64* value) {
  const char* at = text;
  *value = 0;
  for (; digit(*at, base) >= 0; at++) {
    if (*value > (~0ull - 15) / base) return NULL;
    *value = *value * base + (u64)digit(*at, base);
  }
  return at == text ? NULL : at;
}

static bool has_hex_prefix(const char* text) {
  return text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

static const char* parse_number(const char* text, u64* value) {
  if (has_hex_prefix(text)) return parse_digits(text + 2, 16, value);
  return parse_digits(text, 10, value);
}

bool parse_ip(const char* text, u32* ip) {
  *ip = 0;
  for (u32 i = 0; i < 4; i++) {
    u64 part;
    text = parse_digits(text, 10, &part);
    if (text == NULL || part > 255) return false;
    *ip |= (u32)part << (8 * i);
    if (i < 3 && *text++ != '.') return false;
  }
  return is_end(*text);
}

bool parse_hex(const char* text, u64* value) {
  const char* end = parse_digits(has_hex_prefix(text) ? text + 2 : text, 16, value);
  return end != NULL && is_end(*end);
}

bool parse_device(const char* text, u64* address, u32* irq) {
  u64 size, number;
  text = parse_number(text, &size);
  if (text == NULL) return false;
  if (*text == 'K' || *text == 'M' || *text == 'G') text++;
  if (*text++ != '@') return false;
  text = parse_number(text, address);
  if (text == NULL || *text++ != ':') return false;
  text = parse_number(text, &number);
  if (text == NULL || number > 23 || *address >= 0x100000000ull) return false;
  *irq = (u32)number;
  return is_end(*text) || *text == ':'; /* an id may follow */
}

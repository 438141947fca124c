// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78, initial and final XOR 0xFFFFFFFF).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace ft {

/// CRC-32C of `bytes`. `seed` is the CRC of what came before, so that
/// crc32c(b, crc32c(a)) == crc32c(a ++ b). Any thread.
/// Uses the SSE4.2 instruction where the CPU has it, otherwise a table; both give the same answer.
uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t seed = 0);

/// The table-driven twin, exposed so that tests can hold the two against each other.
uint32_t crc32c_scalar(std::span<const uint8_t> bytes, uint32_t seed = 0);

}  // namespace ft

// The memory map that every guest is told.
#include "machine/memory_layout.h"

namespace ft {

std::vector<MemoryRange> memory_map(uint64_t memory_bytes) {
  std::vector<MemoryRange> map = {
      {0, kEbdaGpa, MemoryRangeType::kRam},
      {kEbdaGpa, kHighMemoryGpa - kEbdaGpa, MemoryRangeType::kReserved},
  };
  if (memory_bytes > kHighMemoryGpa) {
    map.push_back({kHighMemoryGpa, memory_bytes - kHighMemoryGpa, MemoryRangeType::kRam});
  }
  return map;
}

}  // namespace ft

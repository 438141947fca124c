// Where the guest's MMIO and port accesses find their device.
#include "machine/device_bus.h"

#include <algorithm>

namespace ft {

void DeviceBus::add(std::vector<Range>& space, uint64_t base, uint64_t bytes, Device& device) {
  FT_CHECK(bytes > 0 && base + bytes > base, "a device range is empty or wraps around");
  for (const Range& range : space) {
    FT_CHECK(base >= range.base + range.bytes || range.base >= base + bytes,
             "two devices claim the same addresses");
  }
  space.push_back(Range{base, bytes, &device});
}

const DeviceBus::Range* DeviceBus::find(const std::vector<Range>& space, uint64_t address,
                                        uint64_t bytes) {
  for (const Range& range : space) {
    if (address < range.base) continue;
    const uint64_t offset = address - range.base;
    if (offset < range.bytes && bytes <= range.bytes - offset) return &range;
  }
  return nullptr;
}

void DeviceBus::read(const std::vector<Range>& space, uint64_t address, std::span<uint8_t> out) {
  if (const Range* range = find(space, address, out.size())) {
    range->device->read(address - range->base, out);
    return;
  }
  std::fill(out.begin(), out.end(), uint8_t{0xff});
  facts_.reads_unknown++;
}

void DeviceBus::write(const std::vector<Range>& space, uint64_t address,
                      std::span<const uint8_t> in) {
  if (const Range* range = find(space, address, in.size())) {
    range->device->write(address - range->base, in);
    return;
  }
  facts_.writes_unknown++;
}

}  // namespace ft

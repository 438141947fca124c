// Where the guest's MMIO and port accesses find their device.
//
//   vCPU exit (MMIO / IO) ──▶ DeviceBus ──▶ range that holds the whole access ──▶ Device
//                                      └──▶ none: reads give 0xff, writes are ignored; both counted
//
// Thread: every call under the machine lock.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/result.h"

namespace ft {

/// Something a guest reads and writes through a range of addresses. `offset` counts from the start
/// of the range; the span is 1, 2, 4 or 8 bytes and lies inside the range. Values come from a
/// hostile guest.
class Device {
 public:
  virtual ~Device() = default;
  virtual void read(uint64_t offset, std::span<uint8_t> out) = 0;
  virtual void write(uint64_t offset, std::span<const uint8_t> in) = 0;
};

class DeviceBus {
 public:
  struct Facts {
    uint64_t reads_unknown = 0;
    uint64_t writes_unknown = 0;
  };

  /// Puts `device` (not owned; outlives the bus) at [base, base + bytes). Overlapping ranges are a
  /// broken invariant of ours and stop the process.
  void add_mmio(uint64_t base, uint64_t bytes, Device& device) { add(mmio_, base, bytes, device); }
  void add_port(uint16_t base, uint16_t ports, Device& device) { add(ports_, base, ports, device); }

  /// One access of the guest. For a string instruction the caller loops over the elements.
  void mmio_read(uint64_t gpa, std::span<uint8_t> out) { read(mmio_, gpa, out); }
  void mmio_write(uint64_t gpa, std::span<const uint8_t> in) { write(mmio_, gpa, in); }
  void port_read(uint16_t port, std::span<uint8_t> out) { read(ports_, port, out); }
  void port_write(uint16_t port, std::span<const uint8_t> in) { write(ports_, port, in); }

  const Facts& facts() const { return facts_; }

 private:
  struct Range {
    uint64_t base;
    uint64_t bytes;
    Device* device;
  };
  static void add(std::vector<Range>& space, uint64_t base, uint64_t bytes, Device& device);
  static const Range* find(const std::vector<Range>& space, uint64_t address, uint64_t bytes);
  void read(const std::vector<Range>& space, uint64_t address, std::span<uint8_t> out);
  void write(const std::vector<Range>& space, uint64_t address, std::span<const uint8_t> in);

  std::vector<Range> mmio_;
  std::vector<Range> ports_;
  Facts facts_;
};

}  // namespace ft

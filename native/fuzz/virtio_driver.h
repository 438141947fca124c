// A driver made of fuzzer bytes, for the virtio devices' targets: guest memory, one device behind
// its transport, and the steps that every device understands (register accesses, writes to rings
// and buffers, starts, captures, damaged states). A target adds its device's own steps.
//
// Held, besides "no crash, no sanitizer report":
//   - every page that the device changed is marked;
//   - a captured state restores, and captures again to the same bytes; a refused one changes
//   nothing.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "fuzz_input.h"
#include "kvm/state.h"
#include "machine/guest_memory.h"
#include "machine/virtio_mmio.h"

namespace ft::fuzz {

inline constexpr uint64_t kMemoryBytes = 1 << 20;
inline constexpr uint64_t kPokeBytes = 96 << 10;  // what the driver writes lies below this
inline constexpr size_t kStepsMax = 400;

// Memory is kept from run to run: making a memfd each time would take most of the time.
struct Memory {
  GuestMemory memory;
  std::vector<uint8_t> shadow;  // what memory holds but for the device's own writes
};

inline Memory& shared_memory() {
  static Memory* memory = [] {
    auto created = GuestMemory::create(kMemoryBytes);
    FT_CHECK(created.ok(), "no guest memory");
    return new Memory{created.take(), std::vector<uint8_t>(kMemoryBytes, 0)};
  }();
  return *memory;
}

class VirtioDriver {
 public:
  /// `device` is made before this and outlives it.
  explicit VirtioDriver(VirtioDevice& device)
      : m_(shared_memory()),
        device_(device),
        mmio_(
            m_.memory, device, [] {}, 0) {
    m_.memory.set_tracking(true);
  }
  ~VirtioDriver() {
    check_marks();
    std::memset(m_.memory.host_base(), 0, kMemoryBytes);
    std::memset(m_.shadow.data(), 0, kMemoryBytes);
    m_.memory.clear_dirty();
  }
  VirtioDriver(const VirtioDriver&) = delete;
  VirtioDriver& operator=(const VirtioDriver&) = delete;

  /// One step that every device understands.
  void step(uint8_t kind, Input& in) {
    switch (kind % 9) {
      case 0:
        return set(kRegisters[in.number<uint8_t>() % kRegisters.size()], in.number<uint32_t>());
      case 1:
        return set(in.number<uint16_t>() % 0x200, in.number<uint32_t>());
      case 2:
        return read_register(in);
      case 3:
      case 4:
        return poke(in);
      case 5:
        return mmio_.notify_queue(in.number<uint8_t>() % 4);
      case 6:
        return round_trip();
      case 7:
        return restore_damaged(in);
      default:
        return start(in);
    }
  }

 private:
  void set(uint64_t offset, uint32_t value) {
    mmio_.write(offset, {reinterpret_cast<const uint8_t*>(&value), sizeof(value)});
  }
  void read_register(Input& in) {
    std::array<uint8_t, 8> out;
    const uint64_t offset = in.number<uint16_t>() % 0xff8;
    mmio_.read(offset, std::span(out).first(size_t{1} << in.number<uint8_t>() % 4));
  }

  // The guest writes its memory: not the device's doing, so the shadow has it too.
  void poke(Input& in) {
    const uint64_t gpa = in.number<uint32_t>() % kPokeBytes;
    const auto bytes = in.slice(1 + in.number<uint8_t>() % 48);
    std::copy(bytes.begin(), bytes.end(), m_.memory.host_base() + gpa);
    check_marks_of(gpa, bytes.size());
    std::copy(bytes.begin(), bytes.end(), m_.shadow.begin() + static_cast<long>(gpa));
  }

  // A sound start with rings at places and of a size that the fuzzer picks.
  void start(Input& in) {
    set(0x70, 0);
    set(0x70, 3);
    set(0x24, 1);
    set(0x20, 1);
    set(0x70, 11);
    const uint32_t size = 1u << in.number<uint8_t>() % 9;
    for (uint32_t q = 0; q < device_.queue_count(); q++) {
      const uint32_t base = q * 0x8000;
      const uint32_t skew = in.number<uint8_t>();
      set(0x30, q);
      set(0x38, size);
      set(0x80, base);
      set(0x84, 0);
      set(0x90, base + 0x1000 + (skew & ~1u));
      set(0x94, 0);
      set(0xa0, base + 0x2000 + 4 * skew);
      set(0xa4, 0);
      set(0x44, 1);
    }
    set(0x70, 15);
  }

  std::vector<uint8_t> capture() {
    writer_.begin();
    mmio_.capture(writer_);
    const auto blob = writer_.finish();
    return {blob.begin(), blob.end()};
  }

  void round_trip() {
    const auto blob = capture();
    auto reader = StateReader::open(blob);
    FT_CHECK(reader.ok(), "a captured state does not open");
    FT_CHECK(mmio_.restore(reader.value()).ok(), "a captured state does not restore");
    FT_CHECK(capture() == blob, "a restored state is another one");
    mmio_.kick_all();
  }

  void restore_damaged(Input& in) {
    auto blob = capture();
    const auto before = blob;
    for (uint32_t n = in.number<uint8_t>() % 6; n > 0; n--) {
      blob[in.number<uint16_t>() % blob.size()] = in.number<uint8_t>();
    }
    auto reader = StateReader::open(blob);
    if (!reader.ok()) return;
    if (!mmio_.restore(reader.value()).ok()) {
      FT_CHECK(capture() == before, "a refused state changed the device");
    }
    mmio_.kick_all();
  }

  bool marked(uint64_t gfn) const {
    const auto gfns = m_.memory.dirty_gfns();
    return std::find(gfns.begin(), gfns.end(), gfn) != gfns.end();
  }
  // Before the guest overwrites what the device wrote there, and for all of it at the end.
  void check_marks_of(uint64_t gpa, uint64_t bytes) {
    if (bytes == 0) return;
    for (uint64_t gfn = gpa / 4096; gfn <= (gpa + bytes - 1) / 4096; gfn++) {
      // A page that the device changed once stays marked, so one look at its other bytes is enough.
      const uint8_t* now = m_.memory.host_base() + gfn * 4096;
      const uint8_t* then = m_.shadow.data() + gfn * 4096;
      for (uint64_t i = 0; i < 4096; i++) {
        const uint64_t at = gfn * 4096 + i;
        if (at >= gpa && at < gpa + bytes) continue;
        if (now[i] != then[i]) {
          FT_CHECK(marked(gfn), "the device changed a page and did not mark it");
          break;
        }
      }
    }
  }
  void check_marks() {
    for (uint64_t gfn = 0; gfn < kMemoryBytes / 4096; gfn++) {
      const uint8_t* now = m_.memory.host_base() + gfn * 4096;
      if (std::memcmp(now, m_.shadow.data() + gfn * 4096, 4096) == 0) continue;
      FT_CHECK(marked(gfn), "the device changed a page and did not mark it");
    }
  }

  static constexpr std::array<uint16_t, 20> kRegisters = {
      0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50,  0x60,  0x64, 0x70,
      0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0x100, 0x106, 0xfc, 0x0};

  Memory& m_;
  VirtioDevice& device_;
  VirtioMmio mmio_;
  StateWriter writer_;
};

}  // namespace ft::fuzz

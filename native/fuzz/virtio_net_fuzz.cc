// libFuzzer target: a driver made of fuzzer bytes against the virtio-mmio transport and the network
// device. The bytes are a programme: register accesses, writes to rings and buffers, frames from
// outside, cuts, releases, and states captured, damaged and restored.
//
// Held, besides "no crash, no sanitizer report":
//   - no frame reaches the outside unless the outbox is open or is releasing a sealed epoch;
//   - every page that the device changed is marked;
//   - a captured state restores, and captures again to the same bytes; a refused one changes
//   nothing.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "kvm/state.h"
#include "machine/guest_memory.h"
#include "machine/outbox.h"
#include "machine/virtio_mmio.h"
#include "machine/virtio_net.h"

namespace {

using namespace ft;  // NOLINT: one short programme about this namespace

constexpr uint64_t kMemoryBytes = 1 << 20;
constexpr uint64_t kPokeBytes = 96 << 10;  // what the driver writes lies below this
constexpr size_t kStepsMax = 400;

class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  template <typename T>
  T take() {
    T value = {};
    const size_t n = std::min(sizeof(T), bytes_.size());
    std::memcpy(&value, bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
    return value;
  }
  std::span<const uint8_t> take_bytes(size_t n) {
    n = std::min(n, bytes_.size());
    const auto out = bytes_.first(n);
    bytes_ = bytes_.subspan(n);
    return out;
  }

 private:
  std::span<const uint8_t> bytes_;
};

// Memory is kept from run to run: making a memfd each time would take most of the time.
struct Memory {
  GuestMemory memory;
  std::vector<uint8_t> shadow;  // what memory holds but for the device's own writes
};

Memory& shared_memory() {
  static Memory* memory = [] {
    auto created = GuestMemory::create(kMemoryBytes);
    FT_CHECK(created.ok(), "no guest memory");
    return new Memory{created.take(), std::vector<uint8_t>(kMemoryBytes, 0)};
  }();
  return *memory;
}

class Programme {
 public:
  explicit Programme(Memory& memory) : m_(memory) {
    outbox_.set_sink(OutputPort::kNet, [this](auto) {
      FT_CHECK(may_leave_ || outbox_.mode() == Outbox::Mode::kOpen, "a held frame got out");
    });
    m_.memory.set_tracking(true);
  }
  ~Programme() {
    check_marks();
    std::memset(m_.memory.host_base(), 0, kMemoryBytes);
    std::memset(m_.shadow.data(), 0, kMemoryBytes);
    m_.memory.clear_dirty();
  }

  void step(Input& in) {
    switch (in.take<uint8_t>() % 12) {
      case 0:
        return set(kRegisters[in.take<uint8_t>() % kRegisters.size()], in.take<uint32_t>());
      case 1:
        return set(in.take<uint16_t>() % 0x200, in.take<uint32_t>());
      case 2:
        return read_register(in);
      case 3:
      case 4:
        return poke(in);
      case 5:
        return mmio_.notify_queue(in.take<uint8_t>() % 4);
      case 6:
        return deliver(in);
      case 7:
        static_cast<void>(net_.process_tx(in.take<uint8_t>()));
        return;
      case 8:
        return round_trip();
      case 9:
        return restore_damaged(in);
      case 10:
        return output(in.take<uint8_t>());
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
    const uint64_t offset = in.take<uint16_t>() % 0xff8;
    mmio_.read(offset, std::span(out).first(size_t{1} << in.take<uint8_t>() % 4));
  }

  // The guest writes its memory: not the device's doing, so the shadow has it too.
  void poke(Input& in) {
    const uint64_t gpa = in.take<uint32_t>() % kPokeBytes;
    const auto bytes = in.take_bytes(1 + in.take<uint8_t>() % 48);
    std::copy(bytes.begin(), bytes.end(), m_.memory.host_base() + gpa);
    check_marks_of(gpa, bytes.size());
    std::copy(bytes.begin(), bytes.end(), m_.shadow.begin() + static_cast<long>(gpa));
  }

  void deliver(Input& in) {
    static constexpr std::array<uint8_t, kFrameBytesMax + 2> kFrame = {};
    const size_t bytes = in.take<uint16_t>() % kFrame.size();
    static_cast<void>(net_.rx_ready());
    static_cast<void>(net_.deliver({kFrame.data(), bytes}, (bytes & 1) != 0));
    if ((bytes & 2) != 0) net_.signal_rx();
  }

  // A sound start with rings at places and of a size that the fuzzer picks.
  void start(Input& in) {
    set(0x70, 0);
    set(0x70, 3);
    set(0x24, 1);
    set(0x20, 1);
    set(0x70, 11);
    const uint32_t size = 1u << in.take<uint8_t>() % 9;
    for (uint32_t q = 0; q < 2; q++) {
      const uint32_t base = q * 0x8000;
      const uint32_t skew = in.take<uint8_t>();
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
    for (uint32_t n = in.take<uint8_t>() % 6; n > 0; n--) {
      blob[in.take<uint16_t>() % blob.size()] = in.take<uint8_t>();
    }
    auto reader = StateReader::open(blob);
    if (!reader.ok()) return;
    if (!mmio_.restore(reader.value()).ok()) {
      FT_CHECK(capture() == before, "a refused state changed the device");
    }
    mmio_.kick_all();
  }

  void output(uint8_t what) {
    switch (what % 4) {
      case 0:
        outbox_.hold();
        return;
      case 1:
        outbox_.seal(++epoch_);
        return;
      case 2:
        may_leave_ = true;
        outbox_.release(what / 4);
        may_leave_ = false;
        return;
      default:
        if (what < 0xf0) return;  // seldom: most of the time output should be held
        may_leave_ = true;
        outbox_.open();
        may_leave_ = false;
        epoch_ = 0;
    }
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
  Outbox outbox_;
  bool may_leave_ = false;
  uint64_t epoch_ = 0;
  VirtioNet net_{outbox_, {0x52, 0x54, 0, 1, 2, 3}};
  VirtioMmio mmio_{m_.memory, net_, [] {}, 0};
  StateWriter writer_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in({data, size});
  const auto programme = std::make_unique<Programme>(shared_memory());
  for (size_t n = 0; n < kStepsMax && !in.empty(); n++) programme->step(in);
  return 0;
}

// libFuzzer target: a driver made of fuzzer bytes against the virtio-mmio transport and the network
// device. The bytes are a programme: what virtio_driver.h offers, frames from outside, cuts and
// releases.
//
// Held, besides what virtio_driver.h holds: no frame reaches the outside unless the outbox is open
// or is releasing a sealed epoch.
#include <array>
#include <cstdint>
#include <memory>

#include "machine/outbox.h"
#include "machine/virtio_net.h"
#include "virtio_driver.h"

namespace {

using namespace ft;  // NOLINT: one short programme about this namespace
using ft::fuzz::Input;

class Programme {
 public:
  Programme() {
    outbox_.set_sink(OutputPort::kNet, [this](auto) {
      FT_CHECK(may_leave_ || outbox_.mode() == Outbox::Mode::kOpen, "a held frame got out");
    });
  }

  void step(Input& in) {
    const uint8_t kind = in.number<uint8_t>() % 12;
    switch (kind) {
      case 6:
        return deliver(in);
      case 7:
        static_cast<void>(net_.process_tx(in.number<uint8_t>()));
        return;
      case 10:
        return output(in.number<uint8_t>());
      default:
        return driver_.step(kSteps[kind], in);
    }
  }

 private:
  void deliver(Input& in) {
    static constexpr std::array<uint8_t, kFrameBytesMax + 2> kFrame = {};
    const size_t bytes = in.number<uint16_t>() % kFrame.size();
    static_cast<void>(net_.rx_ready());
    static_cast<void>(net_.deliver({kFrame.data(), bytes}, (bytes & 1) != 0));
    if ((bytes & 2) != 0) net_.signal_rx();
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

  // The steps of virtio_driver.h under this target's numbers, which its seeds are made of.
  static constexpr std::array<uint8_t, 12> kSteps = {0, 1, 2, 3, 4, 5, 0, 0, 6, 7, 0, 8};

  Outbox outbox_;
  bool may_leave_ = false;
  uint64_t epoch_ = 0;
  VirtioNet net_{outbox_, {0x52, 0x54, 0, 1, 2, 3}};
  fuzz::VirtioDriver driver_{net_};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const auto programme = std::make_unique<Programme>();
  for (size_t n = 0; n < fuzz::kStepsMax && !in.empty(); n++) programme->step(in);
  return 0;
}

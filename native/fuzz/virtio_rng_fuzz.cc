// libFuzzer target: a driver made of fuzzer bytes against the virtio-mmio transport and the entropy
// device. The bytes are a programme of the steps that virtio_driver.h offers, and it holds what is
// held there; besides, one notification answers at most one round of the ring, and no request more
// than its bound.
#include <cstdint>
#include <memory>

#include "machine/virtio_rng.h"
#include "virtio_driver.h"

namespace {

using namespace ft;  // NOLINT: one short programme about this namespace
using ft::fuzz::Input;

class Programme {
 public:
  void step(Input& in) {
    const auto before = rng_.facts();
    driver_.step(in.number<uint8_t>(), in);
    const auto& after = rng_.facts();
    const uint64_t requests = after.requests - before.requests;
    // A start, a restore and a notification each make one round at most.
    FT_CHECK(requests <= 2 * kRngQueueSizeMax, "one step answered more than its rounds");
    FT_CHECK(after.bytes - before.bytes <= requests * kRngRequestBytesMax,
             "a request got more than its bound");
  }

 private:
  // Bytes that are never zero, so that what the device writes always shows.
  VirtioRng rng_{[](std::span<uint8_t> out) { std::fill(out.begin(), out.end(), uint8_t{0xa5}); }};
  fuzz::VirtioDriver driver_{rng_};
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input in(data, size);
  const auto programme = std::make_unique<Programme>();
  for (size_t n = 0; n < fuzz::kStepsMax && !in.empty(); n++) programme->step(in);
  return 0;
}

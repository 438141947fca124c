// virtio entropy device.
#include "machine/virtio_rng.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace ft {

void VirtioRng::host_entropy(std::span<uint8_t> out) {
  while (!out.empty()) {
    const ssize_t n = ::getrandom(out.data(), out.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    // The call cannot fail otherwise, and handing out bytes that are not random would be worse
    // than stopping.
    FT_CHECK(n > 0, "the host kernel gives no random bytes");
    out = out.subspan(static_cast<size_t>(n));
  }
}

void VirtioRng::notify(uint32_t index) {
  if (!active_) return;
  VirtQueue& queue = transport_->queue(index);
  std::array<uint8_t, kRngRequestBytesMax> bytes;
  uint32_t served = 0;
  for (; served < kRngQueueSizeMax; served++) {
    const VirtQueue::Pop popped = queue.pop(&chain_);
    if (popped == VirtQueue::Pop::kEmpty) break;
    if (popped == VirtQueue::Pop::kChain && chain_.readable_count != 0) {
      queue.break_queue("entropy request has a readable buffer");
    }
    if (queue.broken()) {
      transport_->needs_reset();
      return;
    }
    const uint32_t n = std::min(chain_.writable_bytes, kRngRequestBytesMax);
    const std::span<uint8_t> filled = std::span(bytes).first(n);
    source_(filled);
    queue.copy_in(chain_, 0, filled);
    queue.push_used(chain_.head, n);
    facts_.requests++;
    facts_.bytes += n;
  }
  if (served > 0) transport_->signal_used(queue);
}

}  // namespace ft

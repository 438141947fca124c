// One split virtqueue, seen from the device; every byte of it is the hostile driver's.
#include "machine/virtio_queue.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace ft {

namespace {

constexpr uint16_t kDescNext = 1;
constexpr uint16_t kDescWrite = 2;
constexpr uint16_t kDescIndirect = 4;
constexpr uint16_t kAvailNoInterrupt = 1;

constexpr uint64_t kDescBytes = 16;
constexpr uint64_t kRingHeaderBytes = 4;  // flags, idx
constexpr uint64_t kAvailEntryBytes = 2;
constexpr uint64_t kUsedEntryBytes = 8;

struct Descriptor {
  uint64_t addr;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};
static_assert(sizeof(Descriptor) == kDescBytes);

struct UsedEntry {
  uint32_t id;
  uint32_t len;
};
static_assert(sizeof(UsedEntry) == kUsedEntryBytes);

struct Extent {
  uint64_t gpa;
  uint64_t bytes;
};

bool overlap(const Extent& a, const Extent& b) {
  return a.gpa < b.gpa + b.bytes && b.gpa < a.gpa + a.bytes;
}

}  // namespace

const char* VirtQueue::check(const VirtQueueState& s) const {
  if (s.ready > 1 || s.broken > 1) return "queue flags are neither 0 nor 1";
  if (s.ready == 0) return nullptr;
  if (s.size == 0 || s.size > size_max_) return "queue size is zero or above the maximum";
  if (!std::has_single_bit(s.size)) return "queue size is no power of two";
  if (s.desc_gpa % 16 != 0) return "descriptor table is not aligned to 16 bytes";
  if (s.avail_gpa % 2 != 0) return "available ring is not aligned to 2 bytes";
  if (s.used_gpa % 4 != 0) return "used ring is not aligned to 4 bytes";
  const Extent desc = {s.desc_gpa, kDescBytes * s.size};
  const Extent avail = {s.avail_gpa, kRingHeaderBytes + kAvailEntryBytes * s.size};
  const Extent used = {s.used_gpa, kRingHeaderBytes + kUsedEntryBytes * s.size};
  for (const Extent& part : {desc, avail, used}) {
    if (!memory_->contains(part.gpa, part.bytes)) return "queue lies outside guest memory";
  }
  // What we write must not be what we read: the device would feed on its own answers.
  if (overlap(used, desc) || overlap(used, avail)) return "used ring overlaps another part";
  return nullptr;
}

bool VirtQueue::enable() {
  VirtQueueState wanted = s_;
  wanted.ready = 1;
  wanted.broken = 0;
  wanted.last_avail = 0;
  wanted.used_idx = 0;
  if (const char* why = check(wanted)) {
    break_queue(why);
    return false;
  }
  s_ = wanted;
  return true;
}

void VirtQueue::reset() {
  s_ = VirtQueueState{};
  s_.size = size_max_;
  reason_ = "";
}

Status VirtQueue::restore(const VirtQueueState& state) {
  if (const char* why = check(state)) {
    return Error{"FT_ERR_STATE_FORMAT", 0, std::string("the state of a virtqueue is bad: ") + why};
  }
  s_ = state;
  reason_ = s_.broken != 0 ? "the queue was broken when its state was captured" : "";
  return Ok{};
}

bool VirtQueue::has_available() const {
  uint16_t idx = 0;
  return ready() && memory_->load_acquire(s_.avail_gpa + 2, &idx) && idx != s_.last_avail;
}

void VirtQueue::break_queue(const char* reason) {
  s_.broken = 1;
  reason_ = reason;
}

VirtQueue::Pop VirtQueue::fail(const char* reason) {
  break_queue(reason);
  return Pop::kBroken;
}

VirtQueue::Pop VirtQueue::pop(DescriptorChain* chain) {
  if (s_.broken != 0) return Pop::kBroken;
  if (s_.ready == 0) return Pop::kEmpty;
  uint16_t idx = 0;
  // Acquire: descriptors and ring entries were written before the index that covers them.
  if (!memory_->load_acquire(s_.avail_gpa + 2, &idx)) return fail("available index is unreadable");
  const uint16_t waiting = static_cast<uint16_t>(idx - s_.last_avail);
  if (waiting == 0) return Pop::kEmpty;
  if (waiting > s_.size) return fail("available index ran ahead by more than the queue's size");

  uint16_t head = 0;
  const uint64_t slot = s_.last_avail & (s_.size - 1u);
  if (!memory_->read_value(s_.avail_gpa + kRingHeaderBytes + kAvailEntryBytes * slot, &head)) {
    return fail("available entry is unreadable");
  }
  if (!walk(head, chain)) return Pop::kBroken;
  s_.last_avail++;
  return Pop::kChain;
}

bool VirtQueue::walk_again(uint16_t head, DescriptorChain* chain) {
  return ready() && walk(head, chain);
}

// Collects the chain that starts at `head`. Each descriptor is copied once and only then looked at.
bool VirtQueue::walk(uint16_t head, DescriptorChain* chain) {
  chain->head = head;
  chain->readable_count = 0;
  chain->writable_count = 0;
  chain->readable_bytes = 0;
  chain->writable_bytes = 0;
  uint64_t total = 0;
  uint16_t at = head;
  for (uint32_t count = 0;; count++) {
    if (count == s_.size) return fail("descriptor chain loops"), false;
    if (at >= s_.size) return fail("descriptor index is beyond the table"), false;
    Descriptor d;
    if (!memory_->read_value(s_.desc_gpa + kDescBytes * at, &d)) {
      return fail("descriptor is unreadable"), false;
    }
    if ((d.flags & kDescIndirect) != 0)
      return fail("indirect descriptor was not negotiated"), false;
    if (d.len == 0) return fail("descriptor has length zero"), false;
    if (!memory_->contains(d.addr, d.len)) return fail("buffer lies outside guest memory"), false;
    total += d.len;
    if (total > std::numeric_limits<uint32_t>::max()) return fail("chain is too long"), false;
    if ((d.flags & kDescWrite) != 0) {
      chain->writable_count++;
      chain->writable_bytes += d.len;
    } else {
      if (chain->writable_count != 0) return fail("readable buffer after a writable one"), false;
      chain->readable_count++;
      chain->readable_bytes += d.len;
    }
    chain->segments[count] = ChainSegment{d.addr, d.len};
    if ((d.flags & kDescNext) == 0) return true;
    at = d.next;
  }
}

void VirtQueue::push_used(uint16_t head, uint32_t bytes_written) {
  // A driver may withdraw the queue while a device still holds its requests, and put it somewhere
  // else: the rings are then no longer where they were checked to be. (A broken queue is still
  // ready, and its rings have not moved.)
  if (s_.ready == 0) return;
  const uint64_t slot = s_.used_idx & (s_.size - 1u);
  const UsedEntry entry = {head, bytes_written};
  // The rings were inside guest memory when the queue was enabled, and memory does not shrink.
  FT_CHECK(memory_->write_value(s_.used_gpa + kRingHeaderBytes + kUsedEntryBytes * slot, entry),
           "used ring left guest memory");
  s_.used_idx++;
  // Release: the buffers and the entry are in memory before the index that covers them.
  FT_CHECK(memory_->store_release(s_.used_gpa + 2, s_.used_idx), "used ring left guest memory");
}

bool VirtQueue::wants_interrupt() const {
  // The driver switches interrupts on and then looks at the used index; we store the index and then
  // look at its flags. Unless both are fenced, each can miss the other and the driver sleeps on.
  __sync_synchronize();
  uint16_t flags = 0;
  return memory_->load_acquire(s_.avail_gpa, &flags) && (flags & kAvailNoInterrupt) == 0;
}

size_t VirtQueue::copy_out(std::span<const ChainSegment> readable, size_t skip,
                           std::span<uint8_t> out) const {
  size_t done = 0;
  for (const ChainSegment& segment : readable) {
    if (done == out.size()) break;
    if (skip >= segment.bytes) {
      skip -= segment.bytes;
      continue;
    }
    const size_t n = std::min<size_t>(segment.bytes - skip, out.size() - done);
    FT_CHECK(memory_->read(segment.gpa + skip, out.subspan(done, n)), "a checked buffer moved");
    done += n;
    skip = 0;
  }
  return done;
}

size_t VirtQueue::copy_in(std::span<const ChainSegment> writable, size_t skip,
                          std::span<const uint8_t> in) {
  size_t done = 0;
  for (const ChainSegment& segment : writable) {
    if (done == in.size()) break;
    if (skip >= segment.bytes) {
      skip -= segment.bytes;
      continue;
    }
    const size_t n = std::min<size_t>(segment.bytes - skip, in.size() - done);
    FT_CHECK(memory_->write(segment.gpa + skip, in.subspan(done, n)), "a checked buffer moved");
    done += n;
    skip = 0;
  }
  return done;
}

}  // namespace ft

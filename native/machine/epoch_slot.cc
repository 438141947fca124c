#include "machine/epoch_slot.h"

#include <algorithm>

#include "delta/page_delta.h"

namespace ft {
namespace {
// What all idle slots keep together at most; a slot whose room would be more gives it back.
constexpr size_t kIdleBytesMax = 64u << 20;
// With so many pages waiting to be encoded (64 MiB), no further epoch is begun.
constexpr size_t kPagesWaitingMax = 16'384;
}  // namespace

Result<std::unique_ptr<SlotPool>> SlotPool::create(uint32_t count, uint64_t pages_max) {
  auto pool = std::make_unique<SlotPool>();
  for (uint32_t i = 0; i < count; i++) {
    auto region = MappedRegion::anonymous(pages_max * kPageBytes, "a staging slot");
    if (!region.ok()) return region.error();
    region.value().use_huge_pages();
    auto slot = std::make_unique<EpochSlot>();
    slot->pages = region.take();
    pool->free_.push_back(slot.get());
    pool->slots_.push_back(std::move(slot));
  }
  return pool;
}

EpochSlot* SlotPool::take() {
  const std::lock_guard lock(mutex_);
  if (free_.empty()) return nullptr;
  EpochSlot* slot = free_.back();
  free_.pop_back();
  idle_bytes_ -= slot->kept_bytes;
  slot->facts = CutFacts{};
  slot->gfns.clear();
  slot->audit.clear();
  return slot;
}

bool SlotPool::has_free() const {
  const std::lock_guard lock(mutex_);
  return !free_.empty() && pages_waiting_ < kPagesWaitingMax;
}

void SlotPool::publish(EpochSlot* slot) {
  const std::lock_guard lock(mutex_);
  waiting_.push_back(slot);
  pages_waiting_ += slot->gfns.size();
}

EpochSlot* SlotPool::front() const {
  const std::lock_guard lock(mutex_);
  return waiting_.empty() ? nullptr : waiting_.front();
}

void SlotPool::retire() {
  EpochSlot* slot = nullptr;
  {
    const std::lock_guard lock(mutex_);
    FT_CHECK(!waiting_.empty(), "a slot is retired that was never published");
    slot = waiting_.front();
    waiting_.pop_front();
    pages_waiting_ -= slot->gfns.size();
  }
  recycle(slot);
}

size_t SlotPool::idle_bytes() const {
  const std::lock_guard lock(mutex_);
  return idle_bytes_;
}

void SlotPool::clear() {
  while (front() != nullptr) retire();
}

// Giving memory back takes long; a cut that needs the pool must not wait for it.
void SlotPool::recycle(EpochSlot* slot) {
  for (auto& log : slot->disks) log.clear();
  slot->kept_bytes = std::max(slot->kept_bytes, slot->gfns.size() * kPageBytes);
  // Only here it grows.
  if (idle_bytes() + slot->kept_bytes > kIdleBytesMax) {
    slot->pages.discard();
    slot->kept_bytes = 0;
  }
  const std::lock_guard lock(mutex_);
  idle_bytes_ += slot->kept_bytes;
  free_.push_back(slot);
}

}  // namespace ft

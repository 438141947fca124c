// The outbox: holds the guest's output until the state that produced it is safe.
#include "machine/outbox.h"

#include <time.h>

#include <algorithm>

#include "core/result.h"

namespace ft {

namespace {

// A segment that once grew beyond this gives its buffers back when it has been emptied.
constexpr size_t kSpareBytesMax = 4u << 20;
// More empty segments than pipelined epochs are of no use.
constexpr uint32_t kSparesMax = 64;

}  // namespace

void Outbox::SegmentList::push(std::unique_ptr<Segment> segment) {
  segment->next = nullptr;
  Segment* const raw = segment.get();
  if (tail == nullptr) {
    head = std::move(segment);
  } else {
    tail->next = std::move(segment);
  }
  tail = raw;
}

std::unique_ptr<Outbox::Segment> Outbox::SegmentList::pop() {
  std::unique_ptr<Segment> first = std::move(head);
  if (first) head = std::move(first->next);
  if (!head) tail = nullptr;
  return first;
}

uint64_t Outbox::boottime_ns() {
  timespec ts;
  clock_gettime(CLOCK_BOOTTIME, &ts);
  return static_cast<uint64_t>(ts.tv_sec) * 1'000'000'000ull + static_cast<uint64_t>(ts.tv_nsec);
}

// One by one: letting the first segment destroy the next would recurse once per segment.
Outbox::~Outbox() {
  while (due_.pop()) {
  }
  while (sealed_.pop()) {
  }
  while (spare_.pop()) {
  }
}

void Outbox::set_sink(OutputPort port, Sink sink) {
  std::scoped_lock sinks(sink_mutex_);
  sinks_[static_cast<size_t>(port)] = std::move(sink);
}

void Outbox::append(OutputPort port, std::span<const uint8_t> frame) {
  if (frame.empty()) return;
  for (;;) {
    if (mode() == Mode::kOpen) {
      // The sink lock keeps the mode as it is, and this frame behind those that open() hands out.
      std::scoped_lock sinks(sink_mutex_);
      if (mode() != Mode::kOpen) continue;
      const Sink& sink = sinks_[static_cast<size_t>(port)];
      if (sink) sink(frame);
      std::scoped_lock lists(mutex_);
      (sink ? facts_.frames_released : facts_.frames_dropped)++;
      return;
    }
    std::scoped_lock lists(mutex_);
    // Leaving `held` takes mutex_ too, so what is kept here is kept in a list that still counts.
    if (mode() == Mode::kOpen) continue;
    if (mode() == Mode::kHeld) {
      keep(port, frame);
    } else {
      facts_.frames_dropped++;
    }
    return;
  }
}

// Holding mutex_, mode held.
void Outbox::keep(OutputPort port, std::span<const uint8_t> frame) {
  Segment& segment = *open_;
  segment.bytes.insert(segment.bytes.end(), frame.begin(), frame.end());
  const uint32_t length = static_cast<uint32_t>(frame.size());
  uint64_t charge = length;
  if (port == OutputPort::kConsole && !segment.frames.empty() &&
      segment.frames.back().port == port) {
    segment.frames.back().length += length;
  } else {
    segment.frames.push_back(Frame{port, length});
    facts_.frames_held++;
    charge += sizeof(Frame);
  }
  facts_.bytes_held += length;
  charge_.fetch_add(charge, std::memory_order_relaxed);
  waiting_.store(true, std::memory_order_release);
}

bool Outbox::hold() {
  std::scoped_lock sinks(sink_mutex_);
  std::scoped_lock lists(mutex_);
  if (mode() == Mode::kDropped) return false;
  if (mode() == Mode::kHeld) return true;
  start_segment();
  mode_.store(Mode::kHeld, std::memory_order_release);
  return true;
}

void Outbox::begin_lease(uint64_t lease_ns) {
  std::scoped_lock sinks(sink_mutex_);
  lease_ns_ = lease_ns;
  lease_end_ns_ = 0;
}

void Outbox::extend_lease(uint64_t sent_ns) {
  std::scoped_lock sinks(sink_mutex_);
  lease_end_ns_ = std::max(lease_end_ns_, sent_ns + lease_ns_);
  emit_due();
}

uint32_t Outbox::seal(uint64_t epoch) {
  std::scoped_lock lists(mutex_);
  FT_CHECK(epoch > last_sealed_, "the outbox was sealed for an epoch that is not a later one");
  last_sealed_ = epoch;
  seals_[epoch % kSeals] = {epoch, now_()};
  if (mode() != Mode::kHeld || open_->frames.empty()) return 0;
  const uint32_t frames = static_cast<uint32_t>(open_->frames.size());
  open_->epoch = epoch;
  sealed_.push(std::move(open_));
  start_segment();
  waiting_.store(false, std::memory_order_release);
  return frames;
}

bool Outbox::release(uint64_t epoch) {
  std::scoped_lock sinks(sink_mutex_);
  {
    std::scoped_lock lists(mutex_);
    if (mode() != Mode::kHeld) return true;
    if (epoch > last_sealed_) return false;
    const Seal& seal = seals_[epoch % kSeals];
    if (seal.epoch == epoch) lease_end_ns_ = std::max(lease_end_ns_, seal.at_ns + lease_ns_);
    while (sealed_.head && sealed_.head->epoch <= epoch) due_.push(sealed_.pop());
  }
  emit_due();
  return true;
}

bool Outbox::open() {
  std::scoped_lock sinks(sink_mutex_);
  std::scoped_lock lists(mutex_);
  if (mode() == Mode::kDropped) return false;
  last_sealed_ = 0;
  // Nobody else can be promoted: no lease is needed any more.
  lease_ns_ = 0;
  if (mode() == Mode::kOpen) return true;
  // The rare moment at which sinks run under both locks: nothing may slip in between the last held
  // frame and the first that passes through.
  while (auto segment = sealed_.pop()) due_.push(std::move(segment));
  due_.push(std::move(open_));
  Facts facts;
  for (Segment* s = due_.head.get(); s != nullptr; s = s->next.get()) emit(*s, &facts);
  settle(std::exchange(due_, {}), facts);
  waiting_.store(false, std::memory_order_release);
  mode_.store(Mode::kOpen, std::memory_order_release);
  return true;
}

void Outbox::drop() {
  std::scoped_lock sinks(sink_mutex_);
  std::scoped_lock lists(mutex_);
  mode_.store(Mode::kDropped, std::memory_order_release);
  if (open_) sealed_.push(std::move(open_));
  for (SegmentList* list : {&due_, &sealed_}) {
    while (auto segment = list->pop()) {
      facts_.frames_dropped += segment->frames.size() - segment->frames_out;
      forget(std::move(segment));
    }
  }
  waiting_.store(false, std::memory_order_release);
}

bool Outbox::lease_waited_for() const {
  std::scoped_lock sinks(sink_mutex_);
  return due_.head != nullptr;
}

Outbox::Facts Outbox::facts() const {
  std::scoped_lock lists(mutex_);
  return facts_;
}

// Holding sink_mutex_, not mutex_: hands out what is due, for as long as the lease lasts.
void Outbox::emit_due() {
  if (!due_.head || mode() != Mode::kHeld) return;
  Facts facts;
  SegmentList emitted;
  while (due_.head && emit(*due_.head, &facts)) emitted.push(due_.pop());
  std::scoped_lock lists(mutex_);
  settle(std::move(emitted), facts);
}

// Holding sink_mutex_. Counts into `facts`. False when the lease ended before all of it was out.
bool Outbox::emit(Segment& segment, Facts* facts) {
  while (segment.frames_out < segment.frames.size()) {
    // Before each frame: the process may have been stopped after the one before it.
    if (lease_ns_ != 0 && now_() >= lease_end_ns_) {
      facts->lease_expired++;
      return false;
    }
    const Frame& frame = segment.frames[segment.frames_out];
    const Sink& sink = sinks_[static_cast<size_t>(frame.port)];
    if (sink) sink({segment.bytes.data() + segment.bytes_out, frame.length});
    (sink ? facts->frames_released : facts->frames_dropped)++;
    segment.bytes_out += frame.length;
    segment.frames_out++;
  }
  return true;
}

// Holding mutex_: the emitted segments no longer count as held.
void Outbox::settle(SegmentList&& emitted, const Facts& facts) {
  facts_.frames_released += facts.frames_released;
  facts_.frames_dropped += facts.frames_dropped;
  facts_.lease_expired += facts.lease_expired;
  while (auto segment = emitted.pop()) forget(std::move(segment));
}

// Holding mutex_.
void Outbox::forget(std::unique_ptr<Segment> segment) {
  facts_.frames_held -= segment->frames.size();
  facts_.bytes_held -= segment->bytes.size();
  charge_.fetch_sub(segment->bytes.size() + segment->frames.size() * sizeof(Frame),
                    std::memory_order_relaxed);
  if (spare_count_ >= kSparesMax || segment->bytes.capacity() > kSpareBytesMax) return;
  segment->bytes.clear();
  segment->frames.clear();
  segment->frames_out = segment->bytes_out = 0;
  spare_.push(std::move(segment));
  spare_count_++;
}

// Holding mutex_.
void Outbox::start_segment() {
  open_ = spare_.pop();
  if (open_) {
    spare_count_--;
  } else {
    open_ = std::make_unique<Segment>();
  }
}

}  // namespace ft

// virtio-mmio transport, version 2.
#include "machine/virtio_mmio.h"

#include <algorithm>
#include <cstring>

namespace ft {

namespace {

// Register offsets, Virtio 1.2 §4.2.2. Every one is 32 bits wide.
constexpr uint64_t kMagicValue = 0x000;
constexpr uint64_t kVersion = 0x004;
constexpr uint64_t kDeviceId = 0x008;
constexpr uint64_t kVendorId = 0x00c;
constexpr uint64_t kDeviceFeatures = 0x010;
constexpr uint64_t kDeviceFeaturesSel = 0x014;
constexpr uint64_t kDriverFeatures = 0x020;
constexpr uint64_t kDriverFeaturesSel = 0x024;
constexpr uint64_t kQueueSel = 0x030;
constexpr uint64_t kQueueNumMax = 0x034;
constexpr uint64_t kQueueNum = 0x038;
constexpr uint64_t kQueueReady = 0x044;
constexpr uint64_t kQueueNotify = kVirtioMmioNotifyOffset;
constexpr uint64_t kInterruptStatus = 0x060;
constexpr uint64_t kInterruptAck = 0x064;
constexpr uint64_t kStatus = 0x070;
constexpr uint64_t kQueueDescLow = 0x080;
constexpr uint64_t kQueueDescHigh = 0x084;
constexpr uint64_t kQueueDriverLow = 0x090;
constexpr uint64_t kQueueDriverHigh = 0x094;
constexpr uint64_t kQueueDeviceLow = 0x0a0;
constexpr uint64_t kQueueDeviceHigh = 0x0a4;
constexpr uint64_t kShmLenLow = 0x0b0;
constexpr uint64_t kShmBaseHigh = 0x0bc;
constexpr uint64_t kConfigGeneration = 0x0fc;
constexpr uint64_t kConfig = 0x100;

constexpr uint32_t kMagic = 0x74726976;   // "virt"
constexpr uint32_t kVendor = 0x554d4f52;  // "ROMU"

constexpr uint32_t kDriverStatusBits = kVirtioStatusAcknowledge | kVirtioStatusDriver |
                                       kVirtioStatusDriverOk | kVirtioStatusFeaturesOk |
                                       kVirtioStatusFailed;

void set_low(uint64_t* field, uint32_t value) {
  *field = (*field & ~0xffffffffull) | value;
}
void set_high(uint64_t* field, uint32_t value) {
  *field = (*field & 0xffffffffull) | static_cast<uint64_t>(value) << 32;
}
uint32_t half(uint64_t features, uint32_t select) {
  if (select > 1) return 0;
  return static_cast<uint32_t>(select == 0 ? features : features >> 32);
}

bool running(uint32_t status) {
  return (status & kVirtioStatusDriverOk) != 0 &&
         (status & (kVirtioStatusNeedsReset | kVirtioStatusFailed)) == 0;
}

}  // namespace

VirtioMmio::VirtioMmio(GuestMemory& memory, VirtioDevice& device, std::function<void()> raise,
                       uint16_t index)
    : device_(device), raise_(std::move(raise)), index_(index) {
  const uint32_t count = device.queue_count();
  FT_CHECK(count <= kVirtioQueuesMax, "a virtio device has more queues than a state entry holds");
  queues_.reserve(count);
  for (uint32_t i = 0; i < count; i++) {
    FT_CHECK(device.queue_size_max(i) <= kQueueSizeMax, "a virtio queue is larger than a chain");
    queues_.emplace_back(memory, device.queue_size_max(i));
    queues_.back().reset();
  }
  s_.device_id = device.device_id();
  s_.features_offered = features_offered();
  s_.queue_count = count;
  device.attach(*this);
}

VirtQueue* VirtioMmio::selected() {
  return s_.queue_sel < queues_.size() ? &queues_[s_.queue_sel] : nullptr;
}

const VirtQueue* VirtioMmio::selected() const {
  return s_.queue_sel < queues_.size() ? &queues_[s_.queue_sel] : nullptr;
}

void VirtioMmio::read(uint64_t offset, std::span<uint8_t> out) {
  std::fill(out.begin(), out.end(), uint8_t{0});
  if (offset >= kConfig) {
    device_.read_config(offset - kConfig, out);
    return;
  }
  // Other widths are a driver's mistake; they read as zero.
  if (out.size() != 4 || offset % 4 != 0) return;
  const uint32_t value = read_register(offset);
  std::memcpy(out.data(), &value, sizeof(value));
}

uint32_t VirtioMmio::read_register(uint64_t offset) const {
  const VirtQueue* queue = selected();
  switch (offset) {
    case kMagicValue:
      return kMagic;
    case kVersion:
      return 2;
    case kDeviceId:
      return s_.device_id;
    case kVendorId:
      return kVendor;
    case kDeviceFeatures:
      return half(s_.features_offered, s_.device_features_sel);
    case kQueueNumMax:
      return queue != nullptr ? queue->size_max() : 0;
    case kQueueReady:
      return queue != nullptr ? queue->state().ready : 0;
    case kInterruptStatus:
      return s_.isr;
    case kStatus:
      return s_.status;
    case kConfigGeneration:
      return s_.config_generation;
    default:
      break;
  }
  // No shared memory regions: length and base read as all ones.
  if (offset >= kShmLenLow && offset <= kShmBaseHigh) return ~0u;
  return 0;
}

void VirtioMmio::write(uint64_t offset, std::span<const uint8_t> in) {
  if (offset >= kConfig) {
    device_.write_config(offset - kConfig, in);
    return;
  }
  if (in.size() != 4 || offset % 4 != 0) return;
  uint32_t value = 0;
  std::memcpy(&value, in.data(), sizeof(value));
  write_register(offset, value);
}

void VirtioMmio::write_register(uint64_t offset, uint32_t value) {
  switch (offset) {
    case kDeviceFeaturesSel:
      s_.device_features_sel = value;
      return;
    case kDriverFeaturesSel:
      s_.driver_features_sel = value;
      return;
    case kDriverFeatures:
      // Once FEATURES_OK stands, what was agreed stays.
      if ((s_.status & kVirtioStatusFeaturesOk) != 0) return;
      if (s_.driver_features_sel == 0) set_low(&s_.features_driver, value);
      if (s_.driver_features_sel == 1) set_high(&s_.features_driver, value);
      return;
    case kQueueSel:
      s_.queue_sel = value;
      return;
    case kQueueNotify:
      facts_.notifies_plain++;
      notify_queue(value);
      if (active_ && value < queues_.size() && notify_hook_) notify_hook_(value);
      return;
    case kInterruptAck:
      s_.isr &= ~value;
      return;
    case kStatus:
      write_status(value);
      return;
    default:
      write_queue_register(offset, value);
      return;
  }
}

void VirtioMmio::write_queue_register(uint64_t offset, uint32_t value) {
  VirtQueue* queue = selected();
  if (queue == nullptr) return;
  if (offset == kQueueReady) {
    write_queue_ready(*queue, value);
    return;
  }
  if (queue->state().ready != 0) return;  // a live queue does not move
  VirtQueueState& r = queue->registers();
  switch (offset) {
    case kQueueNum:
      r.size = value <= 0xffff ? static_cast<uint16_t>(value) : 0;
      return;
    case kQueueDescLow:
      set_low(&r.desc_gpa, value);
      return;
    case kQueueDescHigh:
      set_high(&r.desc_gpa, value);
      return;
    case kQueueDriverLow:
      set_low(&r.avail_gpa, value);
      return;
    case kQueueDriverHigh:
      set_high(&r.avail_gpa, value);
      return;
    case kQueueDeviceLow:
      set_low(&r.used_gpa, value);
      return;
    case kQueueDeviceHigh:
      set_high(&r.used_gpa, value);
      return;
    default:
      return;
  }
}

void VirtioMmio::write_queue_ready(VirtQueue& queue, uint32_t value) {
  if (value == 0) {
    queue.registers().ready = 0;
    return;
  }
  if (queue.state().ready != 0 || queue.broken()) return;
  if (!queue.enable()) needs_reset();
}

void VirtioMmio::write_status(uint32_t value) {
  if (value == 0) {
    reset_all();
    return;
  }
  // Bits are only added; taking one back without a reset is not a thing a driver can do.
  uint32_t added = value & kDriverStatusBits & ~s_.status;
  if ((added & kVirtioStatusFeaturesOk) != 0) {
    const bool acceptable = (s_.features_driver & ~s_.features_offered) == 0 &&
                            (s_.features_driver & kVirtioFVersion1) != 0;
    if (!acceptable) added &= ~kVirtioStatusFeaturesOk;
  }
  if (((s_.status | added) & kVirtioStatusFeaturesOk) == 0) added &= ~kVirtioStatusDriverOk;
  s_.status |= added;

  if ((added & kVirtioStatusFailed) != 0) {
    active_ = false;
    device_.reset();
  }
  if ((added & kVirtioStatusDriverOk) == 0) return;
  if ((s_.status & kVirtioStatusNeedsReset) != 0) {
    interrupt(kVirtioIsrConfig);  // a queue was set up wrongly before the driver could be told
    return;
  }
  if (!running(s_.status)) return;
  active_ = true;
  device_.activate(s_.features_driver);
  // What the driver made available before DRIVER_OK was not looked at until now.
  notify_all();
}

void VirtioMmio::reset_all() {
  active_ = false;
  device_.reset();
  for (VirtQueue& queue : queues_) queue.reset();
  s_.features_driver = 0;
  s_.status = 0;
  s_.isr = 0;
  s_.device_features_sel = 0;
  s_.driver_features_sel = 0;
  s_.queue_sel = 0;
}

void VirtioMmio::notify_queue(uint32_t queue) {
  if (active_ && queue < queues_.size()) device_.notify(queue);
}

void VirtioMmio::notify_all() {
  for (uint32_t i = 0; active_ && i < queues_.size(); i++) {
    device_.notify(i);
    if (active_ && notify_hook_) notify_hook_(i);
  }
}

void VirtioMmio::kick_all() {
  notify_all();
  if (active_) {
    interrupt(kVirtioIsrUsed);
  } else if (s_.isr != 0) {
    raise_();
  }
}

void VirtioMmio::config_changed() {
  s_.config_generation++;
  if (active_) interrupt(kVirtioIsrConfig);
}

const char* VirtioMmio::broken_reason() const {
  for (const VirtQueue& queue : queues_) {
    if (queue.broken()) return queue.broken_reason();
  }
  return "";
}

void VirtioMmio::interrupt(uint32_t isr_bit) {
  s_.isr |= isr_bit;
  facts_.interrupts++;
  raise_();
}

void VirtioMmio::signal_used(VirtQueue& queue) {
  if (queue.wants_interrupt()) interrupt(kVirtioIsrUsed);
}

void VirtioMmio::needs_reset() {
  if ((s_.status & kVirtioStatusNeedsReset) != 0) return;
  s_.status |= kVirtioStatusNeedsReset;
  facts_.resets_needed++;
  active_ = false;
  device_.reset();
  if ((s_.status & kVirtioStatusDriverOk) != 0) interrupt(kVirtioIsrConfig);
}

void VirtioMmio::capture(StateWriter& writer) const {
  VirtioMmioState state = s_;
  for (size_t i = 0; i < queues_.size(); i++) state.queues[i] = queues_[i].state();
  uint8_t* out = writer.add(StateKind::kVirtioMmio, index_, sizeof(state));
  std::memcpy(out, &state, sizeof(state));
  device_.capture(writer, index_);
}

const char* VirtioMmio::check(const VirtioMmioState& state) const {
  if (state.version != s_.version) return "unknown version";
  if (state.device_id != s_.device_id) return "it belongs to another kind of device";
  if (state.features_offered != s_.features_offered) return "it offers other features";
  if (state.queue_count != s_.queue_count) return "it has another number of queues";
  if (state.reserved != 0) return "reserved field is not zero";
  if ((state.status & ~(kDriverStatusBits | kVirtioStatusNeedsReset)) != 0) return "unknown status";
  if ((state.isr & ~(kVirtioIsrUsed | kVirtioIsrConfig)) != 0) return "unknown interrupt status";
  const bool features_ok = (state.status & kVirtioStatusFeaturesOk) != 0;
  if (features_ok && ((state.features_driver & ~state.features_offered) != 0 ||
                      (state.features_driver & kVirtioFVersion1) == 0)) {
    return "features were agreed that are not acceptable";
  }
  if (!features_ok && (state.status & kVirtioStatusDriverOk) != 0)
    return "DRIVER_OK comes too soon";
  for (uint32_t i = 0; i < kVirtioQueuesMax; i++) {
    const VirtQueueState& queue = state.queues[i];
    if (i >= queues_.size()) {
      const VirtQueueState none;
      if (std::memcmp(&queue, &none, sizeof(none)) != 0) return "it has a queue too many";
    } else if (const char* why = queues_[i].check(queue)) {
      return why;
    }
  }
  return nullptr;
}

Status VirtioMmio::restore(const StateReader& reader) {
  const auto bytes = reader.find(StateKind::kVirtioMmio, index_);
  const auto bad = [&](const std::string& why) {
    return Error{"FT_ERR_STATE_FORMAT", 0,
                 "the virtio-mmio state of device " + std::to_string(index_) + " is bad: " + why};
  };
  if (bytes.size() != sizeof(VirtioMmioState)) {
    return bad("it has " + std::to_string(bytes.size()) + " bytes instead of " +
               std::to_string(sizeof(VirtioMmioState)));
  }
  VirtioMmioState state;
  std::memcpy(&state, bytes.data(), sizeof(state));
  if (const char* why = check(state)) return bad(why);
  FT_TRY(device_.restore(reader, index_));

  device_.reset();
  for (size_t i = 0; i < queues_.size(); i++) FT_TRY(queues_[i].restore(state.queues[i]));
  s_ = state;
  for (VirtQueueState& queue : s_.queues) queue = VirtQueueState{};  // the queues hold their own
  active_ = running(s_.status);
  if (active_) device_.activate(s_.features_driver);
  if (s_.isr != 0) raise_();
  return Ok{};
}

}  // namespace ft

// The ports by which a guest ends itself.
#include "machine/power.h"

#include <algorithm>

namespace ft {
namespace {

constexpr uint16_t kSleepEnable = 1 << 13;
constexpr uint16_t kSleepTypeMask = 7 << 10;
constexpr uint8_t kKeyboardPulseReset = 0xfe;
constexpr uint8_t kResetCpu = 1 << 2;

}  // namespace

void PowerPorts::attach(DeviceBus& bus) {
  bus.add_port(kPowerPort, 2, power_);
  bus.add_port(kKeyboardPort, 1, keyboard_);
  bus.add_port(kResetPort, 1, reset_);
}

void PowerPorts::Port::read(uint64_t, std::span<uint8_t> out) {
  std::fill(out.begin(), out.end(), reads_as_);
}

void PowerPorts::Port::write(uint64_t offset, std::span<const uint8_t> in) {
  const GuestEnd end = judge_(offset, in);
  if (end != GuestEnd::kNone && ports_.on_end_) ports_.on_end_(end);
}

// Only a write of the whole register says both what to do and to do it.
GuestEnd PowerPorts::judge_power(uint64_t offset, std::span<const uint8_t> in) {
  if (offset != 0 || in.size() != 2) return GuestEnd::kNone;
  const auto value = static_cast<uint16_t>(in[0] | in[1] << 8);
  const bool off = (value & kSleepEnable) != 0 && (value & kSleepTypeMask) == 0;
  return off ? GuestEnd::kPowerOffPort : GuestEnd::kNone;
}

GuestEnd PowerPorts::judge_keyboard(uint64_t, std::span<const uint8_t> in) {
  return in[0] == kKeyboardPulseReset ? GuestEnd::kResetKeyboard : GuestEnd::kNone;
}

GuestEnd PowerPorts::judge_reset(uint64_t, std::span<const uint8_t> in) {
  return (in[0] & kResetCpu) != 0 ? GuestEnd::kResetPort : GuestEnd::kNone;
}

}  // namespace ft

// How a guest ends itself: the ports by which it switches its machine off or has it reset.
//
//   0x604   2 bytes  PM1a control, where a q35 has it   SLP_EN (bit 13) with sleep type 0: power
//   off 0x64    1 byte   keyboard controller's command      0xfe: reset 0xcf9   1 byte   reset
//   control                      bit 2 set: reset
//
// Besides these, a triple fault and KVM's own system events end a guest; the vCPU threads see
// those. There is no keyboard controller behind port 0x64: it reads as an absent one (0xff), so
// that no guest waits for it. Source: ACPI 6.5 §4.8.3.2.1; Intel ICH9 data sheet §13.7.1.1
// (RST_CNT). Thread: every call under the machine lock.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "machine/device_bus.h"

namespace ft {

/// How a guest ended itself. The numbers cross into JavaScript (src/machine/kvm-machine.ts).
enum class GuestEnd : uint8_t {
  kNone = 0,
  kPowerOffPort = 1,
  kPowerOffEvent = 2,
  kResetKeyboard = 3,
  kResetPort = 4,
  kTripleFault = 5,
  kResetEvent = 6,
};

inline constexpr uint16_t kPowerPort = 0x604;
inline constexpr uint16_t kKeyboardPort = 0x64;
inline constexpr uint16_t kResetPort = 0xcf9;

class PowerPorts {
 public:
  /// Called for each access that ends the guest; the guest may go on until its vCPUs are stopped.
  using OnEnd = std::function<void(GuestEnd)>;

  PowerPorts() = default;
  PowerPorts(const PowerPorts&) = delete;
  PowerPorts& operator=(const PowerPorts&) = delete;

  /// Puts the ports on `bus`, which outlives them.
  void attach(DeviceBus& bus);
  void set_on_end(OnEnd on_end) { on_end_ = std::move(on_end); }

 private:
  class Port final : public Device {
   public:
    using Judge = GuestEnd (*)(uint64_t offset, std::span<const uint8_t> in);
    Port(PowerPorts& ports, Judge judge, uint8_t reads_as)
        : ports_(ports), judge_(judge), reads_as_(reads_as) {}
    void read(uint64_t offset, std::span<uint8_t> out) override;
    void write(uint64_t offset, std::span<const uint8_t> in) override;

   private:
    PowerPorts& ports_;
    Judge judge_;
    uint8_t reads_as_;
  };

  static GuestEnd judge_power(uint64_t offset, std::span<const uint8_t> in);
  static GuestEnd judge_keyboard(uint64_t offset, std::span<const uint8_t> in);
  static GuestEnd judge_reset(uint64_t offset, std::span<const uint8_t> in);

  OnEnd on_end_;
  Port power_{*this, judge_power, 0};
  Port keyboard_{*this, judge_keyboard, 0xff};
  Port reset_{*this, judge_reset, 0};
};

}  // namespace ft

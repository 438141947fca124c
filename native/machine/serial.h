// 8250/16550A serial port: what the guest prints leaves through the outbox's console port.
//
//   port   DLAB=0 read / write       DLAB=1          (DLAB = LCR bit 7)
//   +0     RBR  / THR                DLL
//   +1     IER                       DLM
//   +2     IIR  / FCR
//   +3     LCR      +4 MCR      +5 LSR      +6 MSR      +7 SCR
//
// A byte written to THR is in the outbox before the write returns, so a cut never loses one; the
// transmitter is therefore always empty. Source: National Semiconductor PC16550D data sheet, §8.
// Thread: every call under the machine lock.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "core/result.h"
#include "kvm/state.h"
#include "machine/device_bus.h"
#include "machine/outbox.h"

namespace ft {

inline constexpr uint16_t kSerialPortBase = 0x3f8;
inline constexpr uint16_t kSerialPorts = 8;
inline constexpr uint32_t kSerialGsi = 4;
inline constexpr uint32_t kSerialRxBytesMax = 256;

/// The port's whole state, as stored under StateKind::kSerial.
struct SerialState {
  uint32_t version = 1;
  uint8_t ier = 0;
  uint8_t fcr = 0;  // bit 0: FIFOs on
  uint8_t lcr = 0;
  uint8_t mcr = 0;
  uint8_t scr = 0;
  uint8_t dll = 12;
  uint8_t dlm = 0;
  uint8_t thr_empty_pending = 0;  // the THR-empty interrupt waits to be seen in IIR
  uint8_t overrun = 0;            // LSR bit 1, until LSR is read
  uint8_t reserved = 0;
  uint16_t rx_count = 0;
  uint8_t rx[kSerialRxBytesMax] = {};  // oldest first; zero past rx_count
};
static_assert(sizeof(SerialState) == 16 + kSerialRxBytesMax);

class Serial final : public Device {
 public:
  /// `raise` pulses the port's interrupt line (edge). `outbox` outlives the port.
  /// `index` tells several ports' state entries apart.
  Serial(Outbox& outbox, std::function<void()> raise, uint16_t index = 0)
      : outbox_(outbox), raise_(std::move(raise)), index_(index) {}

  void read(uint64_t offset, std::span<uint8_t> out) override;
  void write(uint64_t offset, std::span<const uint8_t> in) override;

  /// Gives the guest input; returns how many bytes were taken (the receive queue is bounded; offer
  /// the rest again later).
  size_t push_input(std::span<const uint8_t> bytes);
  size_t input_room() const { return kSerialRxBytesMax - s_.rx_count; }
  /// Called, once, when there is room again after push_input() could not take everything. Must not
  /// block, nor call the port.
  void set_room_hook(std::function<void()> hook) { room_hook_ = std::move(hook); }

  void capture(StateWriter& writer) const;
  /// Error: FT_ERR_STATE_FORMAT; the port is then unchanged. Pulses the interrupt when one is due.
  Status restore(const StateReader& reader);

 private:
  uint8_t read_register(uint8_t reg);
  void write_register(uint8_t reg, uint8_t value);
  void transmit(uint8_t byte);
  void receive(uint8_t byte);
  uint8_t take_input();
  uint8_t interrupt_id() const;
  uint8_t modem_status() const;
  void raise_if_due();
  void tell_of_room();

  Outbox& outbox_;
  std::function<void()> raise_;
  std::function<void()> room_hook_;
  bool room_wanted_ = false;
  uint16_t index_;
  SerialState s_;
};

}  // namespace ft

// 8250/16550A serial port.
#include "machine/serial.h"

#include <algorithm>
#include <cstring>

namespace ft {

namespace {

enum Register : uint8_t { kData, kIer, kIirFcr, kLcr, kMcr, kLsr, kMsr, kScr };

constexpr uint8_t kIerRxData = 0x01;
constexpr uint8_t kIerThrEmpty = 0x02;
constexpr uint8_t kIerLineStatus = 0x04;
constexpr uint8_t kIerMask = 0x0f;
constexpr uint8_t kIirNone = 0x01;
constexpr uint8_t kIirThrEmpty = 0x02;
constexpr uint8_t kIirRxData = 0x04;
constexpr uint8_t kIirLineStatus = 0x06;
constexpr uint8_t kIirFifosOn = 0xc0;
constexpr uint8_t kFcrEnable = 0x01;
constexpr uint8_t kFcrClearRx = 0x02;
constexpr uint8_t kFcrTrigger = 0xc0;
constexpr uint8_t kLcrDlab = 0x80;
constexpr uint8_t kMcrMask = 0x1f;
constexpr uint8_t kMcrLoop = 0x10;
constexpr uint8_t kLsrData = 0x01;
constexpr uint8_t kLsrOverrun = 0x02;
constexpr uint8_t kLsrIdle = 0x60;       // transmitter and its holding register are empty
constexpr uint8_t kMsrConnected = 0xb0;  // carrier, data set ready, clear to send

}  // namespace

void Serial::read(uint64_t offset, std::span<uint8_t> out) {
  for (size_t i = 0; i < out.size(); i++) {
    out[i] = read_register(static_cast<uint8_t>((offset + i) % kSerialPorts));
  }
}

void Serial::write(uint64_t offset, std::span<const uint8_t> in) {
  for (size_t i = 0; i < in.size(); i++) {
    write_register(static_cast<uint8_t>((offset + i) % kSerialPorts), in[i]);
  }
}

uint8_t Serial::read_register(uint8_t reg) {
  const bool dlab = (s_.lcr & kLcrDlab) != 0;
  switch (reg) {
    case kData:
      return dlab ? s_.dll : take_input();
    case kIer:
      return dlab ? s_.dlm : s_.ier;
    case kIirFcr: {
      const uint8_t id = interrupt_id();
      // Seeing the THR-empty interrupt in IIR is what takes it back.
      if (id == kIirThrEmpty) s_.thr_empty_pending = 0;
      return id | ((s_.fcr & kFcrEnable) != 0 ? kIirFifosOn : 0);
    }
    case kLcr:
      return s_.lcr;
    case kMcr:
      return s_.mcr;
    case kLsr: {
      uint8_t value = kLsrIdle;
      if (s_.rx_count != 0) value |= kLsrData;
      if (s_.overrun != 0) value |= kLsrOverrun;
      s_.overrun = 0;
      return value;
    }
    case kMsr:
      return modem_status();
    default:
      return s_.scr;
  }
}

void Serial::write_register(uint8_t reg, uint8_t value) {
  const bool dlab = (s_.lcr & kLcrDlab) != 0;
  switch (reg) {
    case kData:
      if (dlab) {
        s_.dll = value;
      } else {
        transmit(value);
      }
      return;
    case kIer:
      if (dlab) {
        s_.dlm = value;
        return;
      }
      value &= kIerMask;
      // Asking for the THR-empty interrupt while the register is empty, which it always is, gets
      // it.
      if ((value & ~s_.ier & kIerThrEmpty) != 0) s_.thr_empty_pending = 1;
      s_.ier = value;
      raise_if_due();
      return;
    case kIirFcr: {
      const uint8_t changed = s_.fcr ^ value;
      if ((value & kFcrClearRx) != 0 || (changed & kFcrEnable) != 0) {
        s_.rx_count = 0;
        std::fill(std::begin(s_.rx), std::end(s_.rx), uint8_t{0});
        tell_of_room();
      }
      s_.fcr = value & (kFcrEnable | kFcrTrigger);
      return;
    }
    case kLcr:
      s_.lcr = value;
      return;
    case kMcr:
      s_.mcr = value & kMcrMask;
      if ((s_.mcr & kMcrLoop) == 0) tell_of_room();
      return;
    case kScr:
      s_.scr = value;
      return;
    default:
      return;  // LSR and MSR are read-only here
  }
}

void Serial::transmit(uint8_t byte) {
  if ((s_.mcr & kMcrLoop) != 0) {
    receive(byte);
  } else {
    outbox_.append(OutputPort::kConsole, {&byte, 1});
  }
  s_.thr_empty_pending = 1;
  raise_if_due();
}

void Serial::receive(uint8_t byte) {
  if (s_.rx_count == kSerialRxBytesMax) {
    s_.overrun = 1;
    return;
  }
  s_.rx[s_.rx_count++] = byte;
}

uint8_t Serial::take_input() {
  if (s_.rx_count == 0) return 0;
  const uint8_t byte = s_.rx[0];
  s_.rx_count--;
  std::memmove(s_.rx, s_.rx + 1, s_.rx_count);
  s_.rx[s_.rx_count] = 0;
  // In large pieces: the other side is a thread that has to be woken.
  if (s_.rx_count <= kSerialRxBytesMax / 2) tell_of_room();
  return byte;
}

// The pending interrupt of the highest priority, as IIR shows it.
uint8_t Serial::interrupt_id() const {
  if ((s_.ier & kIerLineStatus) != 0 && s_.overrun != 0) return kIirLineStatus;
  if ((s_.ier & kIerRxData) != 0 && s_.rx_count != 0) return kIirRxData;
  if ((s_.ier & kIerThrEmpty) != 0 && s_.thr_empty_pending != 0) return kIirThrEmpty;
  return kIirNone;
}

uint8_t Serial::modem_status() const {
  if ((s_.mcr & kMcrLoop) == 0) return kMsrConnected;
  // Looped back: RTS→CTS, DTR→DSR, OUT1→RI, OUT2→DCD.
  uint8_t value = 0;
  if ((s_.mcr & 0x02) != 0) value |= 0x10;
  if ((s_.mcr & 0x01) != 0) value |= 0x20;
  if ((s_.mcr & 0x04) != 0) value |= 0x40;
  if ((s_.mcr & 0x08) != 0) value |= 0x80;
  return value;
}

void Serial::raise_if_due() {
  if (interrupt_id() != kIirNone) raise_();
}

void Serial::tell_of_room() {
  if (!room_wanted_) return;
  room_wanted_ = false;
  if (room_hook_) room_hook_();
}

size_t Serial::push_input(std::span<const uint8_t> bytes) {
  // While looped back the line is disconnected; what comes in waits outside.
  const bool connected = (s_.mcr & kMcrLoop) == 0;
  const size_t n = connected ? std::min(bytes.size(), input_room()) : 0;
  if (n < bytes.size()) room_wanted_ = true;
  for (size_t i = 0; i < n; i++) receive(bytes[i]);
  if (n != 0) raise_if_due();
  return n;
}

void Serial::capture(StateWriter& writer) const {
  uint8_t* out = writer.add(StateKind::kSerial, index_, sizeof(s_));
  std::memcpy(out, &s_, sizeof(s_));
}

Status Serial::restore(const StateReader& reader) {
  const auto bytes = reader.find(StateKind::kSerial, index_);
  const auto bad = [&](const char* why) {
    return Error{"FT_ERR_STATE_FORMAT", 0,
                 "the state of serial port " + std::to_string(index_) + " is bad: " + why};
  };
  SerialState state;
  if (bytes.size() != sizeof(state)) return bad("it is missing or has another length");
  std::memcpy(&state, bytes.data(), sizeof(state));
  if (state.version != SerialState{}.version) return bad("unknown version");
  if (state.rx_count > kSerialRxBytesMax) return bad("its receive queue is longer than the port's");
  if ((state.ier & ~kIerMask) != 0 || (state.mcr & ~kMcrMask) != 0 ||
      (state.fcr & ~(kFcrEnable | kFcrTrigger)) != 0) {
    return bad("a register has bits that it cannot have");
  }
  if (state.thr_empty_pending > 1 || state.overrun > 1 || state.reserved != 0) {
    return bad("a flag is neither 0 nor 1");
  }
  s_ = state;
  raise_if_due();
  return Ok{};
}

}  // namespace ft

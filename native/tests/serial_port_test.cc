// The serial port: what Linux's driver does to find a 16550A, output, input, interrupts and state.
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kvm/state.h"
#include "machine/serial.h"

using namespace ft;  // NOLINT: the test is about this namespace

namespace {

struct Port {
  Outbox outbox;
  std::string out;
  uint32_t interrupts = 0;
  Serial serial{outbox, [this] { interrupts++; }};

  Port() {
    outbox.set_sink(OutputPort::kConsole,
                    [this](auto bytes) { out.append(bytes.begin(), bytes.end()); });
  }
  uint8_t in(uint8_t reg) {
    uint8_t value = 0;
    serial.read(reg, {&value, 1});
    return value;
  }
  void set(uint8_t reg, uint8_t value) { serial.write(reg, {&value, 1}); }
  size_t push(const std::string& text) {
    return serial.push_input({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
};

std::vector<uint8_t> captured(Port& port) {
  StateWriter writer;
  writer.begin();
  port.serial.capture(writer);
  const auto blob = writer.finish();
  return {blob.begin(), blob.end()};
}

Status restore(Port& port, const std::vector<uint8_t>& blob) {
  auto reader = StateReader::open(blob);
  REQUIRE(reader.ok());
  return port.serial.restore(reader.value());
}

}  // namespace

TEST_CASE("serial: a driver's probe finds a 16550A") {
  Port p;
  // Interrupt enable keeps four bits, scratch keeps eight.
  p.set(1, 0);
  CHECK(p.in(1) == 0);
  p.set(1, 0xff);
  CHECK(p.in(1) == 0x0f);
  p.set(1, 0);
  p.set(7, 0xa5);
  CHECK(p.in(7) == 0xa5);
  // Loopback shows the modem outputs at the modem inputs.
  p.set(4, 0x10 | 0x0a);
  CHECK((p.in(6) & 0xf0) == 0x90);
  p.set(4, 0x10 | 0x05);
  CHECK((p.in(6) & 0xf0) == 0x60);
  p.set(4, 0);
  CHECK(p.in(6) == 0xb0);
  // FIFOs on: IIR says so; no 64-byte FIFO, no extended registers.
  CHECK((p.in(2) >> 6) == 0);
  p.set(2, 0x01);
  CHECK((p.in(2) >> 6) == 3);
  p.set(2, 0x21);
  CHECK((p.in(2) >> 5) == 6);
  p.set(3, 0xbf);
  CHECK(p.in(2) != 0);
  p.set(3, 0);
  // The divisor hides behind DLAB.
  p.set(3, 0x83);
  p.set(0, 0x34);
  p.set(1, 0x12);
  CHECK(p.in(0) == 0x34);
  CHECK(p.in(1) == 0x12);
  p.set(3, 0x03);
  CHECK(p.in(1) == 0);
  CHECK(p.in(5) == 0x60);
  CHECK(p.out.empty());
}

TEST_CASE("serial: every byte is in the outbox at once, and held bytes stay held") {
  Port p;
  for (const char c : std::string("hello\r\n")) {
    CHECK((p.in(5) & 0x20) != 0);
    p.set(0, static_cast<uint8_t>(c));
  }
  CHECK(p.out == "hello\r\n");
  p.outbox.hold();
  p.set(0, 'a');
  p.set(0, 'b');
  p.outbox.seal(1);
  p.set(0, 'c');
  CHECK(p.out == "hello\r\n");
  p.outbox.release(1);
  CHECK(p.out == "hello\r\nab");
}

TEST_CASE("serial: the transmit interrupt comes when asked for and goes when it was seen") {
  Port p;
  CHECK(p.in(2) == 0x01);
  p.set(1, 0x02);
  CHECK(p.interrupts == 1);
  CHECK(p.in(2) == 0x02);
  CHECK(p.in(2) == 0x01);
  p.set(0, 'x');
  CHECK(p.interrupts == 2);
  CHECK(p.in(2) == 0x02);
  p.set(1, 0x00);
  p.set(0, 'y');
  CHECK(p.interrupts == 2);
  CHECK(p.in(2) == 0x01);
  p.set(1, 0x02);
  CHECK(p.interrupts == 3);
}

TEST_CASE("serial: input is queued, announced, read in order, and bounded") {
  Port p;
  p.set(1, 0x01);
  CHECK(p.push("ab") == 2);
  CHECK(p.interrupts == 1);
  CHECK(p.in(2) == 0x04);
  CHECK((p.in(5) & 1) == 1);
  CHECK(p.in(0) == 'a');
  CHECK(p.in(0) == 'b');
  CHECK(p.in(0) == 0);
  CHECK((p.in(5) & 1) == 0);
  CHECK(p.in(2) == 0x01);
  CHECK(p.push(std::string(300, 'z')) == kSerialRxBytesMax);
  CHECK(p.push("more") == 0);
  CHECK(p.serial.input_room() == 0);
  CHECK(p.in(0) == 'z');
  CHECK(p.push("more") == 1);
  p.set(2, 0x02);  // clear the receive FIFO
  CHECK(p.serial.input_room() == kSerialRxBytesMax);
}

TEST_CASE("serial: looped back, output becomes input and nothing leaves; too much overruns") {
  Port p;
  p.set(1, 0x05);
  p.set(4, 0x10);
  p.set(0, 'q');
  CHECK(p.out.empty());
  CHECK(p.push("from outside") == 0);
  CHECK(p.in(0) == 'q');
  for (uint32_t i = 0; i <= kSerialRxBytesMax; i++) p.set(0, 'r');
  CHECK(p.in(2) == 0x06);
  CHECK(p.in(5) == 0x63);
  CHECK(p.in(5) == 0x61);
}

TEST_CASE("serial: state goes round, and a due interrupt is raised again") {
  Port a;
  a.set(3, 0x83);
  a.set(0, 1);
  a.set(3, 0x03);
  a.set(2, 0xc1);
  a.set(4, 0x0b);
  a.set(7, 0x77);
  a.set(1, 0x01);
  a.push("pending");
  const auto blob = captured(a);
  Port b;
  REQUIRE(restore(b, blob).ok());
  CHECK(b.interrupts == 1);
  CHECK(captured(b) == blob);
  CHECK(b.in(7) == 0x77);
  CHECK(b.in(2) == 0xc4);
  std::string text;
  while ((b.in(5) & 1) != 0) text.push_back(static_cast<char>(b.in(0)));
  CHECK(text == "pending");
}

TEST_CASE("serial: a state that cannot be is refused") {
  using Change = void (*)(SerialState&);
  const Change changes[] = {
      [](SerialState& s) { s.version = 9; },
      [](SerialState& s) { s.rx_count = kSerialRxBytesMax + 1; },
      [](SerialState& s) { s.rx_count = 0xffff; },
      [](SerialState& s) { s.ier = 0x10; },
      [](SerialState& s) { s.mcr = 0x20; },
      [](SerialState& s) { s.fcr = 0x02; },
      [](SerialState& s) { s.overrun = 2; },
      [](SerialState& s) { s.reserved = 1; },
  };
  for (const Change change : changes) {
    SerialState state;
    change(state);
    StateWriter writer;
    writer.begin();
    std::memcpy(writer.add(StateKind::kSerial, 0, sizeof(state)), &state, sizeof(state));
    const auto blob = writer.finish();
    Port p;
    const auto before = captured(p);
    const Status status = restore(p, {blob.begin(), blob.end()});
    REQUIRE_FALSE(status.ok());
    CHECK(std::string(status.error().code) == "FT_ERR_STATE_FORMAT");
    CHECK(captured(p) == before);
  }
  Port p;
  StateWriter writer;
  writer.begin();
  writer.add(StateKind::kSerial, 0, 12);
  const auto blob = writer.finish();
  CHECK_FALSE(restore(p, {blob.begin(), blob.end()}).ok());
}

TEST_CASE("serial: who could not give all of its input is told once there is room again") {
  Port p;
  uint32_t told = 0;
  p.serial.set_room_hook([&] { told++; });
  CHECK(p.push(std::string(kSerialRxBytesMax, 'a')) == kSerialRxBytesMax);
  for (uint32_t i = 0; i < kSerialRxBytesMax; i++) p.in(0);
  CHECK(told == 0);  // everything was taken, so nobody waits

  CHECK(p.push(std::string(kSerialRxBytesMax + 1, 'b')) == kSerialRxBytesMax);
  for (uint32_t i = 0; i < kSerialRxBytesMax / 2 - 1; i++) p.in(0);
  CHECK(told == 0);
  p.in(0);
  CHECK(told == 1);  // with half of the queue free
  p.in(0);
  CHECK(told == 1);

  p.set(2, 0x01);
  CHECK(p.push(std::string(kSerialRxBytesMax + 1, 'c')) == kSerialRxBytesMax);
  p.set(2, 0x03);  // the receive FIFO is cleared
  CHECK(told == 2);

  p.set(4, 0x10);  // looped back: the line is not connected
  CHECK(p.push("d") == 0);
  CHECK(told == 2);
  p.set(4, 0x00);
  CHECK(told == 3);
}

// The outbox, one thread: what leaves, when, and in which order.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "machine/outbox.h"

using ft::Outbox;
using ft::OutputPort;

namespace {

// Both ports write into one list, so that the order between them shows.
struct Outside {
  std::vector<std::string> seen;
  explicit Outside(Outbox& outbox) {
    outbox.set_sink(OutputPort::kNet, [this](auto f) { take('n', f); });
    outbox.set_sink(OutputPort::kConsole, [this](auto f) { take('c', f); });
  }
  void take(char port, std::span<const uint8_t> frame) {
    seen.push_back(std::string(1, port) + ":" + std::string(frame.begin(), frame.end()));
  }
};

void say(Outbox& outbox, const std::string& text, OutputPort port = OutputPort::kNet) {
  outbox.append(port, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

using Lines = std::vector<std::string>;

}  // namespace

TEST_CASE("outbox: open passes through, held keeps until its epoch is released") {
  Outbox outbox;
  Outside outside(outbox);
  say(outbox, "a");
  CHECK(outside.seen == Lines{"n:a"});
  REQUIRE(outbox.hold());
  CHECK(outbox.mode() == Outbox::Mode::kHeld);
  CHECK_FALSE(outbox.output_waiting());
  say(outbox, "b");
  CHECK(outbox.output_waiting());
  CHECK(outbox.seal(1) == 1);
  CHECK_FALSE(outbox.output_waiting());
  say(outbox, "c");
  say(outbox, "d");
  CHECK(outbox.seal(2) == 2);
  CHECK(outbox.seal(3) == 0);
  say(outbox, "e");
  CHECK(outside.seen == Lines{"n:a"});

  CHECK(outbox.release(1));
  CHECK(outside.seen == Lines{"n:a", "n:b"});
  CHECK(outbox.release(1));
  CHECK(outside.seen.size() == 2);
  CHECK(outbox.release(3));
  CHECK(outside.seen == Lines{"n:a", "n:b", "n:c", "n:d"});
  CHECK(outbox.release(2));  // late and lower: nothing left to do
  CHECK(outside.seen.size() == 4);
  CHECK(outbox.output_waiting());
  CHECK(outbox.facts().frames_held == 1);
  CHECK(outbox.facts().bytes_held == 1);
  CHECK(outbox.facts().frames_released == 4);
}

TEST_CASE("outbox: an epoch that was never sealed releases nothing") {
  Outbox outbox;
  Outside outside(outbox);
  outbox.hold();
  say(outbox, "a");
  CHECK_FALSE(outbox.release(1));
  outbox.seal(1);
  CHECK_FALSE(outbox.release(2));
  CHECK_FALSE(outbox.release(~0ull));
  CHECK(outside.seen.empty());
  CHECK(outbox.release(1));
  CHECK(outside.seen == Lines{"n:a"});
}

TEST_CASE(
    "outbox: an acknowledgement from before the output was opened has no hold on what follows") {
  Outbox outbox;
  Outside outside(outbox);
  outbox.hold();
  outbox.seal(90);
  say(outbox, "a");
  REQUIRE(outbox.open());
  CHECK(outside.seen == Lines{"n:a"});
  CHECK(outbox.release(90));  // open: nothing held, nothing to do
  REQUIRE(outbox.hold());
  say(outbox, "b");
  CHECK(outbox.seal(1) == 1);  // epochs count from one again
  CHECK_FALSE(outbox.release(90));
  CHECK(outside.seen == Lines{"n:a"});
  CHECK(outbox.release(1));
  CHECK(outside.seen == Lines{"n:a", "n:b"});
}

TEST_CASE(
    "outbox: winning the witness lets out sealed and unsealed frames in order, then passes on") {
  Outbox outbox;
  Outside outside(outbox);
  outbox.hold();
  say(outbox, "a");
  outbox.seal(1);
  say(outbox, "b", OutputPort::kConsole);
  say(outbox, "c");
  outbox.seal(2);
  say(outbox, "d");
  CHECK(outbox.open());
  say(outbox, "e");
  CHECK(outside.seen == Lines{"n:a", "c:b", "n:c", "n:d", "n:e"});
  CHECK_FALSE(outbox.output_waiting());
  CHECK(outbox.facts().frames_held == 0);
  CHECK(outbox.facts().bytes_held == 0);
  CHECK(outbox.facts().frames_released == 5);
}

TEST_CASE("outbox: losing the witness forgets everything, for good") {
  Outbox outbox;
  Outside outside(outbox);
  outbox.hold();
  say(outbox, "a");
  outbox.seal(1);
  say(outbox, "b");
  outbox.drop();
  CHECK(outbox.mode() == Outbox::Mode::kDropped);
  say(outbox, "c");
  CHECK(outbox.release(1));
  CHECK_FALSE(outbox.hold());
  CHECK_FALSE(outbox.open());
  say(outbox, "d");
  CHECK(outbox.seal(2) == 0);
  CHECK(outbox.release(2));
  CHECK(outside.seen.empty());
  CHECK_FALSE(outbox.output_waiting());
  CHECK_FALSE(outbox.over_limit());
  CHECK(outbox.facts().frames_held == 0);
  CHECK(outbox.facts().frames_dropped == 4);
}

TEST_CASE(
    "outbox: console bytes that follow each other are one frame, network frames never merge") {
  Outbox outbox;
  Outside outside(outbox);
  outbox.hold();
  for (const char* byte : {"h", "e", "y"}) say(outbox, byte, OutputPort::kConsole);
  say(outbox, "n1");
  say(outbox, "n2");
  say(outbox, "!", OutputPort::kConsole);
  CHECK(outbox.seal(1) == 4);
  say(outbox, "?", OutputPort::kConsole);
  CHECK(outbox.seal(2) == 1);
  outbox.release(1);
  CHECK(outside.seen == Lines{"c:hey", "n:n1", "n:n2", "c:!"});
  outbox.release(2);
  CHECK(outside.seen.back() == "c:?");
}

TEST_CASE("outbox: the limit counts what is held and recovers when it leaves") {
  Outbox outbox;
  Outside outside(outbox);
  outbox.set_bytes_max(3000);
  outbox.hold();
  const std::string frame(1000, 'x');
  say(outbox, frame);
  say(outbox, frame);
  CHECK_FALSE(outbox.over_limit());
  outbox.seal(1);
  say(outbox, frame);  // with its records above 3000
  CHECK(outbox.over_limit());
  CHECK(outbox.facts().bytes_held == 3000);
  outbox.release(1);
  CHECK_FALSE(outbox.over_limit());
  CHECK(outbox.facts().bytes_held == 1000);
}

TEST_CASE("outbox: empty frames are nothing, and frames for a port without a sink are dropped") {
  Outbox outbox;
  say(outbox, "lost");
  CHECK(outbox.facts().frames_dropped == 1);
  outbox.hold();
  say(outbox, "");
  CHECK(outbox.seal(1) == 0);
  say(outbox, "lost too");
  outbox.seal(2);
  CHECK(outbox.release(2));
  CHECK(outbox.facts().frames_dropped == 2);
  CHECK(outbox.facts().frames_released == 0);
  CHECK(outbox.facts().bytes_held == 0);
}

TEST_CASE("outbox: very many held segments leave in order and are taken apart without recursion") {
  Outbox outbox;
  std::vector<uint32_t> seen;
  outbox.set_sink(OutputPort::kNet, [&](std::span<const uint8_t> frame) {
    uint32_t value;
    REQUIRE(frame.size() == sizeof(value));
    std::copy(frame.begin(), frame.end(), reinterpret_cast<uint8_t*>(&value));
    seen.push_back(value);
  });
  outbox.hold();
  constexpr uint32_t kEpochs = 200000;
  for (uint32_t e = 1; e <= kEpochs; e++) {
    outbox.append(OutputPort::kNet, {reinterpret_cast<const uint8_t*>(&e), sizeof(e)});
    outbox.seal(e);
  }
  outbox.release(kEpochs / 2);
  REQUIRE(seen.size() == kEpochs / 2);
  for (uint32_t i = 0; i < seen.size(); i++) REQUIRE(seen[i] == i + 1);
  CHECK(outbox.facts().frames_held == kEpochs / 2);
}

// The outbox's lease: what was released leaves only while the standby's last sign is young enough,
// looked at before each frame; what came too late stays, in order.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "machine/outbox.h"

using ft::Outbox;
using ft::OutputPort;

namespace {

uint64_t now_ns = 0;
uint64_t fake_now() {
  return now_ns;
}

using Lines = std::vector<std::string>;

// A held outbox whose lease is 100 ns long; its net port writes into `seen`.
struct Scene {
  Outbox outbox{fake_now};
  Lines seen;
  uint64_t frame_takes_ns = 0;

  Scene() {
    now_ns = 1000;
    outbox.set_sink(OutputPort::kNet, [this](auto frame) {
      seen.emplace_back(frame.begin(), frame.end());
      now_ns += frame_takes_ns;
    });
    outbox.begin_lease(100);
    REQUIRE(outbox.hold());
  }
  void say(const std::string& text) {
    outbox.append(OutputPort::kNet, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }
  uint64_t expired() const { return outbox.facts().lease_expired; }
};

}  // namespace

TEST_CASE("lease: it counts from the moment at which the acknowledged epoch was sealed") {
  Scene s;
  s.say("a");
  s.outbox.seal(1);
  now_ns += 99;
  CHECK(s.outbox.release(1));
  CHECK(s.seen == Lines{"a"});
  s.say("b");
  s.outbox.seal(2);
  now_ns += 100;
  CHECK(s.outbox.release(2));
  CHECK(s.seen == Lines{"a"});
  CHECK(s.expired() == 1);
  CHECK(s.outbox.facts().frames_held == 1);
}

TEST_CASE("lease: what was acknowledged too late leaves with the next sign, in order") {
  Scene s;
  s.say("a");
  s.outbox.seal(1);
  s.say("b");
  s.outbox.seal(2);
  now_ns += 500;
  CHECK(s.outbox.release(2));
  CHECK(s.seen.empty());
  s.say("c");
  s.outbox.seal(3);
  SUBCASE("an ack of an epoch that was cut lately") {
    CHECK(s.outbox.release(3));
    CHECK(s.seen == Lines{"a", "b", "c"});
  }
  SUBCASE("an echo of what was sent lately: only what is acknowledged") {
    s.outbox.extend_lease(now_ns - 50);
    CHECK(s.seen == Lines{"a", "b"});
    CHECK(s.outbox.facts().frames_held == 1);
    CHECK(s.outbox.release(3));
    CHECK(s.seen == Lines{"a", "b", "c"});
  }
  SUBCASE("an echo of what was sent long ago: nothing") {
    s.outbox.extend_lease(now_ns - 100);
    CHECK(s.seen.empty());
    s.outbox.extend_lease(now_ns - 300);
    CHECK(s.seen.empty());
    CHECK(s.expired() == 3);
  }
  SUBCASE("the witness was won: everything, and no lease from then on") {
    CHECK(s.outbox.open());
    now_ns += 10'000;
    s.say("d");
    CHECK(s.seen == Lines{"a", "b", "c", "d"});
    CHECK(s.outbox.facts().frames_held == 0);
  }
  SUBCASE("it was lost: never") {
    s.outbox.drop();
    s.outbox.extend_lease(now_ns);
    CHECK(s.seen.empty());
    CHECK(s.outbox.facts().frames_dropped == 3);
    CHECK(s.outbox.facts().frames_held == 0);
    CHECK(s.outbox.facts().bytes_held == 0);
  }
}

TEST_CASE("lease: it is looked up before each frame of an epoch") {
  Scene s;
  s.frame_takes_ns = 40;
  for (const char* text : {"a", "b", "c", "d", "e"}) s.say(text);
  s.outbox.seal(1);
  CHECK(s.outbox.release(1));  // at 0, 40 and 80 of 100
  CHECK(s.seen == Lines{"a", "b", "c"});
  CHECK(s.expired() == 1);
  s.outbox.extend_lease(now_ns - 80);
  CHECK(s.seen == Lines{"a", "b", "c", "d"});
  CHECK(s.expired() == 2);
  SUBCASE("the rest leaves later") {
    s.outbox.extend_lease(now_ns);
    CHECK(s.seen == Lines{"a", "b", "c", "d", "e"});
    CHECK(s.outbox.facts().frames_released == 5);
    CHECK(s.outbox.facts().frames_held == 0);
  }
  SUBCASE("only the rest is dropped") {
    s.outbox.drop();
    CHECK(s.outbox.facts().frames_dropped == 1);
    CHECK(s.outbox.facts().frames_released == 4);
  }
}

TEST_CASE("lease: an older sign never shortens it") {
  Scene s;
  s.outbox.extend_lease(now_ns);
  s.outbox.extend_lease(now_ns - 90);
  s.say("a");
  s.outbox.seal(1);
  now_ns += 50;
  s.say("b");
  s.outbox.seal(2);
  now_ns += 45;
  CHECK(s.outbox.release(1));
  CHECK(s.seen == Lines{"a"});
  now_ns += 20;
  CHECK(s.outbox.release(2));
  CHECK(s.seen == Lines{"a", "b"});
}

TEST_CASE("lease: it begins anew with each replication, and epochs may be numbered anew") {
  Scene s;
  for (uint64_t epoch = 1; epoch <= 300; epoch++) {
    s.say("x");
    s.outbox.seal(epoch);
    now_ns += 10;
    CHECK(s.outbox.release(epoch));
  }
  CHECK(s.seen.size() == 300);
  s.outbox.open();
  now_ns += 1'000'000;
  s.outbox.begin_lease(100);
  s.outbox.seal(4);
  REQUIRE(s.outbox.hold());
  s.say("y");
  s.outbox.seal(5);
  now_ns += 200;
  CHECK(s.outbox.release(5));
  CHECK(s.seen.size() == 300);
  s.outbox.extend_lease(now_ns);
  CHECK(s.seen.size() == 301);
}

TEST_CASE("lease: without one, released is gone") {
  Scene s;
  s.outbox.begin_lease(0);
  s.say("a");
  s.outbox.seal(1);
  now_ns += 1'000'000'000;
  CHECK(s.outbox.release(1));
  CHECK(s.seen == Lines{"a"});
  CHECK(s.expired() == 0);
}

TEST_CASE("lease: its own clock goes on, and never back") {
  uint64_t last = Outbox::boottime_ns();
  for (int i = 0; i < 1000; i++) {
    const uint64_t now = Outbox::boottime_ns();
    CHECK(now >= last);
    last = now;
  }
}

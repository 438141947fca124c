// The outbox under concurrency: a guest that talks, a cut that seals, acknowledgements that
// release, and a witness that decides, all at once. Nothing leaves before its epoch was released;
// order holds.
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "machine/outbox.h"

using ft::Outbox;
using ft::OutputPort;

namespace {

struct Frame {
  uint64_t epoch;     // the epoch that was open when the frame was said
  uint64_t sequence;  // counts from one
};

void say(Outbox& outbox, uint64_t epoch, uint64_t sequence) {
  const Frame frame = {epoch, sequence};
  outbox.append(OutputPort::kNet, {reinterpret_cast<const uint8_t*>(&frame), sizeof(frame)});
}

Frame parse(std::span<const uint8_t> bytes) {
  Frame frame = {};
  if (bytes.size() == sizeof(frame)) std::memcpy(&frame, bytes.data(), sizeof(frame));
  return frame;
}

// What the outside sees; failures are counted, since checks do not belong in other threads.
struct Judge {
  std::atomic<uint64_t> released_up_to{0};  // set before release(epoch) is called
  std::atomic<bool> opened{false};          // set before open() is called
  std::atomic<uint64_t> too_early{0};
  std::atomic<uint64_t> out_of_order{0};
  std::atomic<uint64_t> count{0};
  std::atomic<int> inside{0};
  std::atomic<uint64_t> overlapping{0};
  uint64_t last = 0;  // sinks run one at a time

  void take(std::span<const uint8_t> bytes) {
    if (inside.fetch_add(1) != 0) overlapping++;
    const Frame frame = parse(bytes);
    if (!opened && frame.epoch > released_up_to) too_early++;
    if (frame.sequence != last + 1) out_of_order++;
    last = frame.sequence;
    count++;
    inside.fetch_sub(1);
  }
};

constexpr uint64_t kEpochs = 3000;

// Appends and seals as the vCPU threads do under the machine lock, one frame or a few an epoch.
uint64_t run_guest(Outbox& outbox, std::atomic<uint64_t>& sealed, uint64_t epochs) {
  uint64_t sequence = 0;
  for (uint64_t epoch = 1; epoch <= epochs; epoch++) {
    for (uint64_t i = 0; i < epoch % 4; i++) say(outbox, epoch, ++sequence);
    outbox.seal(epoch);
    sealed = epoch;
  }
  return sequence;
}

}  // namespace

TEST_SUITE("threads") {
  TEST_CASE("outbox: under a lease that comes and goes, nothing is early, lost or out of order") {
    static std::atomic<uint64_t> now_ns;
    now_ns = 1000;
    Outbox outbox([] { return now_ns.load(); });
    Judge judge;
    outbox.set_sink(OutputPort::kNet, [&](auto bytes) {
      now_ns += 30;  // time passes while frames are written
      judge.take(bytes);
    });
    outbox.begin_lease(100);
    REQUIRE(outbox.hold());
    std::atomic<uint64_t> sealed{0};
    uint64_t said = 0;
    std::thread guest([&] { said = run_guest(outbox, sealed, kEpochs); });
    std::thread releaser([&] {
      for (uint64_t done = 0; done < kEpochs; std::this_thread::yield()) {
        if (done == sealed) continue;
        judge.released_up_to = done = sealed;
        outbox.release(done);
      }
    });
    std::thread beats([&] {
      while (judge.released_up_to < kEpochs) {
        outbox.extend_lease(now_ns);
        std::this_thread::yield();
      }
    });
    guest.join();
    releaser.join();
    beats.join();
    while (judge.count < said) outbox.extend_lease(now_ns);
    CHECK(judge.too_early == 0);
    CHECK(judge.out_of_order == 0);
    CHECK(judge.overlapping == 0);
    CHECK(judge.count == said);
    CHECK(outbox.facts().lease_expired > 0);
    CHECK(outbox.facts().frames_held == 0);
    CHECK(outbox.facts().bytes_held == 0);
  }

  TEST_CASE("outbox: frames never leave before their epoch is released, and keep their order") {
    Outbox outbox;
    Judge judge;
    outbox.set_sink(OutputPort::kNet, [&](auto bytes) { judge.take(bytes); });
    REQUIRE(outbox.hold());
    std::atomic<uint64_t> sealed{0};
    uint64_t said = 0;
    std::thread guest([&] { said = run_guest(outbox, sealed, kEpochs); });
    // Two releasers, so that releases overlap and come out of order too.
    const auto release_all = [&](uint64_t lag) {
      for (uint64_t e = 0; e < kEpochs;) {
        const uint64_t now = sealed;
        if (now <= e && now < kEpochs) {
          std::this_thread::yield();
          continue;
        }
        e = now;
        const uint64_t epoch = e < kEpochs && e > lag ? e - lag : e;
        uint64_t seen = judge.released_up_to;
        while (seen < epoch && !judge.released_up_to.compare_exchange_weak(seen, epoch)) {
        }
        outbox.release(epoch);
      }
    };
    std::thread first([&] { release_all(0); });
    std::thread second([&] { release_all(2); });
    std::thread reader([&] {
      while (sealed < kEpochs) {
        (void)outbox.output_waiting();
        (void)outbox.over_limit();
        (void)outbox.facts();
        std::this_thread::yield();
      }
    });
    guest.join();
    first.join();
    second.join();
    reader.join();
    CHECK(judge.too_early == 0);
    CHECK(judge.out_of_order == 0);
    CHECK(judge.overlapping == 0);
    CHECK(judge.count == said);
    CHECK(outbox.facts().frames_held == 0);
    CHECK(outbox.facts().bytes_held == 0);
  }

  TEST_CASE("outbox: nothing leaves for an epoch that nobody released") {
    Outbox outbox;
    Judge judge;
    outbox.set_sink(OutputPort::kNet, [&](auto bytes) { judge.take(bytes); });
    outbox.hold();
    std::atomic<uint64_t> sealed{0};
    constexpr uint64_t kReleased = 100;
    std::thread guest([&] { run_guest(outbox, sealed, kEpochs); });
    while (sealed < kReleased) std::this_thread::yield();
    judge.released_up_to = kReleased;
    for (int i = 0; i < 200; i++) outbox.release(kReleased);
    guest.join();
    CHECK(judge.too_early == 0);
    CHECK(judge.out_of_order == 0);
    CHECK(judge.count == 150);  // 0+1+2+3 a round of four epochs, twenty-five rounds
  }

  TEST_CASE("outbox: opening amid talk and releases loses, doubles and reorders nothing") {
    for (uint64_t round = 0; round < 30; round++) {
      Outbox outbox;
      Judge judge;
      outbox.set_sink(OutputPort::kNet, [&](auto bytes) { judge.take(bytes); });
      outbox.hold();
      std::atomic<uint64_t> sealed{0};
      std::atomic<bool> done{false};
      uint64_t said = 0;
      std::thread guest([&] {
        uint64_t epoch = 1;
        for (uint64_t i = 0; i < 400; i++) {
          say(outbox, epoch, ++said);
          // Once the output is open the cuts end: this host is alone.
          if (i % 3 == 0 && outbox.mode() == Outbox::Mode::kHeld && !judge.opened) {
            outbox.seal(epoch);
            sealed = epoch++;
          }
        }
        done = true;
      });
      std::thread releaser([&] {
        while (!done) {
          const uint64_t epoch = sealed;
          if (!judge.opened) {
            judge.released_up_to = epoch;
            outbox.release(epoch);
          }
          std::this_thread::yield();
        }
      });
      while (sealed < round * 4) std::this_thread::yield();
      judge.opened = true;
      REQUIRE(outbox.open());
      guest.join();
      releaser.join();
      CHECK(judge.out_of_order == 0);
      CHECK(judge.overlapping == 0);
      CHECK(judge.count == said);
    }
  }

  TEST_CASE("outbox: once drop() has returned, no sink is called again") {
    for (uint64_t round = 0; round < 30; round++) {
      Outbox outbox;
      std::atomic<bool> dropped{false};
      std::atomic<uint64_t> after{0};
      outbox.set_sink(OutputPort::kNet, [&](auto) {
        if (dropped) after++;
      });
      if (round % 2 == 0) outbox.hold();
      std::atomic<uint64_t> sealed{0};
      std::atomic<bool> stop{false};
      std::thread guest([&] {
        for (uint64_t e = 1; !stop; e++) {
          say(outbox, e, e);
          outbox.seal(e);
          sealed = e;
          if (e % 16 == 0) std::this_thread::yield();  // the releaser keeps up
        }
      });
      std::thread releaser([&] {
        while (!stop) {
          outbox.release(sealed);
          std::this_thread::yield();
        }
      });
      while (sealed < 20 + round) std::this_thread::yield();
      outbox.drop();
      dropped = true;
      const uint64_t mark = sealed;
      while (sealed < mark + 20) std::this_thread::yield();
      CHECK_FALSE(outbox.open());
      stop = true;
      guest.join();
      releaser.join();
      CHECK(after == 0);
      CHECK(outbox.facts().frames_held == 0);
    }
  }
}

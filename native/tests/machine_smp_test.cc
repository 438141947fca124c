// Several vCPUs on their threads under cuts: the barrier, what a cut holds of each vCPU, and the
// ways in which threads can be wanted elsewhere while it is under way.
#include "machine_rig.h"

using namespace ft;
using namespace ft::test;

TEST_SUITE("threads") {
  KVM_TEST_CASE("smp: every image is all of memory, and no interrupt is lost in a cut") {
    for (const uint32_t count : {1u, 2u, 4u}) {
      CAPTURE(count);
      VcpuRig rig(count);
      rig.boot();
      REQUIRE(rig.goes_on());
      rig.begin();
      for (int i = 0; i < 12; i++) {
        REQUIRE(rig.goes_on(1 + i % 3));
        check_rig_image(rig);
        if (i % 3 == 0) CHECK(resumes(rig));
      }
      CHECK(rig.cuts > 12);
      CHECK(rig.sink.writes > 0);
      CHECK_FALSE(rig.broken);
      rig.threads->stop();
    }
  }

  KVM_TEST_CASE("smp: threads are parked, asked for cuts and stopped at any moment") {
    for (int run = 0; run < 6; run++) {
      VcpuRig rig(3);
      rig.boot();
      REQUIRE(rig.goes_on());
      rig.begin();
      for (int i = 0; i < 60; i++) {
        if (i % 3 != 0) rig.threads->request_cut();
        if (i % 4 == 0) rig.threads->recheck_limits();
        if (i % 2 == 0) {
          const VcpuThreads::Parked parked(*rig.threads);
          const uint32_t before = rig.rounds();
          std::this_thread::sleep_for(std::chrono::microseconds(200));
          CHECK(rig.rounds() == before);
        }
        rig.drain();
      }
      CHECK(rig.goes_on());
      if (run % 2 == 0) {
        const VcpuThreads::Parked parked(*rig.threads);
        rig.threads->stop();  // while everybody is parked
      } else {
        rig.threads->stop();
      }
      CHECK_FALSE(rig.broken);
    }
  }

  KVM_TEST_CASE("smp: the time between cuts changes at any moment") {
    VcpuRig rig(2);
    rig.boot();
    REQUIRE(rig.goes_on());
    rig.begin();
    for (const uint32_t interval_us : {100u, 20'000u, 500u, 1'000'000u, 20u, 2'000u}) {
      CAPTURE(interval_us);
      {
        const VcpuThreads::Parked parked(*rig.threads);
        rig.threads->set_interval(interval_us, false);
      }
      const uint64_t made = rig.made;
      const bool seldom = interval_us == 1'000'000;
      for (int tries = 0; tries < (seldom ? 100 : 5000) && rig.made < made + 3; tries++) {
        rig.drain();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      // Of a cut that was under way, one may follow; three would be three seconds' worth.
      CHECK((rig.made >= made + 3) != seldom);
    }
    CHECK(rig.goes_on());
    rig.threads->stop();
    CHECK_FALSE(rig.broken);
  }

  KVM_TEST_CASE("smp: vCPUs that wait for output room are cut, parked and let go") {
    VcpuRig rig(3);
    rig.boot();
    REQUIRE(rig.goes_on());
    rig.begin();
    rig.cutter->hold_output_at_next_cut();
    for (int i = 0; i < 1000 && rig.cutter->syncing(); i++) REQUIRE(rig.goes_on(1));
    REQUIRE_FALSE(rig.cutter->syncing());
    rig.outbox.set_bytes_max(1);
    const uint8_t frame[64] = {};
    {
      const std::lock_guard lock(rig.lock);
      rig.outbox.append(OutputPort::kNet, frame);
    }
    REQUIRE(rig.outbox.over_limit());
    rig.threads->recheck_limits();
    {
      const VcpuThreads::Parked parked(*rig.threads);  // a thread that waits for room parks, too
    }
    CHECK(rig.goes_on());  // the cut that seals the frame is still made; its release makes room
    CHECK_FALSE(rig.outbox.over_limit());
    rig.threads->stop();
  }

  KVM_TEST_CASE("smp: an end that is said while another vCPU runs stops all of them, once") {
    VcpuRig rig(4);
    rig.boot();
    REQUIRE(rig.goes_on());
    rig.begin();
    REQUIRE(rig.goes_on());
    rig.threads->guest_ended(GuestEnd::kTripleFault);
    for (int i = 0; i < 5000 && !rig.cutter->final_cut_made(); i++) {
      rig.drain();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    REQUIRE(rig.cutter->final_cut_made());
    CHECK(rig.ended);
    rig.drain();
    const VcpuThreads::Parked parked(*rig.threads);
    CHECK(rig.image_is_equal());
    CHECK_FALSE(rig.broken);
  }

  KVM_TEST_CASE("smp: no ordinary cut follows an end that another vCPU says") {
    for (int run = 0; run < 20; run++) {
      VcpuRig rig(3);
      rig.boot();
      REQUIRE(rig.goes_on());
      rig.begin();
      uint64_t made_before = 0;
      rig.sink.on_other = [&] {
        made_before = rig.made;
        rig.threads->guest_ended(GuestEnd::kResetPort);
      };
      REQUIRE(rig.goes_on(1 + static_cast<uint32_t>(run % 4)));
      rig.sink.armed = true;
      const auto is_over = [&] { return !rig.ends.empty() && rig.ends.back() != GuestEnd::kNone; };
      // Cuts come at once first, then ever more rarely: on a slow machine a guest that is cut
      // every 20 us never comes as far as the instruction at which this test ends it.
      for (int i = 0; i < 3000 && !is_over(); i++) {
        rig.threads->request_cut();
        rig.drain();
        std::this_thread::sleep_for(std::chrono::microseconds(20 + 2 * i));
      }
      REQUIRE(is_over());
      REQUIRE(rig.ends.size() == made_before + 1);
      CHECK(rig.ends.back() == GuestEnd::kResetPort);
    }
  }
}

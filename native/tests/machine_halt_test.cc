// A guest that is halted: it does nothing more, its cuts go on, and it can be let go at any moment.
#include "machine_rig.h"

using namespace ft;
using namespace ft::test;

TEST_SUITE("threads") {
  KVM_TEST_CASE("halt: a halted guest does nothing, is cut whole, and goes on when it is let go") {
    for (const uint32_t count : {1u, 3u}) {
      CAPTURE(count);
      VcpuRig rig(count);
      rig.boot();
      REQUIRE(rig.goes_on());
      rig.begin();
      for (int i = 0; i < 20; i++) {
        REQUIRE(rig.goes_on(1));
        rig.threads->halt();
        const uint64_t halt = rig.threads->halts();
        CHECK(halt % 2 == 1);
        rig.threads->halt();  // twice is once
        CHECK(rig.threads->halts() == halt);
        REQUIRE(rig.cut_in(halt));
        // The image of that cut is the guest's memory, and stays so: no vCPU runs any more.
        const uint32_t before = rig.rounds();
        CHECK(rig.image_is_equal());
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
        CHECK(rig.rounds() == before);
        CHECK(rig.image_is_equal());
        if (i % 4 == 0) {
          const VcpuThreads::Parked parked(*rig.threads);  // a halted thread parks, too
        }
        if (i % 4 == 1) CHECK(resumes(rig));
        if (i % 4 == 2) {
          // Ticks go on being served: cuts are made as often as before.
          const uint64_t made = rig.made;
          for (int tries = 0; tries < 10'000 && rig.made < made + 3; tries++) {
            rig.drain();
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
          CHECK(rig.made >= made + 3);
        }
        rig.threads->resume();
        CHECK(rig.threads->halts() == halt + 1);
      }
      REQUIRE(rig.goes_on());
      rig.threads->halt();
      rig.threads->stop();  // while halted
      CHECK_FALSE(rig.broken);
    }
  }

  KVM_TEST_CASE("halt: a guest that is halted before its threads start waits for its resumption") {
    VcpuRig rig(2);
    rig.threads->halt();
    rig.boot();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    CHECK(rig.rounds() == 0);
    rig.threads->resume();
    CHECK(rig.goes_on());
    rig.threads->stop();
  }

  KVM_TEST_CASE("halt: a halted guest whose end was said before comes to it") {
    VcpuRig rig(3);
    rig.boot();
    REQUIRE(rig.goes_on());
    rig.begin();
    REQUIRE(rig.goes_on());
    rig.threads->halt();
    REQUIRE(rig.cut_in(rig.threads->halts()));
    rig.threads->guest_ended(GuestEnd::kPowerOffPort);
    for (int i = 0; i < 5000 && !rig.cutter->final_cut_made(); i++) {
      rig.drain();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(rig.cutter->final_cut_made());
    CHECK(rig.ended);
    rig.threads->stop();
  }
}

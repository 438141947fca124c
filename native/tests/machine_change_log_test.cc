// What vCPUs change while nobody replicates: all of it is noted, however often the rings fill, and
// noting ends by itself when it is too much.
#include "machine_rig.h"

using namespace ft;
using namespace ft::test;

namespace {

constexpr uint32_t kSmallRingBytes = 64 * 1024;  // 4,096 entries

std::vector<uint8_t> copy_of(const GuestMemory& memory) {
  return {memory.host_base(), memory.host_base() + memory.size()};
}

/// Begins to note, all vCPUs parked; returns memory as it is then.
std::vector<uint8_t> watch(VcpuRig& rig) {
  const VcpuThreads::Parked parked(*rig.threads);
  must(rig.vm.set_memory(0, 0, rig.memory.host_base(), rig.memory.size(), true));
  {
    const std::lock_guard lock(rig.lock);
    rig.memory.set_tracking(true);
  }
  rig.changes->begin();
  rig.changes->watch();
  rig.threads->set_interval(5000, false);
  return copy_of(rig.memory);
}

/// Every page that differs from `before` is in the log. Returns how many do.
uint64_t check_noted(VcpuRig& rig, const std::vector<uint8_t>& before) {
  const VcpuThreads::Parked parked(*rig.threads);
  rig.changes->collect(SignalsBlocked());
  uint64_t changed = 0;
  for (uint64_t gfn = 0; gfn < rig.memory.page_count(); gfn++) {
    const uint64_t at = gfn * 4096;
    if (std::memcmp(before.data() + at, rig.memory.host_base() + at, 4096) == 0) continue;
    changed++;
    CHECK_MESSAGE(rig.changes->pages().has(gfn), "page " << gfn);
  }
  return changed;
}

}  // namespace

TEST_CASE("changes: a quarter of memory may be noted, but never more than 32 MiB") {
  CHECK(ChangeLog::pages_max(kRigBytes / 4096) == 256);
  CHECK(ChangeLog::pages_max(8192 * 4) == 8192);
  CHECK(ChangeLog::pages_max((3ull << 30) / 4096) == 8192);
}

TEST_SUITE("threads") {
  KVM_TEST_CASE("changes: what vCPUs and the VMM write is noted, through many full rings") {
    for (const uint32_t ring_bytes : {kSmallRingBytes, 0u}) {
      CAPTURE(ring_bytes);
      VcpuRig rig(2, ring_bytes);
      rig.boot();
      REQUIRE(rig.goes_on());
      const auto before = watch(rig);
      for (int i = 0; i < 4; i++) {
        REQUIRE(rig.goes_on(ring_bytes != 0 ? 200 : 20));
        {
          const std::lock_guard lock(rig.lock);
          REQUIRE(rig.memory.write_value<uint64_t>(0x300000 + uint64_t(i) * 4096, 7));
        }
        CHECK(check_noted(rig, before) >= 3 + uint64_t(i));
        CHECK(rig.changes->complete());
        CHECK(rig.changes->watching());
      }
      CHECK(rig.changes->pages().count() < 100);
      CHECK_FALSE(rig.changes->rings_lost());
      CHECK_FALSE(rig.broken);
      rig.threads->stop();
    }
  }

  KVM_TEST_CASE("changes: too many of them end the noting, and the guest runs on") {
    VcpuRig rig(2, kSmallRingBytes);
    rig.boot();
    REQUIRE(rig.goes_on());
    watch(rig);
    {
      const std::lock_guard lock(rig.lock);
      for (uint64_t gfn = 512; gfn < 512 + 300; gfn++) rig.memory.mark_dirty(gfn);
    }
    // Ending the log comes right after ending the watch.
    for (int i = 0; i < 10'000 && !rig.logging_ended; i++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK_FALSE(rig.changes->watching());
    CHECK_FALSE(rig.changes->complete());
    CHECK(rig.logging_ended);
    CHECK(rig.goes_on(20));
    rig.threads->stop();
  }
}

// Work on a thread of its own: waited for, but not for ever, and alone with what it holds.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "core/run_within.h"

namespace ft {

TEST_SUITE("threads") {
  TEST_CASE("run within: what ended in time is gone with all that it held") {
    auto held = std::make_shared<int>(1);
    const std::weak_ptr<int> left = held;
    const auto ended = run_within(60'000, [held = std::move(held)]() -> Status {
      return Error{"FT_ERR_TEST", 0, "as told"};
    });
    REQUIRE(ended);
    REQUIRE_FALSE(ended->ok());
    CHECK(ended->error().message == "as told");
    CHECK(left.expired());
  }

  TEST_CASE("run within: what takes longer goes on by itself, with what it holds") {
    const auto go_on = std::make_shared<std::atomic<bool>>(false);
    auto held = std::make_shared<int>(1);
    const std::weak_ptr<int> left = held;
    const auto ended = run_within(20, [go_on, held = std::move(held)]() -> Status {
      while (!*go_on) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return Ok{};
    });
    CHECK_FALSE(ended);
    CHECK_FALSE(left.expired());
    *go_on = true;
    for (int i = 0; i < 60'000 && !left.expired(); i++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(left.expired());
  }
}

}  // namespace ft

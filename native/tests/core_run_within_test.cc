// Work on a thread of its own: waited for while it is worth it, and alone with what it holds.
#include <doctest/doctest.h>
#include <pthread.h>

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
    const auto ended =
        run_within([] { return true; },
                   [held = std::move(held)]() -> Status {
                     std::this_thread::sleep_for(std::chrono::milliseconds(3 * kWaitSliceMs));
                     return Error{"FT_ERR_TEST", 0, "as told"};
                   });
    REQUIRE(ended);
    REQUIRE_FALSE(ended->ok());
    CHECK(ended->error().message == "as told");
    CHECK(left.expired());
  }

  TEST_CASE("run within: what is given up goes on by itself, with what it holds") {
    const auto go_on = std::make_shared<std::atomic<bool>>(false);
    auto held = std::make_shared<int>(1);
    const std::weak_ptr<int> left = held;
    int asked = 0;
    const auto ended = run_within([&] { return ++asked < 3; },
                                  [go_on, held = std::move(held)]() -> Status {
                                    while (!*go_on) {
                                      std::this_thread::sleep_for(std::chrono::milliseconds(1));
                                    }
                                    return Ok{};
                                  });
    CHECK_FALSE(ended);
    CHECK(asked == 3);
    CHECK_FALSE(left.expired());
    *go_on = true;
    for (int i = 0; i < 60'000 && !left.expired(); i++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(left.expired());
  }

  TEST_CASE("run within: where there is no thread to be had, the work is done here") {
    pthread_attr_t before;
    REQUIRE(pthread_getattr_default_np(&before) == 0);
    pthread_attr_t none;
    pthread_attr_init(&none);
    // No address space has room for such a stack.
    REQUIRE(pthread_attr_setstacksize(&none, size_t{1} << 50) == 0);
    REQUIRE(pthread_setattr_default_np(&none) == 0);
    std::thread::id worker;
    const auto ended = run_within([] { return false; },
                                  [&]() -> Status {
                                    worker = std::this_thread::get_id();
                                    return Ok{};
                                  });
    pthread_setattr_default_np(&before);
    pthread_attr_destroy(&before);
    pthread_attr_destroy(&none);
    REQUIRE(ended);
    CHECK(ended->ok());
    CHECK(worker == std::this_thread::get_id());
  }
}

}  // namespace ft

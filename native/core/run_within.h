// Work that may never end, because it waits for storage that hangs, and somebody who cannot wait
// for ever: the event loop, the end of the process.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "core/result.h"

namespace ft {

/// How long run_within() waits between two looks. Time is counted in these: a process that was
/// stopped for a while has lost one of them, and nothing else.
constexpr uint32_t kWaitSliceMs = 100;

/// Runs `work` on a thread of its own, all signals blocked, and waits for it while `worth_waiting`,
/// asked after each slice, says so. Where the system has no thread to give, here, to its end.
/// What it returned, once all that it held is gone; nothing when it was given up: it goes on by
/// itself for as long as it takes, so whatever it uses must belong to it.
std::optional<Status> run_within(const std::function<bool()>& worth_waiting,
                                 std::function<Status()> work);

}  // namespace ft

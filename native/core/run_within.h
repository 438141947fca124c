// Work that may never end, because it waits for storage that hangs, and somebody who cannot wait
// for ever: the event loop, the end of the process.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "core/result.h"

namespace ft {

/// Runs `work` on a thread of its own, all signals blocked, and waits for it, `ms_max` at most.
/// What it returned, once it and all that it held are gone; nothing when it has not ended by then:
/// it goes on by itself for as long as it takes, so whatever it uses must belong to it.
std::optional<Status> run_within(uint32_t ms_max, std::function<Status()> work);

}  // namespace ft

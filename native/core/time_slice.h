// How soon a thread gets a CPU that others use.
//
// By default a thread that wakes up may wait until whoever runs has used up its slice, which is
// some milliseconds. A thread that asks for short slices of its own gets the same share of the CPU
// in more pieces, and does not wait for the end of a longer slice than its own. It needs no
// privilege; kernels before 6.12 do not know of it.
#pragma once

#include <cstdint>

namespace ft {

/// Slices of `us` (100 to 100,000) for the calling thread, not for those that it makes later: they
/// begin as ordinary threads, whatever policy or negative nice this one is given afterwards. False,
/// and nothing is changed, where the system does not offer that, and for a thread that is not an
/// ordinary one or has a negative nice, which the threads it makes would lose.
bool use_short_slices(uint32_t us);

}  // namespace ft

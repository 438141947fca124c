// Somebody who keeps the process's memory a moment longer than the process, so that its peers hear
// of its death at once.
//
// A process that is killed first gives its memory back and closes its files afterwards. Giving back
// a guest's memory, with what KVM built upon it, takes 10 ms and more, and all that time the
// standby waits for the end of the two connections, which is what tells it of the death. Memory
// goes with its *last* user, though. So a second user is made: a process without files, handlers or
// work of its own, which only waits for the end of the first.
//
//   ft-primary ── killed ─▶ threads end ─▶ memory: not the last user ─▶ files close: FIN ─▶ gone
//       │ clone(CLONE_VM)                                                                     │
//   ft-keeper ── waits at a pidfd of the process ◀────────────────────────────────────────────┘
//                      └─▶ ends, and with it the memory, the vCPUs and the VM
//
// What the peer may conclude from the end of both connections stays true, and becomes no weaker:
// they close when the last thread of the process has left its files, so no thread can write to the
// TAP device or run a vCPU any more. The keeper owns no descriptor but the pidfd (not even those
// that were open when it was made), never runs code of this program but the wait, and so can
// neither hold a connection open nor send anything. The VM, which the mappings of its vCPUs keep
// alive until the keeper ends, is a VM whose vCPUs nobody runs.
//
// It ends with its process whatever way that ends. It has a session of its own and all signals
// blocked, so that what a terminal or a supervisor sends to a group does not reach it first; when
// it is killed all the same, or could not be made, deaths are only noticed later.
#pragma once

#include <sys/types.h>

#include "core/result.h"

namespace ft {

/// Starts the keeper of the calling process's memory. To be called once, before the process opens
/// connections; any thread. Returns the keeper's process id. FT_ERR_KEEPER: the system has no
/// room for another process, or does not let one be made this way, or that one not close what it
/// inherits; nothing else is changed.
Result<pid_t> start_memory_keeper();

}  // namespace ft

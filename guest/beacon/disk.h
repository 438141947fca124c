/* Requests that concern a disk: begun when they come, answered when the disk has done its part. */
#pragma once

#include "protocol.h"
#include "service.h"
#include "types.h"

enum DiskBegun {
  kDiskWaits,   /* it is under way, or cannot be begun yet: no answer now */
  kDiskRefused, /* no such disk or block, or it cannot: to be answered at once */
};

void disk_init(u64 boot_id);
/* Begins a `disk`, `disk-read` or `disk-discard` that was not served before. While another request
 * for the same block is under way, or too many are, nothing is begun: the client asks again. */
enum DiskBegun disk_begin(const struct BeaconRequest* request, const struct Route* route);
/* Takes completions, answers what has ended, keeps the load going. True when there is more to do.
 */
bool disk_poll(void);
/* Nanoseconds until disk_poll() is due; NEVER when only an interrupt helps. */
u64 disk_due_ns(void);

// What JavaScript asks a machine to be. Shape: NativeMachineOptions in src/machine/native.ts.
// Thread: JavaScript's.
#pragma once

#include <napi.h>

#include "machine/machine.h"

namespace ft {

/// The values were checked in TypeScript; what is wrong with files and devices, opening them says.
MachineOptions read_machine_options(const Napi::Object& from);

}  // namespace ft

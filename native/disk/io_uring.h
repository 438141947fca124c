// The engine for kernels with io_uring (5.6 and later), by bare system calls: no library is needed
// at run time.
#pragma once

#include <memory>

#include "core/result.h"
#include "disk/io_engine.h"

namespace ft {

/// As IoEngine::create. Error: FT_ERR_RESOURCES, also where the kernel refuses io_uring or lacks
/// one of the operations.
Result<std::unique_ptr<IoEngine>> make_uring_engine(int fd);

}  // namespace ft

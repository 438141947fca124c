// The engine for kernels that refuse io_uring: a small pool of threads that do the system calls.
#pragma once

#include <memory>

#include "core/result.h"
#include "disk/io_engine.h"

namespace ft {

/// As IoEngine::create. Error: FT_ERR_RESOURCES.
Result<std::unique_ptr<IoEngine>> make_thread_engine(int fd);

}  // namespace ft

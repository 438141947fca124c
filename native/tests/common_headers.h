// The headers that nearly every native test includes, parsed once for each sanitizer: the Makefile
// precompiles this file and has the compiler read the result first. Every file includes what it
// needs all the same; the addon is built without this.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

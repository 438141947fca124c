// Errors as values for the native core. A function that can fail for reasons outside this program
// returns Result<T>; a broken invariant of our own goes through FT_CHECK and stops the process.
#pragma once

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <variant>

namespace ft {

/// What went wrong outside this program, worded for the person who must act.
/// `code` is a stable identifier ("FT_ERR_…", a string literal); `sys_errno` is 0 when no system
/// call failed; `message` is a whole sentence with the facts (path, size, field).
struct Error {
  const char* code;
  int sys_errno = 0;
  std::string message;
};

/// Builds an Error from errno: "<what>: <strerror>".
inline Error sys_error(const char* code, std::string what) {
  const int e = errno;
  return Error{code, e, std::move(what) + ": " + std::strerror(e)};
}

/// The unit type for functions that only succeed or fail.
struct Ok {};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit by design
  Result(Error error)
      : v_(std::in_place_index<1>, std::move(error)) {}  // NOLINT: implicit by design
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() { return std::get<0>(v_); }
  const T& value() const { return std::get<0>(v_); }
  T&& take() { return std::move(std::get<0>(v_)); }
  const Error& error() const { return std::get<1>(v_); }

 private:
  std::variant<T, Error> v_;
};

using Status = Result<Ok>;

// Passes an error on to the caller: FT_TRY(vm.set_clock(clock));
#define FT_TRY(expr)                                       \
  do {                                                     \
    auto ft_try_result = (expr);                           \
    if (!ft_try_result.ok()) return ft_try_result.error(); \
  } while (0)

[[noreturn]] inline void check_failed(const char* expr, const char* file, int line,
                                      const char* why) {
  std::fprintf(stderr, "romulus: invariant broken: %s (%s) at %s:%d; stopping\n", why, expr, file,
               line);
  std::abort();
}

/// A broken invariant stops the process: failing over beats replicating corruption.
#define FT_CHECK(expr, why)                                          \
  do {                                                               \
    if (!(expr)) ::ft::check_failed(#expr, __FILE__, __LINE__, why); \
  } while (0)

}  // namespace ft

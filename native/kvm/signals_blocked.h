// Proof, as a value, that the calling thread takes no signal.
//
// Two things need that: resetting the dirty rings (vm_reset.cc says why), and a vCPU's thread,
// which is reached by signals inside KVM_RUN only (Vcpu::open_to).
#pragma once

#include <pthread.h>
#include <signal.h>

#include "core/result.h"

namespace ft {

/// Blocks every signal on the thread that makes it, while it lives. It stays on that thread.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    FT_CHECK(::pthread_sigmask(SIG_SETMASK, &all, &before_) == 0, "pthread_sigmask failed");
  }
  ~SignalsBlocked() {
    FT_CHECK(::pthread_sigmask(SIG_SETMASK, &before_, nullptr) == 0, "pthread_sigmask failed");
  }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace ft

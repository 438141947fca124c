// What KVM has counted for one vCPU, read without touching the vCPU.
//
// Every request to a vCPU makes KVM load it onto the processor and unload it again, which is cheap
// on hardware and costs microseconds where KVM itself runs in a guest. Its counters are a file of
// their own: one read(), a fraction of that. Source: api.rst, KVM_GET_STATS_FD.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "core/unique_fd.h"
#include "kvm/kvm.h"

namespace ft {

class VcpuCounters {
 public:
  /// Nothing where KVM has no such file, or counts too little to be of use here.
  static std::optional<VcpuCounters> open(int vcpu_fd);

  struct Counts {
    /// Instructions that KVM carried out in place of the processor.
    uint64_t emulated = 0;
    /// Times that the guest was left for anything but a page fault or an interrupt of the host.
    uint64_t other_exits = 0;
    bool operator==(const Counts&) const = default;
  };
  /// Nothing when the file cannot be read. Any thread; exact while the vCPU stands still.
  std::optional<Counts> read() const;

 private:
  enum Name : size_t { kEmulated, kExits, kPageFaults, kHostInterrupts, kNames };

  UniqueFd fd_;
  uint64_t from_ = 0;  // of what is read: everything between the first and the last counter
  uint64_t bytes_ = 0;
  std::array<uint64_t, kNames> at_{};  // from there
};

/// Whether this KVM carries out the guest's kernel mode itself and counts every instruction of it,
/// as one does that has no hardware to run it on. Then a vCPU whose count has not changed has not
/// executed a single instruction in kernel mode. Tried out once, on a VM made for it (about 20 ms).
bool kernel_mode_is_counted(const Kvm& kvm);

}  // namespace ft

// Which host CPU each vCPU's thread gets, and which are left to everything else of the process.
//
//   --vcpu-cpu N, CPUs 0 … 7, 4 vCPUs     N = 2:  2 3 4 5        the rest: 0 1 6 7
//                 CPUs 0 and 1, 4 vCPUs   N = 1:  1 1 1 1        the rest: 0
//                 CPUs 0 and 1, 2 vCPUs   N = 0:  0 0            the rest: 1
//
// The event loop's last CPU is never taken: waking it on a vCPU's CPU would take that from the
// guest, and a kick sent from there waits for the scheduler (milliseconds). So where CPUs run out,
// vCPUs share those that they have. A host with one CPU shares it with all.
#pragma once

#include <sched.h>

#include <cstdint>
#include <vector>

#include "core/result.h"

namespace ft {

inline constexpr int kAnyCpu = -1;

struct CpuPlan {
  std::vector<int> vcpus;  // by vCPU: host CPU or kAnyCpu
  cpu_set_t rest;          // what everything else may use
};

/// The plan for `vcpus` vCPUs that begin at host CPU `first` (kAnyCpu: no pinning) of those
/// `allowed`. Error: FT_ERR_VCPU_CPU when `first` is not allowed.
Result<CpuPlan> plan_cpus(const cpu_set_t& allowed, int first, uint32_t vcpus);

/// Moves every thread that this process has to these CPUs; threads made later inherit them. False
/// when they cannot be listed.
bool keep_threads_to(const cpu_set_t& cpus);

}  // namespace ft

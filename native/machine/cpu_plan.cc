// Which host CPU each vCPU's thread gets, and which are left to everything else of the process.
#include "machine/cpu_plan.h"

#include <dirent.h>

#include <cstdlib>
#include <string>

namespace ft {

Result<CpuPlan> plan_cpus(const cpu_set_t& allowed, int first, uint32_t vcpus) {
  CpuPlan plan{std::vector<int>(vcpus, kAnyCpu), allowed};
  if (first == kAnyCpu) return plan;
  if (first < 0 || first >= CPU_SETSIZE || !CPU_ISSET(static_cast<size_t>(first), &allowed)) {
    return Error{"FT_ERR_VCPU_CPU", 0,
                 "host CPU " + std::to_string(first) +
                     " is not there or not given to this process; choose another --vcpu-cpu"};
  }
  std::vector<int> own;
  for (int cpu = first; cpu < CPU_SETSIZE && own.size() < vcpus; cpu++) {
    if (CPU_ISSET(static_cast<size_t>(cpu), &allowed)) own.push_back(cpu);
  }
  const auto all = static_cast<size_t>(CPU_COUNT(&allowed));
  if (own.size() == all && all > 1) own.pop_back();
  for (uint32_t i = 0; i < vcpus; i++) plan.vcpus[i] = own[i % own.size()];
  if (own.size() < all) {
    for (const int cpu : own) CPU_CLR(static_cast<size_t>(cpu), &plan.rest);
  }
  return plan;
}

// Threads may come and go meanwhile; one that is missed costs speed alone.
bool keep_threads_to(const cpu_set_t& cpus) {
  DIR* tasks = ::opendir("/proc/self/task");
  if (tasks == nullptr) return false;
  while (const dirent* entry = ::readdir(tasks)) {
    const int tid = std::atoi(entry->d_name);
    if (tid > 0) sched_setaffinity(tid, sizeof(cpus), &cpus);
  }
  ::closedir(tasks);
  return true;
}

}  // namespace ft

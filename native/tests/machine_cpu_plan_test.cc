// The plan of host CPUs: each vCPU its own as far as there are, and one for the rest, always.
#include <doctest/doctest.h>

#include <initializer_list>
#include <string>

#include "machine/cpu_plan.h"

using ft::CpuPlan;
using ft::kAnyCpu;
using ft::plan_cpus;

namespace {

cpu_set_t set_of(std::initializer_list<size_t> cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const size_t cpu : cpus) CPU_SET(cpu, &set);
  return set;
}

struct Case {
  cpu_set_t allowed;
  int first;
  std::vector<int> vcpus;
  cpu_set_t rest;
};

}  // namespace

TEST_CASE("cpu plan: own CPUs as far as there are, the last one for the rest") {
  const Case cases[] = {
      {set_of({0, 1, 2, 3, 4, 5, 6, 7}), 2, {2, 3, 4, 5}, set_of({0, 1, 6, 7})},
      {set_of({0, 1, 2, 3}), 2, {2, 3, 2, 3}, set_of({0, 1})},
      {set_of({0, 1}), 1, {1}, set_of({0})},
      {set_of({0, 1}), 1, {1, 1, 1, 1}, set_of({0})},
      {set_of({0, 1}), 0, {0, 0}, set_of({1})},
      {set_of({0, 1, 2, 3}), 0, {0, 1, 2, 0}, set_of({3})},
      {set_of({1, 4, 9}), 4, {4, 9, 4}, set_of({1})},  // a cpuset with holes
      {set_of({5}), 5, {5, 5}, set_of({5})},           // one CPU for everybody
  };
  for (const Case& c : cases) {
    const auto plan = plan_cpus(c.allowed, c.first, static_cast<uint32_t>(c.vcpus.size()));
    REQUIRE(plan.ok());
    CHECK(plan.value().vcpus == c.vcpus);
    CHECK(CPU_EQUAL(&plan.value().rest, &c.rest));
  }
}

TEST_CASE("cpu plan: without a first CPU nothing is pinned and nothing kept free") {
  const cpu_set_t allowed = set_of({0, 1, 2});
  const auto plan = plan_cpus(allowed, kAnyCpu, 2);
  REQUIRE(plan.ok());
  CHECK(plan.value().vcpus == std::vector<int>{kAnyCpu, kAnyCpu});
  CHECK(CPU_EQUAL(&plan.value().rest, &allowed));
}

TEST_CASE("cpu plan: a CPU that is not there is refused by number") {
  for (const int first : {2, 1023, CPU_SETSIZE}) {
    const auto plan = plan_cpus(set_of({0, 1}), first, 1);
    REQUIRE_FALSE(plan.ok());
    CHECK(std::string(plan.error().code) == "FT_ERR_VCPU_CPU");
    CHECK(plan.error().message.find(std::to_string(first)) != std::string::npos);
  }
}

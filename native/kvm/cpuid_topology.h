// How a guest's processors are arranged: all of them cores of one package, one thread each, sharing
// the last level of cache. The host's own arrangement, which KVM would otherwise pass on, has
// nothing to do with the guest's.
//
//   leaf                    what it says
//   1         EBX[23:16]    how many APIC ids the package has      EDX[28]  more than one
//   4         EAX[31:26]    likewise (Intel)       EAX[25:14]  how many share this cache
//   0xb, 0x1f               levels: thread, core, end; EAX how many bits of the APIC id each takes
//   80000001  ECX[1]        more than one core, no threads (AMD)
//   80000008  ECX           cores, and how many bits of the APIC id they take (AMD)
//   8000001d  EAX[25:14]    how many share this cache (AMD)
//   8000001e  EBX, ECX      threads of the core, node (AMD)
//
// What names one processor (its APIC id) is filled in by Vcpu::create.
// Sources: Intel SDM volume 2, CPUID; AMD APM volume 3, appendix E.
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <vector>

namespace ft {

/// The table for a guest with `vcpus` processors (1 or more) whose APIC ids count from 0. Leaves
/// that the table does not have are not added, but for the levels of 0xb. No error; any thread.
std::vector<kvm_cpuid_entry2> with_topology(const std::vector<kvm_cpuid_entry2>& cpuid,
                                            uint32_t vcpus);

}  // namespace ft

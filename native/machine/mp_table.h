// The MP table: how a guest without ACPI learns of its processors and interrupt lines.
//
//   gpa            kMpTableGpa, in a range that the memory map reserves (memory_layout.h)
//   ┌──────────────────┬────────────────────────────────────────────────────────────────────┐
//   │ floating pointer │ configuration table                                                │
//   │ "_MP_", 16 bytes │ header "PCMP", 44 │ CPUs, 20 each │ bus, IOAPIC, lines, LINTs, 8 each │
//   └──────────────────┴────────────────────────────────────────────────────────────────────┘
//
// Interrupt lines are one to one: line n of the only bus (ISA: edge, active high) is pin n of the
// only IOAPIC is GSI n of KVM's default routing. So a device's GSI is also the number that
// `virtio_mmio.device=` names. Pins 16 to 23 have no ISA line on a real machine; describing them
// the same way is what guests expect of virtual ones. Line 2 is the PICs' cascade and left out.
//
// Source: Intel MultiProcessor Specification 1.4 (May 1997), chapter 4.
#pragma once

#include <cstdint>
#include <vector>

#include "machine/guest_memory.h"
#include "machine/memory_layout.h"

namespace ft {

struct MpTableFacts {
  uint32_t vcpus = 1;          // APIC ids 0 … vcpus − 1; 0 starts the others
  uint32_t cpu_signature = 0;  // CPUID leaf 1 EAX
  uint32_t cpu_features = 0;   // CPUID leaf 1 EDX
};

/// Floating pointer and table for a guest whose memory has them at `gpa` (16-byte aligned).
std::vector<uint8_t> build_mp_table(const MpTableFacts& facts, uint64_t gpa);

/// Puts the table where guests look for it. Before the vCPUs run; with the machine lock where
/// others may write. Stops the process when guest memory is smaller than 1 MiB.
void write_mp_table(GuestMemory& memory, const MpTableFacts& facts);

}  // namespace ft

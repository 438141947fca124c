// The state blob: everything of a VM that is not memory, as versioned, self-describing TLV,
// independent of the wire (checkpoint files use the same bytes).
//
//   blob    { u32 magic "FTST"; u16 version = 1; u16 entry_count; u32 bytes (whole blob); u32 zero }
//   entry   { u16 kind; u16 index (vCPU id, chip or device number); u32 length; bytes; pad to 8 }
//
// The layout of one machine's blob is the same at every cut as long as no entry changes length, so
// consecutive blobs differ in few words and are sent as a delta.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/result.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"

namespace ft {

inline constexpr uint32_t kStateMagic = 0x54535446;  // "FTST", little-endian
inline constexpr uint16_t kStateVersion = 1;

/// Kinds are never reused once retired.
enum class StateKind : uint16_t {
  // per vCPU
  kRegs = 1, kSregs = 2 /* kvm_sregs2 when flagged by length */, kXsave = 3, kXcrs = 4,
  kDebugRegs = 5, kEvents = 6, kMpState = 7, kLapic = 8, kMsrs = 9, kNested = 10,
  // per VM
  kIrqchip = 20, kPit2 = 21, kClock = 22,
  // devices; index = device number
  kSerial = 40, kVirtioMmio = 41, kVirtioNet = 42,
};

/// Builds a blob in a buffer that is reused from cut to cut (no allocation once it has grown).
class StateWriter {
 public:
  void begin();
  /// Room for an entry of `length` bytes; the caller fills it. Zero-filled.
  uint8_t* add(StateKind kind, uint16_t index, uint32_t length);
  template <typename T>
  T* add_struct(StateKind kind, uint16_t index) {
    return reinterpret_cast<T*>(add(kind, index, sizeof(T)));
  }
  /// Closes the header. The span stays valid until the next begin().
  std::span<const uint8_t> finish();

 private:
  std::vector<uint8_t> buffer_;
  size_t used_ = 0;
  uint16_t count_ = 0;
};

/// Reads a blob that came from outside: every length is checked before it is used.
class StateReader {
 public:
  /// Errors: FT_ERR_STATE_FORMAT with what is wrong (magic, version, lengths).
  static Result<StateReader> open(std::span<const uint8_t> blob);
  /// The entry's bytes, or an empty span when it is not there.
  std::span<const uint8_t> find(StateKind kind, uint16_t index) const;

 private:
  struct Entry {
    StateKind kind;
    uint16_t index;
    std::span<const uint8_t> bytes;
  };
  std::vector<Entry> entries_;
};

/// Captures and restores the complete state of one vCPU. Owns the list of MSRs that this host can
/// both read and write back (probed once at construction on a vCPU that has not run).
class VcpuStateAccess {
 public:
  static Result<VcpuStateAccess> probe(const Kvm& kvm, Vcpu& vcpu);

  /// Adds every per-vCPU entry to `writer`. The vCPU is stopped and has no pending I/O completion
  /// (Vcpu::complete_pending_io). Registers, sregs and events come from the synced registers.
  /// The vCPU's own thread (or any, with the vCPU stopped).
  Status capture(Vcpu& vcpu, StateWriter& writer);
  /// Puts a captured state back, in the order that works: sregs, regs, xcrs, xsave, lapic, MSRs
  /// (TSC_DEADLINE last of them), debugregs, mp_state, events.
  /// Call after the VM's own state (irqchip, PIT, clock) was restored.
  Status restore(Vcpu& vcpu, const StateReader& reader);

 private:
  std::vector<uint32_t> msrs_;
  std::vector<uint8_t> msr_buffer_;
  KvmCaps caps_;
};

/// Irqchips, PIT and clock.
Status capture_vm_state(const Vm& vm, StateWriter& writer);
Status restore_vm_state(Vm& vm, const StateReader& reader);

}  // namespace ft

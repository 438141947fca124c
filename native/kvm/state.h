// The state blob: everything of a VM that is not memory, as versioned, self-describing TLV,
// independent of the wire (checkpoint files use the same bytes).
//
//   blob    { u32 magic "FTST"; u16 version = 1; u16 entry_count; u32 bytes (whole blob); u32 zero
//   } entry   { u16 kind; u16 index (vCPU id, chip or device number); u32 length; bytes; pad to 8 }
//
//   │ header 16 │ 8 │ bytes … 0 0 │ 8 │ bytes … │   everything little-endian, padding zero, entries
//                                                 8-aligned, each (kind, index) at most once
//
// The layout of one machine's blob is the same at every cut as long as no entry changes length, so
// consecutive blobs differ in few words and are sent as a delta.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/result.h"
#include "kvm/privileged_state.h"
#include "kvm/vcpu.h"
#include "kvm/vm.h"

namespace ft {

inline constexpr uint32_t kStateMagic = 0x54535446;  // "FTST", little-endian
inline constexpr uint16_t kStateVersion = 1;

/// Kinds are never reused once retired.
enum class StateKind : uint16_t {
  // per vCPU
  kRegs = 1,   // kvm_regs
  kSregs = 2,  // kvm_sregs2; pdptrs valid only when its flag says so
  kXsave = 3,  // the XSAVE area in the host's layout (KVM_GET_XSAVE2)
  kXcrs = 4,
  kDebugRegs = 5,
  kEvents = 6,
  kMpState = 7,
  kLapic = 8,
  kMsrs = 9,     // kvm_msr_entry[]
  kNested = 10,  // kvm_nested_state, padded to the host's largest
  kTscKhz = 11,  // u32
  // per VM
  kIrqchip = 20,
  kPit2 = 21,
  kClock = 22,  // kvm_clock_data, only `clock` filled
  kCpuid = 23,  // the processor that the guest was given; see guest_cpu.h
  // devices; index = device number
  kSerial = 40,
  kVirtioMmio = 41,
  kVirtioNet = 42,
  kVirtioBlk = 43,
};

/// A word for the kind ("lapic"), or nullptr when this version knows no such kind.
const char* state_kind_name(StateKind kind);

/// Builds a blob in a buffer that is reused from cut to cut (no allocation once it has grown).
class StateWriter {
 public:
  void begin();
  /// Room for an entry of `length` bytes; the caller fills it before the next call. Zero-filled,
  /// 8-aligned.
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
  /// Errors: FT_ERR_STATE_FORMAT with what is wrong (magic, version, lengths, an unknown kind:
  /// an entry that nobody here would restore is state lost, so it is refused by number).
  /// `blob` must outlive the reader.
  static Result<StateReader> open(std::span<const uint8_t> blob);
  /// The entry's bytes, or an empty span when it is not there.
  std::span<const uint8_t> find(StateKind kind, uint16_t index) const;

 private:
  struct Entry {
    uint32_t key;  // kind << 16 | index; entries_ is sorted by it
    std::span<const uint8_t> bytes;
  };
  std::vector<Entry> entries_;
};

/// Copies an entry that must be there with exactly `out.size()` bytes.
/// Errors: FT_ERR_STATE_FORMAT with the entry's name, index and lengths.
Status read_state_entry(const StateReader& reader, StateKind kind, uint16_t index,
                        std::span<uint8_t> out);
template <typename T>
Status read_state_struct(const StateReader& reader, StateKind kind, uint16_t index, T* out) {
  return read_state_entry(reader, kind, index, {reinterpret_cast<uint8_t*>(out), sizeof(T)});
}

/// Captures and restores the complete state of one vCPU. Owns the list of MSRs that this host can
/// both read and write back (probed once at construction on a vCPU that has not run).
class VcpuStateAccess {
 public:
  /// Errors: FT_ERR_KVM_MSRS, FT_ERR_KVM_STATE.
  static Result<VcpuStateAccess> probe(const Kvm& kvm, Vcpu& vcpu);

  /// Adds every per-vCPU entry to `writer`. The vCPU is stopped and has no pending I/O completion
  /// (Vcpu::complete_pending_io). Registers, sregs and events come from the synced registers.
  /// With several vCPUs, all of them are stopped first.
  /// The vCPU's own thread (or any, with the vCPU stopped). Error: FT_ERR_KVM_STATE.
  Status capture(Vcpu& vcpu, StateWriter& writer);
  /// Puts a captured state back, in the order that works: sregs, regs, xcrs, xsave, lapic, MSRs
  /// (TSC_DEADLINE last of them), debugregs, mp_state, events.
  /// Call after the VM's own state (irqchip, PIT, clock) was restored, on a vCPU that has not run.
  /// Errors: FT_ERR_STATE_FORMAT (nothing was changed), FT_ERR_STATE_RESTORE (the vCPU is
  /// unusable), both with the entry's name.
  Status restore(Vcpu& vcpu, const StateReader& reader);

  /// The processor model was changed (Vcpu::set_cpuid): finds the MSRs that travel anew. The vCPU
  /// has not run.
  void probe_again(const Vcpu& vcpu) {
    msrs_ = find_msrs(vcpu);
    privileged_->forget(msrs_);
  }
  /// Whether restore() would take this state: every entry is there and of this host's size, every
  /// MSR is one that it keeps, and the TSC can be made to count as the guest's did (from here on it
  /// does). Errors: FT_ERR_STATE_FORMAT, FT_ERR_STATE_RESTORE.
  Status check(Vcpu& vcpu, const StateReader& reader);

  /// Captures that did not have to read what only kernel mode changes. Any thread that holds the
  /// vCPU still.
  uint64_t privileged_kept() const { return privileged_->kept(); }

  /// The MSRs that travel, TSC_DEADLINE last. Two hosts that replicate must agree on them.
  std::span<const uint32_t> msrs() const { return msrs_; }

 private:
  std::vector<uint32_t> find_msrs(const Vcpu& vcpu) const;
  Status capture_registers(Vcpu& vcpu, StateWriter& writer);
  Status capture_privileged(Vcpu& vcpu, StateWriter& writer);

  std::vector<uint32_t> listed_msrs_;  // what KVM lists; the candidates
  std::vector<uint32_t> msrs_;
  std::unique_ptr<PrivilegedState> privileged_;
  KvmCaps caps_;
  uint32_t tsc_khz_ = 0;
};

/// Irqchips, PIT and clock.
/// Errors: FT_ERR_KVM_STATE; restoring also FT_ERR_STATE_FORMAT and FT_ERR_STATE_RESTORE.
Status capture_vm_state(const Vm& vm, StateWriter& writer);
Status restore_vm_state(Vm& vm, const StateReader& reader);

}  // namespace ft

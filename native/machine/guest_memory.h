// Guest memory: a memfd mapped once, and the only way by which the VMM touches it.
//
// KVM's dirty ring logs what goes through a vCPU; it knows nothing of what the VMM itself writes
// (virtio rings, receive buffers, boot data). So every write of ours goes through this class, which
// marks the pages; a raw pointer into guest memory that is written through outside this class is a
// defect. The set of marked pages joins the ring's at the cut.
//
// Thread: calls that write or mark need the machine lock (Machine::lock); reads need only the
// memory to be alive. Bounds: [0, size); addresses come from a hostile guest, so every access is
// checked and fails with FT_ERR_GUEST_ADDRESS, never a crash.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/mapped_region.h"
#include "core/result.h"
#include "core/unique_fd.h"

namespace ft {

/// Guest memory ends below the 32-bit device window.
inline constexpr uint64_t kMemoryBytesMax = 3ull << 30;

class GuestMemory {
 public:
  /// Creates a memfd of `bytes` (a multiple of 4096, at least 1 MiB). The whole of it is mapped at
  /// gpa 0. Errors: FT_ERR_MEMORY_SIZE (zero, unaligned, above the 3 GiB that lie below the device
  /// window, beyond what the host has), FT_ERR_MAP.
  static Result<GuestMemory> create(uint64_t bytes);

  /// Makes all of it zero, without waiting for the system to take back what there was: a new file
  /// takes the old one's place under the same mapping, and a thread of its own lets go of the old
  /// one; fd() is another one afterwards. Where the system cannot do that (before Linux 5.13) the
  /// pages of the same file are given back, which is waited for. No vCPU runs. Error: FT_ERR_MAP;
  /// what there was is then there still.
  Status clear();

  uint64_t size() const { return region_.size(); }
  uint64_t page_count() const { return region_.size() / 4096; }
  int fd() const { return fd_.get(); }
  /// For KVM's memslot and for the replication code that copies whole pages; not for devices.
  uint8_t* host_base() const { return region_.data(); }

  /// Copies guest memory out. False when [gpa, gpa + out.size()) is not inside guest memory.
  [[nodiscard]] bool read(uint64_t gpa, std::span<uint8_t> out) const;
  /// Copies into guest memory and marks every page touched.
  [[nodiscard]] bool write(uint64_t gpa, std::span<const uint8_t> bytes);
  template <typename T>
  [[nodiscard]] bool read_value(uint64_t gpa, T* out) const {
    return read(gpa, {reinterpret_cast<uint8_t*>(out), sizeof(T)});
  }
  template <typename T>
  [[nodiscard]] bool write_value(uint64_t gpa, const T& value) {
    return write(gpa, {reinterpret_cast<const uint8_t*>(&value), sizeof(T)});
  }
  /// Loads the 16-bit word at `gpa` (even) with acquire ordering: what the guest wrote before it
  /// stored the word is seen after it. For ring indexes.
  [[nodiscard]] bool load_acquire(uint64_t gpa, uint16_t* out) const;
  /// Stores the 16-bit word at `gpa` (even) with release ordering, and marks its page.
  [[nodiscard]] bool store_release(uint64_t gpa, uint16_t value);
  /// Whether [gpa, gpa + bytes) lies inside guest memory.
  bool contains(uint64_t gpa, uint64_t bytes) const {
    return gpa <= size() && bytes <= size() - gpa;
  }
  /// A read-only view for scatter/gather output (empty when out of range).
  std::span<const uint8_t> view(uint64_t gpa, uint64_t bytes) const;
  /// A writable view for scatter input (readv from the TAP); the caller has it marked whole.
  std::span<uint8_t> writable_view(uint64_t gpa, uint64_t bytes);

  /// Marks one page as changed by the VMM.
  void mark_dirty(uint64_t gfn);
  /// The pages marked since the last clear, each once, in order of first marking.
  std::span<const uint32_t> dirty_gfns() const { return dirty_; }
  void clear_dirty();
  /// While off (nobody replicates) marks are dropped; switching forgets the marks there are. On
  /// when it is on already, it changes nothing: what devices marked meanwhile is still to be taken.
  void set_tracking(bool on);
  bool tracking() const { return tracking_; }

 private:
  void mark_range(uint64_t gpa, uint64_t bytes);
  UniqueFd fd_;
  MappedRegion region_;
  std::vector<uint64_t> bitmap_;
  std::vector<uint32_t> dirty_;
  bool tracking_ = false;
};

}  // namespace ft

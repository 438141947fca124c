// KVM requests whose argument ends in an array of any length.
//
// The kernel's headers declare such arrays through a macro that puts an empty struct in front of
// them. An empty struct has no size in C and one byte in C++, so a C++ program gets structs that
// are too large, arrays that lie too far back, and (as the size is part of it) wrong request
// numbers, all of it answered with EINVAL. Newer headers mend that; ours do not hang on it.
//
// KVM_SET_GSI_ROUTING shares the fault; it is not used here. Anyone who needs them adds them below.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ft::uapi {

struct MsrListHeader {
  uint32_t count;
};
struct MsrsHeader {
  uint32_t count;
  uint32_t pad;
};
struct CpuidHeader {
  uint32_t count;
  uint32_t padding;
};
struct StatsHeader {
  uint32_t flags;
  uint32_t name_bytes;
  uint32_t descriptors;
  uint32_t id_at;
  uint32_t descriptors_at;
  uint32_t data_at;
};
// Followed by the name.
struct StatsDescriptor {
  uint32_t flags;
  int16_t exponent;
  uint16_t count;
  uint32_t offset;
  uint32_t bucket_bytes;
};
struct SignalMask {
  uint32_t bytes;
  uint8_t set[8];  // sigset_t as the kernel has it
};
struct Xsave {
  uint32_t region[1024];
};
static_assert(sizeof(SignalMask) == 12 && sizeof(StatsHeader) == 24);
static_assert(sizeof(StatsDescriptor) == 16);
static_assert(sizeof(MsrListHeader) == 4 && sizeof(MsrsHeader) == 8 && sizeof(CpuidHeader) == 8);
static_assert(sizeof(Xsave) == 4096 && sizeof(kvm_nested_state) == 128);
static_assert(sizeof(kvm_msr_entry) == 16 && sizeof(kvm_cpuid_entry2) == 40);

inline constexpr unsigned long kGetMsrIndexList = _IOWR(KVMIO, 0x02, MsrListHeader);
inline constexpr unsigned long kGetSupportedCpuid = _IOWR(KVMIO, 0x05, CpuidHeader);
inline constexpr unsigned long kGetMsrs = _IOWR(KVMIO, 0x88, MsrsHeader);
inline constexpr unsigned long kSetMsrs = _IOW(KVMIO, 0x89, MsrsHeader);
inline constexpr unsigned long kGetStatsFd = _IO(KVMIO, 0xce);
// The number counts the header alone.
inline constexpr unsigned long kSetSignalMask = _IOW(KVMIO, 0x8b, uint32_t);
inline constexpr unsigned long kSetCpuid2 = _IOW(KVMIO, 0x90, CpuidHeader);
inline constexpr unsigned long kGetXsave = _IOR(KVMIO, 0xa4, Xsave);
inline constexpr unsigned long kSetXsave = _IOW(KVMIO, 0xa5, Xsave);
inline constexpr unsigned long kGetXsave2 = _IOR(KVMIO, 0xcf, Xsave);

/// A header and up to `room` elements right behind it, as the kernel lays them out.
template <typename Header, typename Element>
class Table {
 public:
  Table() = default;
  explicit Table(size_t room)
      : words_((sizeof(Header) + room * sizeof(Element) + 7) / sizeof(uint64_t)) {
    static_assert(sizeof(Header) % alignof(Element) == 0);
    head()->count = static_cast<uint32_t>(room);
  }
  Header* head() { return reinterpret_cast<Header*>(words_.data()); }
  Element* elements() {
    return reinterpret_cast<Element*>(reinterpret_cast<uint8_t*>(words_.data()) + sizeof(Header));
  }
  uint32_t count() { return head()->count; }
  void set_count(uint32_t count) { head()->count = count; }

 private:
  std::vector<uint64_t> words_;
};

using MsrList = Table<MsrListHeader, uint32_t>;
using Msrs = Table<MsrsHeader, kvm_msr_entry>;
using Cpuid = Table<CpuidHeader, kvm_cpuid_entry2>;

}  // namespace ft::uapi

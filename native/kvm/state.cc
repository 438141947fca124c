// Writing and reading the state blob's framing. What the entries hold is in vcpu_state.cc,
// vm_state.cc and the devices.
#include "kvm/state.h"

#include <algorithm>
#include <cstring>

namespace ft {
namespace {

// Both headers are written field by field, little-endian, so that the layout does not hang on the
// compiler's.
//   header  0 magic u32 │ 4 version u16 │ 6 entry_count u16 │ 8 bytes u32 │ 12 zero u32
//   entry   0 kind u16 │ 2 index u16 │ 4 length u32
constexpr size_t kHeaderBytes = 16;
constexpr size_t kEntryHeaderBytes = 8;

template <typename T>
void put(uint8_t* at, T value) {
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the blob is little-endian");
  std::memcpy(at, &value, sizeof(value));
}

template <typename T>
T take(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

constexpr uint64_t padded(uint64_t bytes) {
  return (bytes + 7) & ~uint64_t{7};
}

constexpr uint32_t key_of(StateKind kind, uint16_t index) {
  return static_cast<uint32_t>(kind) << 16 | index;
}

Error format_error(const std::string& what) {
  return Error{"FT_ERR_STATE_FORMAT", 0,
               "This is not a state that can be restored here: " + what +
                   ". It comes from another version of the program or was damaged."};
}

}  // namespace

const char* state_kind_name(StateKind kind) {
  // No default: the compiler asks for a name when a kind is added.
  switch (kind) {
    case StateKind::kRegs:
      return "regs";
    case StateKind::kSregs:
      return "sregs";
    case StateKind::kXsave:
      return "xsave";
    case StateKind::kXcrs:
      return "xcrs";
    case StateKind::kDebugRegs:
      return "debugregs";
    case StateKind::kEvents:
      return "events";
    case StateKind::kMpState:
      return "mp_state";
    case StateKind::kLapic:
      return "lapic";
    case StateKind::kMsrs:
      return "msrs";
    case StateKind::kNested:
      return "nested";
    case StateKind::kTscKhz:
      return "tsc_khz";
    case StateKind::kIrqchip:
      return "irqchip";
    case StateKind::kPit2:
      return "pit2";
    case StateKind::kClock:
      return "clock";
    case StateKind::kCpuid:
      return "cpuid";
    case StateKind::kSerial:
      return "serial";
    case StateKind::kVirtioMmio:
      return "virtio-mmio";
    case StateKind::kVirtioNet:
      return "virtio-net";
    case StateKind::kVirtioBlk:
      return "virtio-blk";
  }
  return nullptr;
}

void StateWriter::begin() {
  if (buffer_.size() < kHeaderBytes) buffer_.resize(64 * 1024);
  used_ = kHeaderBytes;
  count_ = 0;
}

uint8_t* StateWriter::add(StateKind kind, uint16_t index, uint32_t length) {
  FT_CHECK(used_ >= kHeaderBytes, "StateWriter::add before begin");
  FT_CHECK(count_ != UINT16_MAX, "too many entries in a state blob");
  const size_t end = used_ + kEntryHeaderBytes + padded(length);
  FT_CHECK(end <= UINT32_MAX, "a state blob beyond 4 GiB");
  if (end > buffer_.size()) buffer_.resize(std::max(end, buffer_.size() * 2));
  uint8_t* header = buffer_.data() + used_;
  put<uint16_t>(header, static_cast<uint16_t>(kind));
  put<uint16_t>(header + 2, index);
  put<uint32_t>(header + 4, length);
  uint8_t* bytes = header + kEntryHeaderBytes;
  std::memset(bytes, 0, padded(length));
  used_ = end;
  count_++;
  return bytes;
}

std::span<const uint8_t> StateWriter::finish() {
  FT_CHECK(used_ >= kHeaderBytes, "StateWriter::finish before begin");
  put<uint32_t>(buffer_.data(), kStateMagic);
  put<uint16_t>(buffer_.data() + 4, kStateVersion);
  put<uint16_t>(buffer_.data() + 6, count_);
  put<uint32_t>(buffer_.data() + 8, static_cast<uint32_t>(used_));
  put<uint32_t>(buffer_.data() + 12, 0);
  return {buffer_.data(), used_};
}

Result<StateReader> StateReader::open(std::span<const uint8_t> blob) {
  if (blob.size() < kHeaderBytes) return format_error("it ends inside its header");
  if (take<uint32_t>(blob.data()) != kStateMagic) return format_error("it has no state magic");
  const auto version = take<uint16_t>(blob.data() + 4);
  if (version != kStateVersion) {
    return format_error("its format version is " + std::to_string(version) + ", known is " +
                        std::to_string(kStateVersion));
  }
  const auto count = take<uint16_t>(blob.data() + 6);
  const auto bytes = take<uint32_t>(blob.data() + 8);
  if (bytes != blob.size()) {
    return format_error("it says " + std::to_string(bytes) + " bytes and has " +
                        std::to_string(blob.size()));
  }
  if (take<uint32_t>(blob.data() + 12) != 0) return format_error("a reserved field is not zero");
  if (size_t{count} * kEntryHeaderBytes > blob.size() - kHeaderBytes) {
    return format_error("it cannot hold " + std::to_string(count) + " entries");
  }

  StateReader reader;
  reader.entries_.reserve(count);
  size_t at = kHeaderBytes;
  for (uint32_t i = 0; i < count; i++) {
    auto bad = [i](const std::string& what) {
      return format_error("entry " + std::to_string(i) + " " + what);
    };
    if (blob.size() - at < kEntryHeaderBytes) return bad("is cut off");
    const auto kind = static_cast<StateKind>(take<uint16_t>(blob.data() + at));
    const auto index = take<uint16_t>(blob.data() + at + 2);
    const auto length = take<uint32_t>(blob.data() + at + 4);
    at += kEntryHeaderBytes;
    if (state_kind_name(kind) == nullptr) {
      return bad("has the unknown kind " + std::to_string(static_cast<uint16_t>(kind)));
    }
    if (padded(length) > blob.size() - at) return bad("is cut off");
    for (uint64_t pad = length; pad < padded(length); pad++) {
      if (blob[at + pad] != 0) return bad("has padding that is not zero");
    }
    reader.entries_.push_back({key_of(kind, index), blob.subspan(at, length)});
    at += padded(length);
  }
  if (at != blob.size()) return format_error("bytes follow its last entry");

  auto by_key = [](const Entry& a, const Entry& b) { return a.key < b.key; };
  std::sort(reader.entries_.begin(), reader.entries_.end(), by_key);
  for (size_t i = 1; i < reader.entries_.size(); i++) {
    if (reader.entries_[i - 1].key == reader.entries_[i].key) {
      return format_error("it has two entries of kind " +
                          std::to_string(reader.entries_[i].key >> 16) + ", index " +
                          std::to_string(reader.entries_[i].key & 0xffff));
    }
  }
  return reader;
}

std::span<const uint8_t> StateReader::find(StateKind kind, uint16_t index) const {
  const uint32_t key = key_of(kind, index);
  auto found = std::lower_bound(entries_.begin(), entries_.end(), key,
                                [](const Entry& entry, uint32_t k) { return entry.key < k; });
  if (found == entries_.end() || found->key != key) return {};
  return found->bytes;
}

Status read_state_entry(const StateReader& reader, StateKind kind, uint16_t index,
                        std::span<uint8_t> out) {
  const std::span<const uint8_t> bytes = reader.find(kind, index);
  if (bytes.size() != out.size()) {
    return format_error(std::string("entry ") + state_kind_name(kind) + " " +
                        std::to_string(index) + " has " + std::to_string(bytes.size()) +
                        " bytes, this host expects " + std::to_string(out.size()));
  }
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return Ok{};
}

}  // namespace ft

// The MP table: how a guest without ACPI learns of its processors and interrupt lines.
#include "machine/mp_table.h"

#include <cstring>

namespace ft {
namespace {

constexpr uint8_t kSpecRevision = 4;  // 1.4
constexpr uint32_t kLapicGpa = 0xfee00000;
constexpr uint32_t kIoapicGpa = 0xfec00000;
constexpr uint8_t kLapicVersion = 0x14;   // what KVM's reports
constexpr uint8_t kIoapicVersion = 0x11;  // likewise
constexpr uint8_t kIsaBus = 0;
constexpr uint8_t kIoapicPins = 24;
constexpr uint8_t kCascadeLine = 2;
constexpr uint8_t kAllLapics = 0xff;

enum EntryType : uint8_t { kProcessor = 0, kBus = 1, kIoapic = 2, kLine = 3, kLint = 4 };
enum InterruptType : uint8_t { kInt = 0, kNmi = 1, kExtInt = 3 };

struct FloatingPointer {
  char signature[4] = {'_', 'M', 'P', '_'};
  uint32_t table_gpa = 0;
  uint8_t paragraphs = 1;  // its own length in units of 16 bytes
  uint8_t revision = kSpecRevision;
  uint8_t checksum = 0;
  uint8_t features[5] = {};  // zero: a table is there, and no IMCR: the PICs reach LINT0
};
static_assert(sizeof(FloatingPointer) == 16);

struct Header {
  char signature[4] = {'P', 'C', 'M', 'P'};
  uint16_t bytes = 0;
  uint8_t revision = kSpecRevision;
  uint8_t checksum = 0;
  char oem[8] = {'R', 'O', 'M', 'U', 'L', 'U', 'S', ' '};
  char product[12] = {'V', 'I', 'R', 'T', 'U', 'A', 'L', ' ', ' ', ' ', ' ', ' '};
  uint32_t oem_table = 0;
  uint16_t oem_bytes = 0;
  uint16_t entries = 0;
  uint32_t lapic_gpa = kLapicGpa;
  uint16_t extended_bytes = 0;
  uint8_t extended_checksum = 0;
  uint8_t reserved = 0;
};
static_assert(sizeof(Header) == 44);

struct Processor {
  uint8_t type = kProcessor;
  uint8_t apic_id;
  uint8_t apic_version = kLapicVersion;
  uint8_t flags;  // 1 usable, 2 bootstrap processor
  uint32_t signature;
  uint32_t features;
  uint32_t reserved[2] = {};
};
static_assert(sizeof(Processor) == 20);

struct Bus {
  uint8_t type = kBus;
  uint8_t id = kIsaBus;
  char name[6] = {'I', 'S', 'A', ' ', ' ', ' '};
};
static_assert(sizeof(Bus) == 8);

struct Ioapic {
  uint8_t type = kIoapic;
  uint8_t id;
  uint8_t version = kIoapicVersion;
  uint8_t flags = 1;  // usable
  uint32_t gpa = kIoapicGpa;
};
static_assert(sizeof(Ioapic) == 8);

// An interrupt line, of a bus to an IOAPIC (kLine) or to local APICs (kLint).
struct Line {
  uint8_t type;
  uint8_t interrupt;
  uint16_t flags = 0;  // trigger mode and polarity as the bus has them
  uint8_t bus = kIsaBus;
  uint8_t bus_line;
  uint8_t apic_id;
  uint8_t pin;
};
static_assert(sizeof(Line) == 8);

// The byte that makes all of `bytes` sum up to zero.
uint8_t balance(const void* bytes, size_t count) {
  uint8_t sum = 0;
  for (size_t i = 0; i < count; i++) sum += static_cast<const uint8_t*>(bytes)[i];
  return static_cast<uint8_t>(0 - sum);
}

class Entries {
 public:
  template <typename Entry>
  void add(const Entry& entry) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&entry);
    bytes_.insert(bytes_.end(), bytes, bytes + sizeof(entry));
    count_++;
  }
  const std::vector<uint8_t>& bytes() const { return bytes_; }
  uint16_t count() const { return count_; }

 private:
  std::vector<uint8_t> bytes_;
  uint16_t count_ = 0;
};

// In the order of their types, as the specification wants it.
Entries describe(const MpTableFacts& facts) {
  Entries entries;
  for (uint32_t id = 0; id < facts.vcpus; id++) {
    entries.add(Processor{.apic_id = static_cast<uint8_t>(id),
                          .flags = static_cast<uint8_t>(id == 0 ? 3 : 1),
                          .signature = facts.cpu_signature,
                          .features = facts.cpu_features});
  }
  entries.add(Bus{});
  // Ids of local and I/O APICs share one space.
  const auto ioapic_id = static_cast<uint8_t>(facts.vcpus);
  entries.add(Ioapic{.id = ioapic_id});
  for (uint8_t line = 0; line < kIoapicPins; line++) {
    if (line == kCascadeLine) continue;
    entries.add(Line{
        .type = kLine, .interrupt = kInt, .bus_line = line, .apic_id = ioapic_id, .pin = line});
  }
  entries.add(
      Line{.type = kLint, .interrupt = kExtInt, .bus_line = 0, .apic_id = kAllLapics, .pin = 0});
  entries.add(
      Line{.type = kLint, .interrupt = kNmi, .bus_line = 0, .apic_id = kAllLapics, .pin = 1});
  return entries;
}

}  // namespace

std::vector<uint8_t> build_mp_table(const MpTableFacts& facts, uint64_t gpa) {
  const Entries entries = describe(facts);
  FloatingPointer pointer;
  pointer.table_gpa = static_cast<uint32_t>(gpa + sizeof(pointer));
  pointer.checksum = balance(&pointer, sizeof(pointer));
  Header header;
  header.bytes = static_cast<uint16_t>(sizeof(header) + entries.bytes().size());
  header.entries = entries.count();
  header.checksum = static_cast<uint8_t>(balance(&header, sizeof(header)) +
                                         balance(entries.bytes().data(), entries.bytes().size()));

  const size_t entries_at = sizeof(pointer) + sizeof(header);
  std::vector<uint8_t> bytes(entries_at + entries.bytes().size());
  std::memcpy(bytes.data(), &pointer, sizeof(pointer));
  std::memcpy(bytes.data() + sizeof(pointer), &header, sizeof(header));
  std::memcpy(bytes.data() + entries_at, entries.bytes().data(), entries.bytes().size());
  return bytes;
}

void write_mp_table(GuestMemory& memory, const MpTableFacts& facts) {
  const std::vector<uint8_t> bytes = build_mp_table(facts, kMpTableGpa);
  FT_CHECK(bytes.size() <= kMpTableBytesMax, "the MP table does not fit its place");
  FT_CHECK(memory.write(kMpTableGpa, bytes), "guest memory has no room for the MP table");
}

}  // namespace ft

// The MP table, read back as a guest's kernel reads it: signatures, checksums, lengths, and what
// the entries say.
#include <doctest/doctest.h>

#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "machine/memory_layout.h"
#include "machine/mp_table.h"

using namespace ft;

namespace {

uint8_t sum_of(const uint8_t* bytes, size_t count) {
  uint8_t sum = 0;
  for (size_t i = 0; i < count; i++) sum = static_cast<uint8_t>(sum + bytes[i]);
  return sum;
}

template <typename T>
T at(const std::vector<uint8_t>& bytes, size_t offset) {
  T value;
  REQUIRE(offset + sizeof(T) <= bytes.size());
  std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

struct Line {
  uint8_t type, interrupt, bus, bus_line, apic_id, pin;
  uint16_t flags;
};

// What a guest's kernel makes of the table at kMpTableGpa.
struct Seen {
  std::vector<uint8_t> apic_ids;
  std::vector<uint8_t> flags;
  std::set<uint32_t> signatures, features;
  std::vector<std::string> buses;
  std::vector<uint8_t> ioapic_ids;
  std::vector<Line> lines;
};

Seen read_table(const std::vector<uint8_t>& bytes, uint64_t gpa) {
  REQUIRE(std::string(bytes.begin(), bytes.begin() + 4) == "_MP_");
  REQUIRE(at<uint8_t>(bytes, 8) == 1);  // 16 bytes long
  CHECK(at<uint8_t>(bytes, 9) == 4);    // version 1.4
  CHECK(at<uint8_t>(bytes, 11) == 0);   // not one of the default configurations
  CHECK(sum_of(bytes.data(), 16) == 0);
  const uint64_t table = at<uint32_t>(bytes, 4) - gpa;
  REQUIRE(std::string(bytes.begin() + table, bytes.begin() + table + 4) == "PCMP");
  const uint16_t length = at<uint16_t>(bytes, table + 4);
  REQUIRE(table + length == bytes.size());
  CHECK(at<uint8_t>(bytes, table + 6) == 4);
  CHECK(sum_of(bytes.data() + table, length) == 0);
  CHECK(at<uint32_t>(bytes, table + 36) == 0xfee00000);
  const uint16_t count = at<uint16_t>(bytes, table + 34);

  Seen seen;
  size_t offset = table + 44;
  uint8_t last_type = 0;
  for (uint16_t i = 0; i < count; i++) {
    const auto type = at<uint8_t>(bytes, offset);
    CHECK(type >= last_type);
    last_type = type;
    if (type == 0) {
      seen.apic_ids.push_back(at<uint8_t>(bytes, offset + 1));
      CHECK(at<uint8_t>(bytes, offset + 2) == 0x14);
      seen.flags.push_back(at<uint8_t>(bytes, offset + 3));
      seen.signatures.insert(at<uint32_t>(bytes, offset + 4));
      seen.features.insert(at<uint32_t>(bytes, offset + 8));
      offset += 20;
      continue;
    }
    if (type == 1) {
      CHECK(at<uint8_t>(bytes, offset + 1) == seen.buses.size());
      seen.buses.emplace_back(reinterpret_cast<const char*>(bytes.data() + offset + 2), 6);
    } else if (type == 2) {
      seen.ioapic_ids.push_back(at<uint8_t>(bytes, offset + 1));
      CHECK(at<uint8_t>(bytes, offset + 3) == 1);
      CHECK(at<uint32_t>(bytes, offset + 4) == 0xfec00000);
    } else {
      REQUIRE((type == 3 || type == 4));
      seen.lines.push_back({type, at<uint8_t>(bytes, offset + 1), at<uint8_t>(bytes, offset + 4),
                            at<uint8_t>(bytes, offset + 5), at<uint8_t>(bytes, offset + 6),
                            at<uint8_t>(bytes, offset + 7), at<uint16_t>(bytes, offset + 2)});
    }
    offset += 8;
  }
  CHECK(offset == bytes.size());
  return seen;
}

}  // namespace

TEST_CASE("mp table: processors, with the first as bootstrap processor") {
  for (const uint32_t vcpus : {1u, 2u, 8u}) {
    CAPTURE(vcpus);
    const MpTableFacts facts{.vcpus = vcpus, .cpu_signature = 0xa20f12, .cpu_features = 0x178bfbff};
    const Seen seen = read_table(build_mp_table(facts, kMpTableGpa), kMpTableGpa);
    REQUIRE(seen.apic_ids.size() == vcpus);
    for (uint32_t id = 0; id < vcpus; id++) {
      CHECK(seen.apic_ids[id] == id);
      CHECK(seen.flags[id] == (id == 0 ? 3 : 1));
    }
    CHECK(seen.signatures == std::set<uint32_t>{0xa20f12});
    CHECK(seen.features == std::set<uint32_t>{0x178bfbff});
    // One IOAPIC, whose id is no processor's.
    REQUIRE(seen.ioapic_ids.size() == 1);
    CHECK(seen.ioapic_ids[0] >= vcpus);
    CHECK(seen.buses == std::vector<std::string>{"ISA   "});
  }
}

TEST_CASE("mp table: every line but the cascade goes to the pin of its number") {
  const Seen seen = read_table(build_mp_table({.vcpus = 4}, kMpTableGpa), kMpTableGpa);
  std::set<uint8_t> pins;
  uint32_t lints = 0;
  for (const Line& line : seen.lines) {
    CHECK(line.flags == 0);
    CHECK(line.bus == 0);
    if (line.type == 4) {
      lints++;
      CHECK(line.apic_id == 0xff);
      CHECK(line.interrupt == (line.pin == 0 ? 3 : 1));  // LINT0: the PICs; LINT1: NMI
      continue;
    }
    CHECK(line.interrupt == 0);
    CHECK(line.apic_id == seen.ioapic_ids[0]);
    CHECK(line.pin == line.bus_line);
    CHECK(pins.insert(line.pin).second);
  }
  CHECK(lints == 2);
  CHECK(pins.size() == 23);
  CHECK(pins.count(2) == 0);
  CHECK(pins.count(23) == 1);
}

TEST_CASE("mp table: lies in a range that the memory map reserves, with room for 8 processors") {
  auto made = GuestMemory::create(1 << 20);
  REQUIRE(made.ok());
  GuestMemory memory = made.take();
  write_mp_table(memory, {.vcpus = 8, .cpu_signature = 1, .cpu_features = 2});
  std::vector<uint8_t> bytes(kMpTableBytesMax);
  REQUIRE(memory.read(kMpTableGpa, bytes));
  const auto length = at<uint16_t>(bytes, 16 + 4);
  bytes.resize(16u + length);
  CHECK(read_table(bytes, kMpTableGpa).apic_ids.size() == 8);

  bool reserved = false;
  for (const MemoryRange& range : memory_map(memory.size())) {
    if (range.type != MemoryRangeType::kReserved) continue;
    reserved = reserved ||
               (range.gpa <= kMpTableGpa && kMpTableGpa + bytes.size() <= range.gpa + range.bytes);
  }
  CHECK(reserved);
  // Kernels look at 16-byte boundaries of the last KiB of base memory.
  CHECK(kMpTableGpa % 16 == 0);
  CHECK(kMpTableGpa == 639 * 1024);
}

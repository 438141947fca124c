// The state blob's framing: what is written is read, and nothing that is damaged is believed.
#include <doctest/doctest.h>

#include <cstring>

#include "kvm/state.h"

using namespace ft;

namespace {

std::vector<uint8_t> sample() {
  StateWriter writer;
  writer.begin();
  std::memset(writer.add(StateKind::kRegs, 0, 144), 0x11, 144);
  std::memset(writer.add(StateKind::kSerial, 2, 13), 0x22, 13);  // needs padding
  writer.add(StateKind::kClock, 0, 0);
  std::memset(writer.add(StateKind::kRegs, 1, 3), 0x33, 3);
  const auto blob = writer.finish();
  return {blob.begin(), blob.end()};
}

std::string refusal(const std::vector<uint8_t>& blob) {
  const auto reader = StateReader::open(blob);
  if (reader.ok()) return "";
  CHECK(std::string(reader.error().code) == "FT_ERR_STATE_FORMAT");
  return reader.error().message;
}

bool says(const std::vector<uint8_t>& blob, const char* what) {
  return refusal(blob).find(what) != std::string::npos;
}

}  // namespace

TEST_CASE("a state blob comes back as it was written") {
  const auto blob = sample();
  CHECK(blob.size() % 8 == 0);
  const auto reader = StateReader::open(blob);
  REQUIRE(reader.ok());
  CHECK(reader.value().find(StateKind::kRegs, 0).size() == 144);
  CHECK(reader.value().find(StateKind::kSerial, 2).size() == 13);
  CHECK(reader.value().find(StateKind::kSerial, 2)[12] == 0x22);
  CHECK(reader.value().find(StateKind::kRegs, 1).size() == 3);
  CHECK(reader.value().find(StateKind::kRegs, 1)[0] == 0x33);
  CHECK(reader.value().find(StateKind::kClock, 0).empty());
  CHECK(reader.value().find(StateKind::kSerial, 0).empty());
  CHECK(reader.value().find(StateKind::kLapic, 0).empty());
}

TEST_CASE("a writer starts afresh and zero-filled each time") {
  StateWriter writer;
  writer.begin();
  std::memset(writer.add(StateKind::kXsave, 0, 200'000), 0xff, 200'000);  // makes the buffer grow
  CHECK(writer.finish().size() == 16 + 8 + 200'000);
  writer.begin();
  const uint8_t* bytes = writer.add(StateKind::kRegs, 0, 5000);
  for (size_t i = 0; i < 5000; i++) REQUIRE(bytes[i] == 0);
  const auto blob = writer.finish();
  const auto reader = StateReader::open(blob);
  REQUIRE(reader.ok());
  CHECK(reader.value().find(StateKind::kRegs, 0).size() == 5000);
  CHECK(reader.value().find(StateKind::kXsave, 0).empty());
}

TEST_CASE("a blob cut off at any byte is refused") {
  const auto blob = sample();
  for (size_t n = 0; n < blob.size(); n++) {
    std::vector<uint8_t> cut(blob.begin(), blob.begin() + static_cast<long>(n));
    CHECK_FALSE(refusal(cut).empty());
    // Also when the header was made to agree with the shorter length.
    if (n < 16) continue;
    const auto bytes = static_cast<uint32_t>(n);
    std::memcpy(cut.data() + 8, &bytes, 4);
    CHECK_FALSE(refusal(cut).empty());
  }
}

TEST_CASE("every single bit of a blob's framing counts") {
  // Bits of payloads are the entries' affair; a flipped framing bit is refused, or changes which
  // entry is found (a kind or an index that is as good as another), and is never read past the end.
  const auto blob = sample();
  for (size_t bit = 0; bit < blob.size() * 8; bit++) {
    std::vector<uint8_t> bad = blob;
    bad[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    const auto reader = StateReader::open(bad);
    if (bit < 16 * 8) CHECK_FALSE(reader.ok());
    if (!reader.ok()) continue;
    size_t found = 0;
    for (uint32_t kind = 0; kind < 64; kind++) {
      for (uint16_t index = 0; index < 4; index++) {
        for (uint8_t byte : reader.value().find(static_cast<StateKind>(kind), index)) found += byte;
      }
    }
    CHECK(found < 256u * blob.size());
  }
}

TEST_CASE("a blob's refusals say what is wrong") {
  const auto good = sample();
  auto bad = good;
  bad[0] = 'X';
  CHECK(says(bad, "no state magic"));
  bad = good;
  bad[4] = 2;
  CHECK(says(bad, "format version is 2, known is 1"));
  bad = good;
  bad[12] = 1;
  CHECK(says(bad, "reserved"));
  bad = good;
  bad.insert(bad.end(), 8, 0);
  CHECK(says(bad, "bytes and has"));
  bad[8] = static_cast<uint8_t>(bad.size());
  CHECK(says(bad, "bytes follow its last entry"));
  bad = good;
  bad[6] = 3;  // one entry fewer than there are
  CHECK(says(bad, "bytes follow its last entry"));
  bad = good;
  bad[6] = 0xff;
  bad[7] = 0xff;
  CHECK(says(bad, "cannot hold 65535 entries"));
  bad = good;
  bad[16] = 99;
  CHECK(says(bad, "entry 0 has the unknown kind 99"));
  bad = good;
  bad[16 + 8 + 144 + 8 + 13] = 1;  // behind the 13 bytes of the serial entry
  CHECK(says(bad, "entry 1 has padding"));
  bad = good;
  bad[16 + 7] = 0xff;  // length of the first entry: 4 GiB
  CHECK(says(bad, "entry 0 is cut off"));
}

TEST_CASE("two entries for the same thing are refused") {
  StateWriter writer;
  writer.begin();
  writer.add(StateKind::kRegs, 7, 8);
  writer.add(StateKind::kLapic, 7, 8);
  writer.add(StateKind::kRegs, 7, 8);
  const auto blob = writer.finish();
  CHECK(says({blob.begin(), blob.end()}, "two entries of kind 1, index 7"));
}

TEST_CASE("an entry of another length than expected is named") {
  const auto blob = sample();
  const auto reader = StateReader::open(blob);
  REQUIRE(reader.ok());
  kvm_pit_state2 pit{};
  const auto missing = read_state_struct(reader.value(), StateKind::kPit2, 0, &pit);
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().message.find("entry pit2 0 has 0 bytes, this host expects 112") !=
        std::string::npos);
  kvm_regs regs{};
  CHECK(read_state_struct(reader.value(), StateKind::kRegs, 0, &regs).ok());
  CHECK(regs.rax == 0x1111111111111111);
  CHECK_FALSE(read_state_struct(reader.value(), StateKind::kRegs, 1, &regs).ok());
}

TEST_CASE("every kind has a name of its own, anything else has none") {
  std::vector<std::string> names;
  for (uint32_t kind = 0; kind <= 0xffff; kind++) {
    const char* name = state_kind_name(static_cast<StateKind>(kind));
    if (name == nullptr) continue;
    for (const auto& other : names) CHECK(other != name);
    names.emplace_back(name);
  }
  CHECK(names.size() == 19);
}

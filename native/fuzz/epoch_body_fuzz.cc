// Hostile bodies of epochs, as they come from the wire: refused with nothing promised and nothing
// changed, or applied without leaving the image or a disk.
//
//   byte   even: the rest is a body whose header's lengths are put right (so that the fuzzer gets
//          past them); odd: a body that the encoder wrote, then damaged
//
// Held: a refused body calls no disk; every record that is promised and applied lies inside its
// disk, on whole sectors, with its own data; as many are applied as were promised.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "core/crc32c.h"
#include "fuzz_input.h"
#include "machine/epoch_codec.h"

namespace {

using namespace ft;  // NOLINT: one short programme about this namespace

constexpr uint64_t kMemoryBytes = 1 << 20;
constexpr uint64_t kDiskBytes = 1 << 20;

using Bytes = std::vector<uint8_t>;

// Memory is kept from run to run: making memfds each time would take most of the time.
struct Bench {
  GuestMemory source = GuestMemory::create(kMemoryBytes).take();
  GuestMemory image = GuestMemory::create(kMemoryBytes).take();
  std::unique_ptr<EpochEncoder> encoder = EpochEncoder::create(source).take();
  std::unique_ptr<SlotPool> slots = SlotPool::create(1, source.page_count()).take();
  uint64_t promised = 0, applied = 0;

  std::vector<DiskTarget> targets() {
    std::vector<DiskTarget> list;
    for (const bool read_only : {false, true}) {
      DiskTarget target;
      target.bytes = kDiskBytes;
      target.read_only = read_only;
      target.promise = [this, read_only](const DiskRecord& r) {
        check(r, read_only);
        promised++;
      };
      target.apply = [this, read_only](const DiskRecord& r) {
        check(r, read_only);
        const bool data = r.kind == IoKind::kWrite;
        FT_CHECK((r.data != nullptr) == data, "data where there is none, or none");
        if (data) FT_CHECK(r.data->bytes() == r.bytes, "data of another length");
        applied++;
      };
      list.push_back(target);
    }
    return list;
  }
  static void check(const DiskRecord& r, bool read_only) {
    FT_CHECK(!read_only, "a record for a read-only disk");
    FT_CHECK(r.offset <= kDiskBytes && r.bytes <= kDiskBytes - r.offset, "beyond the disk");
    FT_CHECK(r.offset % 512 == 0 && r.bytes % 512 == 0, "no whole sectors");
    FT_CHECK(r.kind == IoKind::kFlush || r.bytes > 0, "a record of nothing");
  }
};

Bench& bench() {
  static Bench* shared = new Bench;
  return *shared;
}

void take(const Bytes& body) {
  Bench& b = bench();
  ImageApplier applier(b.image, b.targets());
  b.promised = b.applied = 0;
  if (!applier.verify(body).ok()) {
    FT_CHECK(b.promised == 0, "a refused body promised something");
    return;
  }
  std::vector<uint32_t> mismatches;
  const auto applied = applier.apply(body, &mismatches);
  FT_CHECK(!applied.ok() || b.applied == b.promised, "more or less applied than promised");
}

/// Makes the four lengths of the header add up to the body, as near to what they were as can be.
void put_lengths_right(Bytes& body) {
  uint32_t lengths[4];  // pages, state, audit records, disks
  if (body.size() < sizeof(lengths)) return;
  std::memcpy(lengths, body.data(), sizeof(lengths));
  auto left = static_cast<uint32_t>(body.size() - sizeof(lengths));
  lengths[2] = std::min(lengths[2] % 8, left / 8);
  left -= 8 * lengths[2];
  lengths[0] %= left + 1;
  left -= lengths[0];
  lengths[1] %= left + 1;
  left -= lengths[1];
  lengths[3] = left;
  std::memcpy(body.data(), lengths, sizeof(lengths));
}

Bytes written_body() {
  static const Bytes kWritten = [] {
    Bench& b = bench();
    b.encoder->begin();
    EpochSlot* slot = b.slots->take();
    slot->gfns = {3, 9};
    for (size_t i = 0; i < 2 * 4096; i += 11) slot->pages.data()[i] = static_cast<uint8_t>(i);
    slot->disks.resize(2);
    for (const IoKind kind : {IoKind::kWrite, IoKind::kZero, IoKind::kFlush}) {
      DiskRecord record;
      record.kind = kind;
      if (kind != IoKind::kFlush) record.offset = record.bytes = 1024;
      if (kind == IoKind::kWrite) {
        record.data = std::make_shared<IoBuffer>(record.bytes);
        std::memset(record.data->data(), 0x31, record.bytes);
      }
      slot->disks[0].push_back(record);
    }
    slot->state_writer.begin();
    *slot->state_writer.add_struct<uint64_t>(StateKind::kRegs, 0) = 1;
    slot->state = slot->state_writer.finish();
    slot->audit.push_back({3, 7});
    Bytes out(EpochEncoder::kChunkRoomMin);
    out.resize(b.encoder->encode_slot(*slot, out).bytes);
    return out;
  }();
  return kWritten;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  fuzz::Input input(data, bytes);
  if ((input.number<uint8_t>() & 1) == 0) {
    const auto rest = input.rest();
    Bytes body(rest.begin(), rest.end());
    put_lengths_right(body);
    take(body);
    return 0;
  }
  Bytes damaged = written_body();
  while (!input.empty()) {
    const size_t at = input.number<uint16_t>() % (damaged.size() + 16);
    const auto mask = input.number<uint8_t>();
    if (at < damaged.size()) {
      damaged[at] ^= mask;
    } else if (damaged.size() > mask) {
      damaged.resize(damaged.size() - mask);
    }
  }
  take(damaged);
  return 0;
}

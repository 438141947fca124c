// The disk records of a body: written, checked, promised and applied.
#include "machine/disk_records.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace ft {
namespace {

struct Header {
  uint8_t disk;
  uint8_t kind;
  uint16_t zero;
  uint32_t bytes;
  uint64_t offset;
};
static_assert(sizeof(Header) == kDiskRecordHeaderBytes);

constexpr uint64_t kZeroBytesMax =
    std::numeric_limits<uint32_t>::max() / kSectorBytes * kSectorBytes;

Error record_error(std::string what) {
  return Error{"FT_ERR_BODY", 0, "a disk record " + std::move(what)};
}

/// One record of a run that came from outside: its header and its data.
struct Parsed {
  Header header;
  std::span<const uint8_t> data;
  size_t bytes;  // header and data
};

// Takes the record at the front of `run` if it is sound.
Result<Parsed> parse(std::span<const uint8_t> run, std::span<const DiskTarget> targets) {
  Parsed p{};
  if (run.size() < sizeof(Header)) return record_error("has no whole header");
  std::memcpy(&p.header, run.data(), sizeof(Header));
  const Header& h = p.header;
  if (h.zero != 0) return record_error("has reserved bytes that are not zero");
  if (h.disk >= targets.size()) {
    return record_error("names disk " + std::to_string(h.disk) + " of " +
                        std::to_string(targets.size()));
  }
  const DiskTarget& target = targets[h.disk];
  if (target.read_only) return record_error("names a read-only disk");
  p.bytes = sizeof(Header);
  const auto kind = static_cast<IoKind>(h.kind);
  if (kind == IoKind::kFlush) {
    if (h.bytes != 0 || h.offset != 0) return record_error("is a flush of some bytes only");
    return p;
  }
  if (kind != IoKind::kWrite && kind != IoKind::kZero) {
    return record_error("has the unknown kind " + std::to_string(h.kind));
  }
  if (h.bytes == 0) return record_error("has no bytes");
  if (h.bytes % kSectorBytes != 0 || h.offset % kSectorBytes != 0) {
    return record_error("does not begin and end with a sector");
  }
  if (h.offset > target.bytes || h.bytes > target.bytes - h.offset) {
    return record_error("of " + std::to_string(h.bytes) + " bytes at " + std::to_string(h.offset) +
                        " lies beyond a disk of " + std::to_string(target.bytes));
  }
  if (kind == IoKind::kZero) return p;
  if (h.bytes > run.size() - sizeof(Header)) return record_error("is cut short");
  p.data = run.subspan(sizeof(Header), h.bytes);
  p.bytes += h.bytes;
  return p;
}

DiskRecord record_of(const Header& header) {
  DiskRecord record;
  record.kind = static_cast<IoKind>(header.kind);
  record.offset = header.offset;
  record.bytes = header.bytes;
  return record;
}

template <typename Each>
void for_each(std::span<const uint8_t> run, std::span<const DiskTarget> targets, Each each) {
  while (!run.empty()) {
    const auto parsed = parse(run, targets);
    FT_CHECK(parsed.ok(), "disk records are used that were not verified");
    each(targets[parsed.value().header.disk], parsed.value());
    run = run.subspan(parsed.value().bytes);
  }
}

}  // namespace

size_t DiskRecordWriter::write(const DiskLogs& logs, std::span<uint8_t> out) {
  size_t used = 0;
  while (!done(logs)) {
    if (record_ == logs[disk_].size()) {
      disk_++;
      record_ = 0;
      continue;
    }
    const DiskRecord& record = logs[disk_][record_];
    const bool write = record.kind == IoKind::kWrite;
    const size_t room = out.size() - used;
    if (room < sizeof(Header) + (write ? kSectorBytes : 0)) break;
    uint64_t bytes = std::min(record.bytes - at_, kZeroBytesMax);
    if (write) {
      const uint64_t sectors = (room - sizeof(Header)) / kSectorBytes;
      bytes = std::min(bytes, sectors * kSectorBytes);
    }
    const Header header{static_cast<uint8_t>(disk_), static_cast<uint8_t>(record.kind), 0,
                        static_cast<uint32_t>(bytes), record.offset + at_};
    std::memcpy(out.data() + used, &header, sizeof(header));
    used += sizeof(header);
    if (write) {
      std::memcpy(out.data() + used, record.data->data() + at_, bytes);
      used += bytes;
    }
    at_ += bytes;
    if (at_ == record.bytes) {
      record_++;
      at_ = 0;
    }
  }
  return used;
}

Status verify_disk_records(std::span<const uint8_t> run, std::span<const DiskTarget> targets) {
  while (!run.empty()) {
    const auto parsed = parse(run, targets);
    if (!parsed.ok()) return parsed.error();
    run = run.subspan(parsed.value().bytes);
  }
  return Ok{};
}

void promise_disk_records(std::span<const uint8_t> run, std::span<const DiskTarget> targets) {
  for_each(run, targets, [](const DiskTarget& target, const Parsed& parsed) {
    target.promise(record_of(parsed.header));
  });
}

void apply_disk_records(std::span<const uint8_t> run, std::span<const DiskTarget> targets) {
  for_each(run, targets, [](const DiskTarget& target, const Parsed& parsed) {
    DiskRecord record = record_of(parsed.header);
    if (record.kind == IoKind::kWrite) {
      record.data = std::make_shared<IoBuffer>(parsed.data.size());
      std::memcpy(record.data->data(), parsed.data.data(), parsed.data.size());
    }
    target.apply(std::move(record));
  });
}

}  // namespace ft

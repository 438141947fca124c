#include "machine/epoch_codec.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>

#include "core/crc32c.h"
#include "delta/page_delta.h"

namespace ft {
namespace {

struct BodyHeader {
  uint32_t page_bytes;
  uint32_t state_bytes;
  uint32_t audit_count;
  uint32_t disk_bytes;
};
static_assert(sizeof(BodyHeader) == kBodyHeaderBytes);
static_assert(sizeof(AuditRecord) == 8);

/// Fewer pages than these are not worth a call of their own; more do not fit into one.
constexpr uint32_t kRunPagesMin = 4;
constexpr uint32_t kRunPagesMax = 256;

Error body_error(std::string message) {
  return Error{"FT_ERR_BODY", 0, std::move(message)};
}

// A body cut into its four parts; lengths come from outside and are checked against each other.
struct BodyParts {
  std::span<const uint8_t> pages;
  std::span<const uint8_t> disks;
  std::span<const uint8_t> state;
  std::span<const uint8_t> audit;
};

Result<BodyParts> split(std::span<const uint8_t> body) {
  BodyHeader header;
  if (body.size() < sizeof(header)) {
    return body_error("a body of " + std::to_string(body.size()) +
                      " bytes has no room for its header");
  }
  std::memcpy(&header, body.data(), sizeof(header));
  if (header.audit_count > kAuditCountMax) {
    return body_error("a body claims " + std::to_string(header.audit_count) + " audit records");
  }
  const uint64_t audit_bytes = uint64_t{header.audit_count} * sizeof(AuditRecord);
  const uint64_t total = sizeof(header) + uint64_t{header.page_bytes} +
                         uint64_t{header.disk_bytes} + uint64_t{header.state_bytes} + audit_bytes;
  if (total != body.size()) {
    return body_error("the parts of a body take " + std::to_string(total) +
                      " bytes, the body has " + std::to_string(body.size()));
  }
  BodyParts parts;
  size_t at = sizeof(header);
  parts.pages = body.subspan(at, header.page_bytes);
  at += header.page_bytes;
  parts.disks = body.subspan(at, header.disk_bytes);
  at += header.disk_bytes;
  parts.state = body.subspan(at, header.state_bytes);
  at += header.state_bytes;
  parts.audit = body.subspan(at, audit_bytes);
  return parts;
}

AuditRecord audit_record(std::span<const uint8_t> audit, size_t index) {
  AuditRecord record;
  std::memcpy(&record, audit.data() + index * sizeof(record), sizeof(record));
  return record;
}

}  // namespace

bool DataWalker::next(const GuestMemory& memory, uint64_t* gfn) {
  if (cursor_ >= extent_end_) {
    const off_t data = ::lseek(memory.fd(), static_cast<off_t>(cursor_), SEEK_DATA);
    if (data < 0) {
      cursor_ = memory.size();
      return false;
    }
    const off_t hole = ::lseek(memory.fd(), data, SEEK_HOLE);
    cursor_ = static_cast<uint64_t>(data);
    extent_end_ = hole < 0 ? memory.size() : static_cast<uint64_t>(hole);
  }
  *gfn = cursor_ / kPageBytes;
  cursor_ += kPageBytes;
  return true;
}

EpochEncoder::EpochEncoder(const GuestMemory& memory)
    : memory_(memory),
      force_raw_(memory.page_count()),
      shadowed_(memory.page_count()),
      sent_(memory.page_count()),
      unacked_(memory.page_count()),
      scan_pages_(memory.page_count()) {}

Result<std::unique_ptr<EpochEncoder>> EpochEncoder::create(const GuestMemory& memory) {
  auto shadow = MappedRegion::anonymous(memory.size(), "the shadow of guest memory");
  if (!shadow.ok()) return shadow.error();
  std::unique_ptr<EpochEncoder> encoder(new EpochEncoder(memory));
  encoder->shadow_ = shadow.take();
  return encoder;
}

void EpochEncoder::begin() {
  end();
  rewind();
  scan_all_ = true;
}

void EpochEncoder::begin_catch_up(const PageBits& pages) {
  rewind();
  state_shadow_.reset();
  force_raw_.clear_all();
  any_forced_ = false;
  unacked_.begin();
  pages.for_each([&](uint64_t gfn) {
    // A shadow that was never written is zero, and stays without memory.
    if (shadowed_.has(gfn)) std::memset(shadow_page(gfn), 0, kPageBytes);
    shadowed_.clear(gfn);
    sent_.clear(gfn);
  });
  scan_pages_ = pages;
  scan_all_ = false;
}

void EpochEncoder::rewind() {
  slot_cursor_ = 0;
  disk_cursor_.rewind();
  overrun_.rewind();
  scan_.rewind();
}

void EpochEncoder::end() {
  shadow_.discard();
  state_shadow_.reset();
  force_raw_.clear_all();
  shadowed_.clear_all();
  sent_.clear_all();
  unacked_.begin();
  any_forced_ = false;
}

bool EpochEncoder::take_forced(uint32_t gfn) {
  if (!any_forced_ || !force_raw_.has(gfn)) return false;
  force_raw_.clear(gfn);
  pages_healed_++;
  return true;
}

// A page of an epoch: it is likely to come again, so the shadow has it from now on.
size_t EpochEncoder::encode_one(uint32_t gfn, const uint8_t* page, uint8_t* out) {
  const bool forced = take_forced(gfn);
  uint8_t* shadow = shadow_page(gfn);
  bool unknown = false;
  if (!shadowed_.has(gfn)) {
    unknown = sent_.has(gfn);
    shadowed_.set(gfn);
    // Written before it is read: the system finds room at once, instead of mapping its page of
    // zeros first and taking it back (with a word to every CPU) at the write.
    *static_cast<volatile uint8_t*>(shadow) = 0;
  }
  return encode_page(gfn, page, shadow, out, forced || unknown).bytes;
}

// A page as it lies in guest memory, which the guest may be writing. Record and shadow are made
// from the same reading; if that reading was torn, the write that tore it is in the dirty ring, and
// the page follows with that epoch.
size_t EpochEncoder::encode_live(uint32_t gfn, uint8_t* out) {
  const uint8_t* page = memory_.host_base() + uint64_t{gfn} * kPageBytes;
  if (shadowed_.has(gfn)) return encode_one(gfn, page, out);
  const bool peer_zero = !take_forced(gfn) && !sent_.has(gfn);
  const size_t bytes = encode_fresh_page(gfn, page, peer_zero, out).bytes;
  if (bytes > 0) sent_.set(gfn);
  return bytes;
}

// Adds page records to `body` as long as they fit. True when no page is left.
bool EpochEncoder::encode_pages(const EpochSlot& slot, std::span<uint8_t> out, EncodedBody* body) {
  const auto fits = [&] { return body->bytes + kRecordBytesMax <= out.size(); };
  if (slot.facts.overrun) {
    uint64_t gfn = 0;
    bool room = true;
    while ((room = fits()) && overrun_.next(memory_, &gfn)) {
      unacked_.add(gfn);
      body->bytes += encode_live(static_cast<uint32_t>(gfn), out.data() + body->bytes);
      body->raw_bytes += kPageBytes;
    }
    return room;
  }
  for (; slot_cursor_ < slot.gfns.size() && fits(); slot_cursor_++) {
    const uint8_t* page = slot.pages.data() + slot_cursor_ * kPageBytes;
    unacked_.add(slot.gfns[slot_cursor_]);
    body->bytes += encode_one(slot.gfns[slot_cursor_], page, out.data() + body->bytes);
    body->raw_bytes += kPageBytes;
  }
  return slot_cursor_ == slot.gfns.size();
}

EncodedBody EpochEncoder::encode_slot(const EpochSlot& slot, std::span<uint8_t> out) {
  FT_CHECK(out.size() >= kChunkRoomMin, "the chunk buffer is too small for any epoch");
  EncodedBody body;
  body.bytes = kBodyHeaderBytes;
  BodyHeader header{};
  unacked_.in_epoch(slot.facts.epoch);
  bool done = encode_pages(slot, out, &body);
  header.page_bytes = static_cast<uint32_t>(body.bytes - kBodyHeaderBytes);
  if (done) {
    const size_t disk_bytes = disk_cursor_.write(slot.disks, out.subspan(body.bytes));
    header.disk_bytes = static_cast<uint32_t>(disk_bytes);
    body.bytes += disk_bytes;
    done = disk_cursor_.done(slot.disks);
  }
  const size_t audit_bytes = slot.audit.size() * sizeof(AuditRecord);
  const size_t room = out.size() - body.bytes;
  if (done && state_delta_bytes_max(slot.state.size()) + audit_bytes <= room) {
    const size_t state_bytes =
        encode_state(slot.state, state_shadow_, out.data() + body.bytes, room - audit_bytes);
    header.state_bytes = static_cast<uint32_t>(state_bytes);
    body.bytes += state_bytes;
    header.audit_count = static_cast<uint32_t>(slot.audit.size());
    if (audit_bytes > 0) std::memcpy(out.data() + body.bytes, slot.audit.data(), audit_bytes);
    body.bytes += audit_bytes;
    body.last = true;
    slot_cursor_ = 0;
    disk_cursor_.rewind();
    overrun_.rewind();
  }
  std::memcpy(out.data(), &header, sizeof(header));
  return body;
}

EncodedBody EpochEncoder::scan(std::span<uint8_t> out) {
  FT_CHECK(out.size() >= kChunkRoomMin, "the chunk buffer is too small for the scan");
  EncodedBody body;
  size_t at = kBodyHeaderBytes;
  uint64_t gfn = 0;
  bool room = true;
  while ((room = at + kRecordBytesMax <= out.size()) && next_of_scan(&gfn)) {
    at += encode_live(static_cast<uint32_t>(gfn), out.data() + at);
    body.raw_bytes += kPageBytes;
  }
  body.last = room;
  const BodyHeader header{static_cast<uint32_t>(at - kBodyHeaderBytes), 0, 0, 0};
  std::memcpy(out.data(), &header, sizeof(header));
  body.bytes = at;
  return body;
}

bool EpochEncoder::next_of_scan(uint64_t* gfn) {
  while (scan_.next(memory_, gfn)) {
    if (scan_all_ || scan_pages_.has(*gfn)) return true;
  }
  return false;
}

double EpochEncoder::scan_progress() const {
  return static_cast<double>(scan_.cursor_gfn()) / static_cast<double>(memory_.page_count());
}

void EpochEncoder::force_raw(uint32_t gfn) {
  if (gfn >= memory_.page_count()) return;
  force_raw_.set(gfn);
  any_forced_ = true;
}

Status ImageApplier::begin(bool keep_memory) {
  state_.clear();
  verified_state_bytes_ = 0;
  if (keep_memory) return Ok{};
  present_.clear_all();
  return memory_.clear();
}

// A page that was never written is a hole and zero. Few others are cleared by hand, which costs
// less than having the system take their memory back; all of memory is given back at once.
Status ImageApplier::clear_pages(std::span<const uint8_t> map) {
  PageBits pages(memory_.page_count());
  if (!pages.read(map)) {
    return Error{"FT_ERR_PAGE_MAP", 0,
                 "a map of " + std::to_string(map.size()) + " bytes does not fit a memory of " +
                     std::to_string(memory_.page_count()) + " pages"};
  }
  if (pages.count() == memory_.page_count()) return begin();
  pages.for_each([&](uint64_t gfn) {
    if (present_.has(gfn)) std::memset(memory_.host_base() + gfn * kPageBytes, 0, kPageBytes);
  });
  return Ok{};
}

Status ImageApplier::verify(std::span<const uint8_t> body) {
  const auto parts = split(body);
  if (!parts.ok()) return parts.error();
  const auto facts = verify_records(parts.value().pages, memory_.page_count());
  if (!facts.ok()) return facts.error();
  const auto audit = parts.value().audit;
  for (size_t i = 0; i < audit.size() / sizeof(AuditRecord); i++) {
    if (audit_record(audit, i).gfn >= memory_.page_count()) {
      return body_error("an audit record names a page beyond guest memory");
    }
  }
  FT_TRY(verify_disk_records(parts.value().disks, disks_));
  if (!parts.value().state.empty()) {
    const auto state = verify_state_delta(parts.value().state, verified_state_bytes_);
    if (!state.ok()) return state.error();
    verified_state_bytes_ = state.value().new_bytes;
  }
  promise_disk_records(parts.value().disks, disks_);
  return Ok{};
}

Result<uint32_t> ImageApplier::apply(std::span<const uint8_t> body,
                                     std::vector<uint32_t>* mismatches) {
  const auto parts = split(body);
  if (!parts.ok()) return parts.error();
  const auto [pages, disks, state, audit] = parts.value();
  if (!state.empty()) FT_TRY(apply_state_delta(state, state_));
  apply_disk_records(disks, disks_);
  const uint32_t records = apply_pages(pages);
  for (size_t i = 0; i < audit.size() / sizeof(AuditRecord); i++) {
    const AuditRecord record = audit_record(audit, i);
    const uint8_t* page = memory_.host_base() + uint64_t{record.gfn} * kPageBytes;
    if (crc32c({page, kPageBytes}) != record.crc) mismatches->push_back(record.gfn);
  }
  return records;
}

// Pages that come in a row and were never here before go into the memory file by one call, which
// costs half of what touching them one by one does: nothing is cleared first, and nothing mapped.
uint32_t ImageApplier::apply_pages(std::span<const uint8_t> records) {
  const std::span<uint8_t> image{memory_.host_base(), memory_.size()};
  uint32_t count = 0;
  for (size_t at = 0; at < records.size();) {
    const auto rest = records.subspan(at);
    const RawRun run = leading_raw_run(rest, kRunPagesMax);
    if (run.pages >= kRunPagesMin && fresh(run)) {
      write_run(run, rest);
      at += run.pages * kRecordBytesMax;
      count += run.pages;
      continue;
    }
    at += apply_record(rest, image);
    present_.set(record_gfn(rest));
    count++;
  }
  return count;
}

bool ImageApplier::fresh(const RawRun& run) const {
  for (uint32_t i = 0; i < run.pages; i++) {
    if (present_.has(run.gfn + i)) return false;
  }
  return true;
}

void ImageApplier::write_run(const RawRun& run, std::span<const uint8_t> records) {
  FT_CHECK(uint64_t{run.gfn} + run.pages <= memory_.page_count(), "pages beyond guest memory");
  iovec pieces[kRunPagesMax];
  for (uint32_t i = 0; i < run.pages; i++) {
    // pwritev() only reads what it is given.
    auto* page = const_cast<uint8_t*>(records.data()) + i * kRecordBytesMax + kRecordHeaderBytes;
    pieces[i] = {page, kPageBytes};
    present_.set(run.gfn + i);
  }
  const auto offset = static_cast<off_t>(uint64_t{run.gfn} * kPageBytes);
  const ssize_t written = ::pwritev(memory_.fd(), pieces, static_cast<int>(run.pages), offset);
  // What the system would not take in a call is written as any other page is.
  const size_t whole = written > 0 ? static_cast<size_t>(written) / kPageBytes : 0;
  for (size_t i = whole; i < run.pages; i++) {
    std::memcpy(memory_.host_base() + (run.gfn + i) * kPageBytes, pieces[i].iov_base, kPageBytes);
  }
}

}  // namespace ft

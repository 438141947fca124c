// virtio block device: requests from the guest's ring, piece by piece, to the disk behind it.
#include "machine/virtio_blk.h"

#include <algorithm>
#include <bitset>
#include <cstring>

namespace ft {

namespace {

// In front of every request.
struct BlkHeader {
  uint32_t type;
  uint32_t reserved;
  uint64_t sector;
};
static_assert(sizeof(BlkHeader) == kBlkHeaderBytes);

struct DiscardSegment {
  uint64_t sector;
  uint32_t sectors;
  uint32_t flags;
};
static_assert(sizeof(DiscardSegment) == 16);

// Configuration space up to the last field of an offered feature.
struct BlkConfig {
  uint64_t capacity = 0;  // sectors
  uint32_t size_max = 0;
  uint32_t seg_max = kBlkSegmentsMax;
  uint8_t geometry[4] = {};
  uint32_t blk_size = kSectorBytes;
  uint8_t topology[8] = {};
  uint8_t writeback = 0;
  uint8_t unused = 0;
  uint16_t num_queues = 0;
  uint32_t max_discard_sectors = kBlkDiscardSectorsMax;
  uint32_t max_discard_seg = kBlkDiscardSegmentsMax;
  uint32_t discard_sector_alignment = 4096 / kSectorBytes;
};
static_assert(sizeof(BlkConfig) == 48);

// Subtraction, since a driver's sector times 512 may be beyond 64 bits.
bool inside(uint64_t sector, uint64_t count, uint64_t sectors) {
  return sector <= sectors && count <= sectors - sector;
}

IoOp make_op(IoKind kind, uint64_t offset = 0, uint64_t bytes = 0) {
  IoOp op;
  op.kind = kind;
  op.offset = offset;
  op.bytes = bytes;
  return op;
}

}  // namespace

VirtioBlk::VirtioBlk(const Options& options, Submit submit, std::function<void()> wake)
    : options_(options),
      submit_(std::move(submit)),
      wake_(std::move(wake)),
      requests_(kQueueSizeMax) {
  FT_CHECK(options.bytes % kSectorBytes == 0 && options.id.size() <= kBlkIdBytes,
           "a disk is no whole number of sectors, or its name is too long");
  order_.reserve(kQueueSizeMax);
  for (size_t i = kOpsMax; i > 0; i--) free_ops_.push_back(static_cast<uint8_t>(i - 1));
}

uint64_t VirtioBlk::features() const {
  const uint64_t always = kBlkFSegMax | kBlkFBlockSize | kBlkFFlush;
  return always | (options_.read_only ? kBlkFReadOnly : kBlkFDiscard);
}

void VirtioBlk::read_config(uint64_t offset, std::span<uint8_t> out) const {
  BlkConfig config;
  config.capacity = sectors();
  uint8_t bytes[sizeof(config)];
  std::memcpy(bytes, &config, sizeof(config));
  for (size_t i = 0; i < out.size(); i++) {
    const uint64_t at = offset + i;
    out[i] = at < sizeof(bytes) ? bytes[at] : 0;
  }
}

void VirtioBlk::activate(uint64_t features) {
  active_ = true;
  flush_agreed_ = (features & kBlkFFlush) != 0;
}

void VirtioBlk::reset() {
  active_ = false;
  signal_due_ = false;
  starting_ = kNone;
  for (Op& op : ops_) op.dropped = op.used;
  for (Request& request : requests_) {
    if (request.taken) facts_.dropped++;
    request.taken = false;
  }
  // A state that was put back is followed by one reset of what was there before it.
  if (!restoring_) {
    order_.clear();
    to_redo_ = 0;
  }
  restoring_ = false;
}

bool VirtioBlk::serve(uint32_t bytes) {
  uint32_t cost = 0;
  while (active_ && cost < bytes) {
    if (free_ops_.empty()) return false;  // a completion comes first, and brings us back
    if (starting_ == kNone && !take_next(&cost)) return false;
    if (starting_ == kNone) continue;
    const auto head = static_cast<uint16_t>(starting_);
    if (start_piece(requests_[head], head, &cost)) starting_ = kNone;
  }
  return active_;
}

// Takes the next request: those of the restored state first. False when there is none.
bool VirtioBlk::take_next(uint32_t* cost) {
  if (to_redo_ > 0) {
    const uint16_t head = order_[order_.size() - to_redo_];
    if (!queue().walk_again(head, &chain_)) {
      transport_->needs_reset();
      return false;
    }
    to_redo_--;
    facts_.redone++;
  } else {
    const VirtQueue::Pop popped = queue().pop(&chain_);
    if (popped == VirtQueue::Pop::kEmpty) return false;
    if (popped == VirtQueue::Pop::kChain && requests_[chain_.head].taken) {
      queue().break_queue("a request is offered that is still under way");
    }
    if (queue().broken()) {
      transport_->needs_reset();
      return false;
    }
    order_.push_back(chain_.head);
  }
  *cost += kRequestCost;
  return parse(chain_);
}

// Understands a request just taken: begins it, answers it at once, or breaks the queue (false).
bool VirtioBlk::parse(const DescriptorChain& chain) {
  BlkHeader header;
  if (chain.readable_bytes < sizeof(header)) return break_queue("request has no whole header");
  if (chain.writable_bytes == 0) return break_queue("request has no status byte");
  queue().copy_out(chain, 0, {reinterpret_cast<uint8_t*>(&header), sizeof(header)});

  Request& request = requests_[chain.head];
  request.taken = true;
  request.failed = request.flushing = false;
  request.data_bytes = request.started = 0;
  request.under_way = 0;
  request.writable_bytes = chain.writable_bytes;
  request.readable.assign(chain.readable().begin(), chain.readable().end());
  request.writable.assign(chain.writable().begin(), chain.writable().end());
  request.ranges.clear();

  uint8_t status = kBlkStatusOk;
  switch (header.type) {
    case kBlkTypeIn:
      if (chain.readable_bytes != sizeof(header)) return break_queue("a read's buffer is readable");
      request.kind = IoKind::kRead;
      request.data_bytes = chain.writable_bytes - 1;
      status = begin_transfer(request, header.sector);
      break;
    case kBlkTypeOut:
      if (chain.writable_bytes != 1) return break_queue("a write's buffer is writable");
      request.kind = IoKind::kWrite;
      request.data_bytes = chain.readable_bytes - sizeof(header);
      status = begin_transfer(request, header.sector);
      break;
    case kBlkTypeDiscard:
      if (chain.writable_bytes != 1) return break_queue("a discard's ranges are writable");
      request.kind = IoKind::kZero;
      status = begin_discard(request, chain);
      break;
    case kBlkTypeFlush:
      request.kind = IoKind::kFlush;
      break;
    case kBlkTypeGetId:
      answer_id(chain);
      return true;
    default:
      status = kBlkStatusUnsupported;
  }
  if (status != kBlkStatusOk) {
    finish(chain.head, status, 0);
  } else {
    starting_ = chain.head;
  }
  return true;
}

uint8_t VirtioBlk::begin_transfer(Request& request, uint64_t sector) const {
  const uint64_t bytes = request.data_bytes;
  if (request.kind == IoKind::kWrite && options_.read_only) return kBlkStatusIoError;
  if (bytes == 0 || bytes % kSectorBytes != 0) return kBlkStatusIoError;
  if (!inside(sector, bytes / kSectorBytes, sectors())) return kBlkStatusIoError;
  request.offset = sector * kSectorBytes;
  return kBlkStatusOk;
}

uint8_t VirtioBlk::begin_discard(Request& request, const DescriptorChain& chain) {
  std::array<DiscardSegment, kBlkDiscardSegmentsMax> segments;
  const size_t bytes = chain.readable_bytes - kBlkHeaderBytes;
  if (options_.read_only) return kBlkStatusIoError;
  if (bytes == 0 || bytes % sizeof(DiscardSegment) != 0 || bytes > sizeof(segments)) {
    return kBlkStatusIoError;
  }
  // Copied before it is looked at: the guest can change it meanwhile.
  queue().copy_out(chain, kBlkHeaderBytes, {reinterpret_cast<uint8_t*>(segments.data()), bytes});
  for (size_t i = 0; i < bytes / sizeof(DiscardSegment); i++) {
    const DiscardSegment& s = segments[i];
    if (s.flags != 0) return kBlkStatusUnsupported;
    if (s.sectors == 0 || s.sectors > kBlkDiscardSectorsMax) return kBlkStatusIoError;
    if (!inside(s.sector, s.sectors, sectors())) return kBlkStatusIoError;
    request.ranges.push_back({s.sector * kSectorBytes, uint64_t{s.sectors} * kSectorBytes});
  }
  return kBlkStatusOk;
}

void VirtioBlk::answer_id(const DescriptorChain& chain) {
  std::array<uint8_t, kBlkIdBytes> id = {};
  std::copy(options_.id.begin(), options_.id.end(), id.begin());
  const size_t bytes = std::min<size_t>(id.size(), chain.writable_bytes - 1);
  queue().copy_in(chain, 0, std::span(id).first(bytes));
  finish(chain.head, kBlkStatusOk, static_cast<uint32_t>(bytes));
}

// Gives the disk the next operation of a request. True when that was the last.
bool VirtioBlk::start_piece(Request& request, uint16_t head, uint32_t* cost) {
  if (request.kind == IoKind::kFlush) {
    submit(request, head, make_op(IoKind::kFlush));
    request.started = 1;
    return true;
  }
  if (request.kind == IoKind::kZero) {
    const Range& range = request.ranges[request.started++];
    submit(request, head, make_op(IoKind::kZero, range.offset, range.bytes));
    *cost += kRequestCost;
    return request.started == request.ranges.size();
  }
  const uint64_t bytes = std::min<uint64_t>(kBlkPieceBytes, request.data_bytes - request.started);
  IoOp op = make_op(request.kind, request.offset + request.started, bytes);
  op.data = std::make_shared<IoBuffer>(bytes);
  if (request.kind == IoKind::kWrite) {
    queue().copy_out(request.readable, kBlkHeaderBytes + request.started, op.data->span());
    *cost += static_cast<uint32_t>(bytes);
  } else {
    *cost += kRequestCost;
  }
  const uint64_t skip = request.started;
  request.started += bytes;
  submit(request, head, std::move(op), skip);
  return request.started == request.data_bytes;
}

void VirtioBlk::submit(Request& request, uint16_t head, IoOp op, uint64_t skip) {
  FT_CHECK(!free_ops_.empty(), "a disk operation without a place to note it");
  const uint8_t slot = free_ops_.back();
  free_ops_.pop_back();
  ops_[slot] = Op{.used = true, .dropped = false, .head = head, .skip = skip};
  request.under_way++;
  facts_.submitted++;
  op.id = slot;
  submit_(std::move(op));
}

uint32_t VirtioBlk::complete(const DiskCompletion& done) {
  FT_CHECK(done.cookie < kOpsMax && ops_[done.cookie].used, "a disk operation ended twice");
  const Op op = ops_[done.cookie];
  ops_[done.cookie] = Op{};
  free_ops_.push_back(static_cast<uint8_t>(done.cookie));
  if (op.dropped) return 0;

  Request& request = requests_[op.head];
  uint32_t cost = kRequestCost;
  request.under_way--;
  if (done.error != 0) {
    request.failed = true;
    if (starting_ == op.head) starting_ = kNone;  // the rest of it would be for nothing
  } else if (request.kind == IoKind::kRead) {
    FT_CHECK(done.data != nullptr, "a read ended without its bytes");
    queue().copy_in(request.writable, op.skip, done.data->span());
    cost += static_cast<uint32_t>(done.data->bytes());
  }
  settle(request, op.head);
  return cost;
}

// Returns a request of which nothing is under way and nothing is left to start.
void VirtioBlk::settle(Request& request, uint16_t head) {
  if (request.under_way > 0 || starting_ == head) return;
  const bool writes = request.kind == IoKind::kWrite || request.kind == IoKind::kZero;
  if (writes && !request.failed && !request.flushing && !flush_agreed_) {
    // A driver that knows no flush takes a completed write for a durable one.
    request.flushing = true;
    submit(request, head, make_op(IoKind::kFlush));
    return;
  }
  if (request.failed) return finish(head, kBlkStatusIoError, 0);
  const bool read = request.kind == IoKind::kRead;
  finish(head, kBlkStatusOk, read ? static_cast<uint32_t>(request.data_bytes) : 0);
}

// Returns a request to the driver: its status, and how much is written from its beginning on
// without a gap.
void VirtioBlk::finish(uint16_t head, uint8_t status, uint32_t data_written) {
  Request& request = requests_[head];
  const uint32_t status_at = request.writable_bytes - 1;
  queue().copy_in(request.writable, status_at, {&status, 1});
  queue().push_used(head, data_written == status_at ? data_written + 1 : data_written);
  request.taken = false;
  order_.erase(std::find(order_.begin(), order_.end(), head));
  signal_due_ = true;
  facts_.requests++;
  if (status != kBlkStatusOk) facts_.errors++;
}

void VirtioBlk::signal() {
  if (!signal_due_) return;
  signal_due_ = false;
  transport_->signal_used(queue());
}

bool VirtioBlk::break_queue(const char* why) {
  queue().break_queue(why);
  transport_->needs_reset();
  return false;
}

void VirtioBlk::capture(StateWriter& writer, uint16_t index) const {
  VirtioBlkState state;
  state.count = static_cast<uint32_t>(order_.size());
  state.sectors = sectors();
  std::copy(order_.begin(), order_.end(), state.heads);
  std::memcpy(writer.add(StateKind::kVirtioBlk, index, sizeof(state)), &state, sizeof(state));
}

const char* VirtioBlk::check(const VirtioBlkState& state) const {
  if (state.version != VirtioBlkState{}.version) return "unknown version";
  if (state.sectors != sectors()) return "its disk has another size";
  if (state.count > kQueueSizeMax) return "it has more requests than a queue can hold";
  std::bitset<kQueueSizeMax> seen;
  for (uint32_t i = 0; i < kQueueSizeMax; i++) {
    const uint16_t head = state.heads[i];
    if (i >= state.count) {
      if (head != 0) return "there is something behind its requests";
      continue;
    }
    if (head >= kQueueSizeMax) return "a request is beyond the descriptor table";
    if (seen[head]) return "a request is there twice";
    seen[head] = true;
  }
  return nullptr;
}

Status VirtioBlk::restore(const StateReader& reader, uint16_t index) {
  const auto bytes = reader.find(StateKind::kVirtioBlk, index);
  const auto bad = [&](const char* why) {
    return Error{"FT_ERR_STATE_FORMAT", 0,
                 "the disk state of device " + std::to_string(index) + " is bad: " + why};
  };
  VirtioBlkState state;
  if (bytes.size() != sizeof(state)) return bad("it is missing or has another length");
  std::memcpy(&state, bytes.data(), sizeof(state));
  if (const char* why = check(state)) return bad(why);
  restoring_ = false;
  reset();
  order_.assign(state.heads, state.heads + state.count);
  to_redo_ = state.count;
  restoring_ = true;
  return Ok{};
}

}  // namespace ft

// Encode and decode: for any sequence of pages and state blobs a replica follows exactly, and the
// scalar and the AVX2 encoder write the same bytes. The input is a program of edits:
//
//   op u8 · position u16 · length u16 · value u8
//     op % 8:  0 set a run   1 XOR a run   2 a run of rising bytes   3 one byte   4 clear all
//              5 XOR every n-th byte   6 force raw at the next cut   7 resize the blob
//   after each edit comes a cut.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "delta/page_delta.h"
#include "delta/state_delta.h"
#include "fuzz_input.h"
#include "tests/guarded_pages.h"

namespace {

using ft::DeltaImpl;
using ft::kPageBytes;
using ft::kRecordBytesMax;
using ft::test::GuardedPages;

struct World {
  GuardedPages page{1};
  GuardedPages scalar_shadow{1};
  GuardedPages vector_shadow{1};
  GuardedPages replica{1};
  GuardedPages out{2};
};

void reset(const World& w) {
  for (const GuardedPages* p : {&w.page, &w.scalar_shadow, &w.vector_shadow, &w.replica}) {
    std::memset(p->data(), 0, kPageBytes);
  }
}

void edit(uint8_t op, uint16_t position, uint16_t length, uint8_t value, std::span<uint8_t> bytes) {
  if (bytes.empty()) return;
  const size_t from = position % bytes.size();
  const size_t count = std::min<size_t>(length, bytes.size() - from);
  for (size_t i = 0; i < count && op <= 2; i++) {
    uint8_t& b = bytes[from + i];
    b = static_cast<uint8_t>(op == 0 ? value : op == 1 ? b ^ value : b + i * 3 + 1);
  }
  if (op == 3) bytes[from] = value;
  if (op == 4) std::memset(bytes.data(), 0, bytes.size());
  for (size_t at = from; op == 5 && at < bytes.size(); at += length % 512 + 1) bytes[at] ^= value;
}

void cut_page(const World& w, bool force_raw) {
  uint8_t scalar_out[kRecordBytesMax];
  ft::set_delta_impl(DeltaImpl::kScalar);
  const auto scalar =
      ft::encode_page(0, w.page.data(), w.scalar_shadow.data(), scalar_out, force_raw);
  ft::set_delta_impl(DeltaImpl::kAvx2);
  uint8_t* out = w.out.data() + w.out.size() - kRecordBytesMax;
  const auto vector = ft::encode_page(0, w.page.data(), w.vector_shadow.data(), out, force_raw);
  FT_CHECK(scalar.kind == vector.kind && scalar.bytes == vector.bytes, "the twins differ in size");
  FT_CHECK(std::memcmp(scalar_out, out, scalar.bytes) == 0, "the twins differ in content");
  FT_CHECK(ft::verify_records({out, vector.bytes}, 1).ok(), "our own record was refused");
  ft::apply_records({out, vector.bytes}, w.replica.span());
  for (const GuardedPages* p : {&w.scalar_shadow, &w.vector_shadow, &w.replica}) {
    FT_CHECK(std::memcmp(p->data(), w.page.data(), kPageBytes) == 0, "a copy does not follow");
  }
}

void cut_state(const std::vector<uint8_t>& blob, ft::StateShadow& shadow,
               std::vector<uint8_t>& replica) {
  std::vector<uint8_t> out(ft::state_delta_bytes_max(blob.size()));
  const size_t bytes = ft::encode_state(blob, shadow, out.data(), out.size());
  FT_CHECK(bytes <= out.size(), "a state delta larger than its bound");
  FT_CHECK(ft::apply_state_delta({out.data(), bytes}, replica).ok(), "our own delta was refused");
  FT_CHECK(replica == blob, "the replica of the state does not follow");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static const World world;
  reset(world);
  ft::fuzz::Input input(data, bytes);
  std::vector<uint8_t> blob(5000);
  std::vector<uint8_t> blob_replica;
  ft::StateShadow shadow;
  for (int edits = 0; edits < 40 && !input.empty(); edits++) {
    const uint8_t op = input.number<uint8_t>() % 8;
    const auto position = input.number<uint16_t>();
    const auto length = input.number<uint16_t>();
    const auto value = input.number<uint8_t>();
    edit(op, position, length, value, world.page.span());
    if (op == 7) blob.resize(position % 12289, value);
    edit(op, position, length, value, blob);
    cut_page(world, op == 6);
    cut_state(blob, shadow, blob_replica);
  }
  return 0;
}

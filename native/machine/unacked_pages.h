// Which pages the epochs carried that the standby may not hold: a superset, kept with two bitmaps,
// so that neither an epoch nor an ack costs more than a bit a page.
//
//   epochs   ── since ──────────── turned ──────────────── newest
//                 └──── older ───────┘└────── newer ─────────┘
//
//   `turned` acked, and enough epochs behind it: older ◀ newer, newer ◀ empty, since ◀ turned
//
// A page of an epoch that is already acked does no harm: it is sent once more.
// Thread: the event loop.
#pragma once

#include <cstdint>

#include "machine/page_bits.h"

namespace ft {

class UnackedPages {
 public:
  explicit UnackedPages(uint64_t pages) : newer_(pages), older_(pages) {}

  /// A new stream of epochs begins; the first one says its number itself.
  void begin() {
    newer_.clear_all();
    older_.clear_all();
    since_ = turned_ = newest_ = 0;
    any_ = false;
  }
  /// Pages that are added from now on are those of `epoch`. Before the first of them.
  void in_epoch(uint64_t epoch) {
    if (!any_) since_ = turned_ = epoch - 1;
    any_ = true;
    newest_ = epoch;
  }
  void add(uint64_t gfn) { newer_.set(gfn); }
  void acked(uint64_t epoch) {
    if (!any_ || epoch < turned_ || newest_ - turned_ < kTurnEpochs) return;
    // An epoch that is half encoded has its first pages in what is older from here on, and its
    // others in what is newer: together they are kept until that epoch is acked.
    older_.swap(newer_);
    newer_.clear_all();
    since_ = turned_;
    turned_ = newest_;
  }
  /// Every page of every epoch after this one is in what collect() gives.
  uint64_t since() const { return since_; }
  void collect(PageBits& into) const {
    into.add_all(newer_);
    into.add_all(older_);
  }

  /// Clearing a bitmap takes some µs; so it is done once in so many epochs.
  static constexpr uint64_t kTurnEpochs = 32;

 private:
  PageBits newer_;
  PageBits older_;
  uint64_t since_ = 0;
  uint64_t turned_ = 0;
  uint64_t newest_ = 0;
  bool any_ = false;
};

}  // namespace ft

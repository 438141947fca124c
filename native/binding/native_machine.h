// The machine as a JavaScript class. Calls cross a constant number of times per epoch, never per
// page; facts come back through one Float64Array that is shared for the object's whole life, so
// that the hot path makes no JavaScript objects.
//
//   facts after nextCut()                        facts after encodeCut() / scanNext()
//   0 epoch       4 outputFrames   8 resetUs     0 bytes   1 rawBytes   2 last   3 crc
//   1 base        5 pauseUs        9 stateUs
//   2 overrun     6 harvestUs     10 guestEnd (GuestEnd, 0: none)
//   3 dirtyPages  7 copyUs        11 wakeUs
//                                12 kickUs    13 barrierUs
//   14 … 17: of its first piece, as after encodeCut()      18 halted
//
//   facts after apply():  0 records   1 diskBacklogBytes
//
//   facts after readConsole():  0 number of the first byte read
//
//   facts after promote()
//   0 guestClockCutUs   1 guestClockResumedUs
//
// Thread: JavaScript's, except the notify_…() functions: vCPU threads and the disk thread call
// them.
#pragma once

#include <napi.h>

#include <memory>

#include "binding/cut_clock.h"
#include "binding/loop_hooks.h"
#include "machine/machine.h"

namespace ft {

class NativeMachine : public Napi::ObjectWrap<NativeMachine> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit NativeMachine(const Napi::CallbackInfo& info);
  ~NativeMachine() override;

 private:
  static constexpr size_t kFactsLength = 19;
  static constexpr size_t kFirstPiece = 14;

  Napi::Value cpu_features(const Napi::CallbackInfo& info);
  void boot(const Napi::CallbackInfo& info);
  void begin_replication(const Napi::CallbackInfo& info);
  void set_cut_interval(const Napi::CallbackInfo& info);
  void end_replication(const Napi::CallbackInfo& info);
  Napi::Value noted_since(const Napi::CallbackInfo& info);
  Napi::Value catch_up_map(const Napi::CallbackInfo& info);
  void scan_next(const Napi::CallbackInfo& info);
  Napi::Value scan_progress(const Napi::CallbackInfo& info);
  void hold_output(const Napi::CallbackInfo& info);
  Napi::Value next_cut(const Napi::CallbackInfo& info);
  void encode_cut(const Napi::CallbackInfo& info);
  void commit(const Napi::CallbackInfo& info);
  Napi::Value lease_now_us(const Napi::CallbackInfo& info);
  void extend_lease(const Napi::CallbackInfo& info);
  void heal(const Napi::CallbackInfo& info);
  void open_output(const Napi::CallbackInfo& info);
  void fence(const Napi::CallbackInfo& info);
  Napi::Value output_waits(const Napi::CallbackInfo& info);
  void halt_guest(const Napi::CallbackInfo& info);
  void resume_guest(const Napi::CallbackInfo& info);
  Napi::Value begin_sync(const Napi::CallbackInfo& info);
  Napi::Value begin_catch_up(const Napi::CallbackInfo& info);
  void clear_pages(const Napi::CallbackInfo& info);
  Napi::Value verify(const Napi::CallbackInfo& info);
  Napi::Value apply(const Napi::CallbackInfo& info);
  Napi::Value disk_backlog_bytes(const Napi::CallbackInfo& info);
  Napi::Value disks(const Napi::CallbackInfo& info);
  Napi::Value disk_sync_ids(const Napi::CallbackInfo& info);
  Napi::Value disks_synced(const Napi::CallbackInfo& info);
  Napi::Value disk_sync_progress(const Napi::CallbackInfo& info);
  void in_step(const Napi::CallbackInfo& info);
  void promote(const Napi::CallbackInfo& info);
  Napi::Value stats(const Napi::CallbackInfo& info);
  // The console: machine_console.cc.
  void watch_console(const Napi::CallbackInfo& info);
  Napi::Value console_head(const Napi::CallbackInfo& info);
  Napi::Value read_console(const Napi::CallbackInfo& info);
  Napi::Value type_console(const Napi::CallbackInfo& info);
  void make_console_waker(const Napi::Function& on_console);
  void close(const Napi::CallbackInfo& info);

  bool alive(const Napi::CallbackInfo& info);
  void store(const EncodedBody& body, std::span<const uint8_t> out, size_t at = 0);
  void cuts_wait();
  void notify_guest_end(GuestEnd how);
  void notify_stopped(std::string message);
  void notify_disks_synced();
  using FailureOf = std::optional<Error> (DiskSet::*)() const;
  void notify_disk_failed(const char* during, FailureOf failure_of);
  Status shut_down();
  static void at_exit(void* self);

  std::unique_ptr<Machine> machine_;
  std::unique_ptr<CutClock> clock_;
  uint32_t interval_us_ = 0;  // the policy's, of the replication that goes on
  bool syncing_ = false;      // its sync goes on: cuts come no more often than kSyncIntervalUs
  Napi::Reference<Napi::Float64Array> facts_ref_;
  double* facts_ = nullptr;
  std::unique_ptr<LoopWaker> cut_waker_;
  Napi::FunctionReference on_cut_;
  std::unique_ptr<LoopWaker> console_waker_;
  Napi::FunctionReference on_console_;
  Napi::AsyncContext context_;
  Napi::ThreadSafeFunction on_guest_end_;
  Napi::ThreadSafeFunction on_stopped_;
  Napi::ThreadSafeFunction on_disks_synced_;
  Napi::ThreadSafeFunction on_disk_failed_;
  std::vector<uint32_t> mismatches_;
  bool closed_ = false;
};

/// Throws `error` into JavaScript: an Error with `code` and `errno`.
void throw_error(Napi::Env env, const Error& error);

}  // namespace ft

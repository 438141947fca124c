#include "binding/native_machine.h"

#include "binding/machine_disks.h"
#include "binding/machine_options.h"
#include "binding/raw_socket.h"
#include "core/crc32c.h"

namespace ft {
namespace {

// So long after it was asked for, a cut is usually there. Its vCPU then need not wake the event
// loop, which costs the guest as much as half a pause.
constexpr uint64_t kCutNsMax = 120'000;

std::span<uint8_t> bytes_of(const Napi::Value& value) {
  auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

Napi::Object error_object(Napi::Env env, const Error& error) {
  Napi::Object object = Napi::Error::New(env, error.message).Value();
  object.Set("code", Napi::String::New(env, error.code));
  object.Set("errno", Napi::Number::New(env, error.sys_errno));
  return object;
}

}  // namespace

void throw_error(Napi::Env env, const Error& error) {
  Napi::Error(env, error_object(env, error)).ThrowAsJavaScriptException();
}

Napi::Function NativeMachine::define(Napi::Env env) {
  using Self = NativeMachine;
  return DefineClass(env, "NativeMachine",
                     {
                         InstanceMethod("cpuFeatures", &Self::cpu_features),
                         InstanceMethod("boot", &Self::boot),
                         InstanceMethod("beginReplication", &Self::begin_replication),
                         InstanceMethod("setCutInterval", &Self::set_cut_interval),
                         InstanceMethod("endReplication", &Self::end_replication),
                         InstanceMethod("notedSince", &Self::noted_since),
                         InstanceMethod("catchUpMap", &Self::catch_up_map),
                         InstanceMethod("scanNext", &Self::scan_next),
                         InstanceMethod("scanProgress", &Self::scan_progress),
                         InstanceMethod("holdOutput", &Self::hold_output),
                         InstanceMethod("nextCut", &Self::next_cut),
                         InstanceMethod("encodeCut", &Self::encode_cut),
                         InstanceMethod("commit", &Self::commit),
                         InstanceMethod("leaseNowUs", &Self::lease_now_us),
                         InstanceMethod("extendLease", &Self::extend_lease),
                         InstanceMethod("heal", &Self::heal),
                         InstanceMethod("openOutput", &Self::open_output),
                         InstanceMethod("fence", &Self::fence),
                         InstanceMethod("outputWaits", &Self::output_waits),
                         InstanceMethod("haltGuest", &Self::halt_guest),
                         InstanceMethod("resumeGuest", &Self::resume_guest),
                         InstanceMethod("beginSync", &Self::begin_sync),
                         InstanceMethod("beginCatchUp", &Self::begin_catch_up),
                         InstanceMethod("clearPages", &Self::clear_pages),
                         InstanceMethod("verify", &Self::verify),
                         InstanceMethod("apply", &Self::apply),
                         InstanceMethod("diskBacklogBytes", &Self::disk_backlog_bytes),
                         InstanceMethod("disks", &Self::disks),
                         InstanceMethod("diskSyncIds", &Self::disk_sync_ids),
                         InstanceMethod("disksSynced", &Self::disks_synced),
                         InstanceMethod("diskSyncProgress", &Self::disk_sync_progress),
                         InstanceMethod("inStep", &Self::in_step),
                         InstanceMethod("promote", &Self::promote),
                         InstanceMethod("stats", &Self::stats),
                         InstanceMethod("watchConsole", &Self::watch_console),
                         InstanceMethod("consoleHead", &Self::console_head),
                         InstanceMethod("readConsole", &Self::read_console),
                         InstanceMethod("typeConsole", &Self::type_console),
                         InstanceMethod("close", &Self::close),
                     });
}

// Arguments: options (see src/machine/native.ts), facts, onCut(), onGuestEnd(how),
// onStopped(message), onDisksSynced(), onDiskFailed(during, code, message), onConsole().
NativeMachine::NativeMachine(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<NativeMachine>(info), context_(info.Env(), "NativeMachine") {
  const Napi::Env env = info.Env();
  auto facts = info[1].As<Napi::Float64Array>();
  FT_CHECK(facts.ElementLength() >= kFactsLength, "the facts array is too short");
  facts_ref_ = Napi::Reference<Napi::Float64Array>::New(facts, 1);
  facts_ = facts.Data();
  on_cut_ = Napi::Persistent(info[2].As<Napi::Function>());
  cut_waker_ = std::make_unique<LoopWaker>(env, [this] { cuts_wait(); });
  on_guest_end_ =
      Napi::ThreadSafeFunction::New(env, info[3].As<Napi::Function>(), "onGuestEnd", 0, 1);
  on_stopped_ = Napi::ThreadSafeFunction::New(env, info[4].As<Napi::Function>(), "onStopped", 0, 1);
  on_disks_synced_ =
      Napi::ThreadSafeFunction::New(env, info[5].As<Napi::Function>(), "onDisksSynced", 0, 1);
  on_disk_failed_ =
      Napi::ThreadSafeFunction::New(env, info[6].As<Napi::Function>(), "onDiskFailed", 0, 1);
  make_console_waker(info[7].As<Napi::Function>());
  auto made = Machine::create(
      read_machine_options(info[0].As<Napi::Object>()),
      MachineHooks{
          .on_cut = [this] { cut_waker_->notify(); },
          .on_guest_end = [this](GuestEnd how) { notify_guest_end(how); },
          .on_stopped = [this](std::string message) { notify_stopped(std::move(message)); },
          .on_disks_synced = [this] { notify_disks_synced(); },
          .on_disk_failed = [this] { notify_disk_failed("apply", &DiskSet::apply_failure); },
          .on_disk_sync_failed = [this] { notify_disk_failed("sync", &DiskSet::sync_failure); },
          .on_console = [this] { console_waker_->notify(); },
      });
  if (!made.ok()) {
    static_cast<void>(shut_down());
    throw_error(env, made.error());
    return;
  }
  machine_ = made.take();
  uv_loop_t* loop = nullptr;
  FT_CHECK(napi_get_uv_event_loop(env, &loop) == napi_ok, "Node has no event loop");
  clock_ = std::make_unique<CutClock>(loop, [this] {
    if (machine_->tick()) LoopHooks::of(Env()).expect_within_ns(kCutNsMax);
  });
  // A process that ends without close() must not leave vCPUs running into freed memory.
  napi_add_env_cleanup_hook(env, at_exit, this);
}

NativeMachine::~NativeMachine() {
  napi_remove_env_cleanup_hook(Env(), at_exit, this);
  static_cast<void>(shut_down());
}

void NativeMachine::at_exit(void* self) {
  static_cast<void>(static_cast<NativeMachine*>(self)->shut_down());
}

Status NativeMachine::shut_down() {
  if (closed_) return Ok{};
  closed_ = true;
  clock_.reset();
  // Whatever happens to the disks, nobody calls a hook after this.
  Status ended = machine_ ? Machine::end(std::move(machine_)) : Ok{};
  cut_waker_.reset();
  console_waker_.reset();
  on_guest_end_.Release();
  on_stopped_.Release();
  on_disks_synced_.Release();
  on_disk_failed_.Release();
  return ended;
}

// One call takes every cut that waits.
void NativeMachine::cuts_wait() {
  const Napi::HandleScope scope(Env());
  call_from_loop(Env(), on_cut_, context_, {});
}

void NativeMachine::notify_guest_end(GuestEnd how) {
  on_guest_end_.NonBlockingCall([how](Napi::Env env, Napi::Function js) {
    js.Call({Napi::Number::New(env, static_cast<double>(how))});
  });
}

void NativeMachine::notify_stopped(std::string message) {
  auto text = std::make_shared<std::string>(std::move(message));
  on_stopped_.NonBlockingCall(
      [text](Napi::Env env, Napi::Function js) { js.Call({Napi::String::New(env, *text)}); });
}

void NativeMachine::notify_disks_synced() {
  on_disks_synced_.NonBlockingCall([this](Napi::Env, Napi::Function js) {
    if (!closed_) js.Call({});
  });
}

// By the time it is heard of, another session may have begun, which is not to blame.
void NativeMachine::notify_disk_failed(const char* during, FailureOf failure_of) {
  on_disk_failed_.NonBlockingCall([this, during, failure_of](Napi::Env env, Napi::Function js) {
    if (closed_) return;
    const auto failure = (machine_->disks().*failure_of)();
    if (!failure) return;
    js.Call({Napi::String::New(env, during), Napi::String::New(env, failure->code),
             Napi::String::New(env, failure->message)});
  });
}

bool NativeMachine::alive(const Napi::CallbackInfo& info) {
  if (machine_ && !closed_) return true;
  throw_error(info.Env(), Error{"FT_ERR_MACHINE_CLOSED", 0, "the machine is closed"});
  return false;
}

// The sum is made here, while the bytes are warm and the call is made anyway.
void NativeMachine::store(const EncodedBody& body, std::span<const uint8_t> out, size_t at) {
  facts_[at] = static_cast<double>(body.bytes);
  facts_[at + 1] = static_cast<double>(body.raw_bytes);
  facts_[at + 2] = body.last ? 1 : 0;
  facts_[at + 3] = crc32c(out.first(body.bytes));
}

Napi::Value NativeMachine::cpu_features(const Napi::CallbackInfo& info) {
  Napi::Object object = Napi::Object::New(info.Env());
  if (!alive(info)) return object;
  for (const auto& [name, value] : machine_->cpu_features()) {
    object.Set(name, Napi::Number::New(info.Env(), value));
  }
  return object;
}

void NativeMachine::boot(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  const auto status = machine_->boot();
  if (!status.ok()) throw_error(info.Env(), status.error());
  clock_->set(machine_->floor_interval_us());
}

// Arguments: intervalUs, dirtyBudgetPages, cutOnOutput, inFlightMax, auditPages, leaseUs,
// firstEpoch, peerDiskMaps, catchUp.
void NativeMachine::begin_replication(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  CutPolicy policy;
  policy.interval_us = info[0].ToNumber().Uint32Value();
  policy.paced = true;
  policy.dirty_budget_pages = info[1].ToNumber().Uint32Value();
  policy.cut_on_output = info[2].ToBoolean();
  policy.in_flight_max = info[3].ToNumber().Uint32Value();
  policy.audit_pages = info[4].ToNumber().Uint32Value();
  policy.lease_us = info[5].ToNumber().Uint32Value();
  const auto first_epoch = static_cast<uint64_t>(info[6].ToNumber().DoubleValue());
  const auto status = machine_->begin_replication(policy, first_epoch, read_disk_maps(info[7]),
                                                  info[8].ToBoolean());
  if (!status.ok()) throw_error(info.Env(), status.error());
  interval_us_ = policy.interval_us;
  syncing_ = true;
  clock_->set(std::max(interval_us_, kSyncIntervalUs));
}

// Argument: µs.
void NativeMachine::set_cut_interval(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  const uint32_t interval_us = info[0].ToNumber().Uint32Value();
  if (!machine_->set_cut_interval(interval_us)) return;
  interval_us_ = interval_us;
  clock_->set(syncing_ ? std::max(interval_us_, kSyncIntervalUs) : interval_us_);
}

// Argument: whether changes are noted from here on.
void NativeMachine::end_replication(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  clock_->set(0);
  const auto status = machine_->end_replication(info[0].ToBoolean());
  if (!status.ok()) throw_error(info.Env(), status.error());
}

// Returns the epoch, or undefined.
Napi::Value NativeMachine::noted_since(const Napi::CallbackInfo& info) {
  if (!alive(info)) return info.Env().Undefined();
  const auto epoch = machine_->noted_since();
  if (!epoch) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(*epoch));
}

// Argument: where the map goes. Returns its length in bytes.
Napi::Value NativeMachine::catch_up_map(const Napi::CallbackInfo& info) {
  const size_t bytes = alive(info) ? machine_->catch_up_map(bytes_of(info[0])) : 0;
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

void NativeMachine::scan_next(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  const auto out = bytes_of(info[0]);
  store(machine_->scan(out), out);
}

Napi::Value NativeMachine::scan_progress(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), alive(info) ? machine_->scan_progress() : 0);
}

void NativeMachine::hold_output(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  machine_->hold_output();
  syncing_ = false;
  clock_->set(interval_us_);
}

// Argument: where the first piece goes. False when no cut waits; nothing was written then.
Napi::Value NativeMachine::next_cut(const Napi::CallbackInfo& info) {
  const EpochSlot* slot = alive(info) ? machine_->front_cut() : nullptr;
  if (slot != nullptr) {
    const CutFacts& f = slot->facts;
    facts_[0] = static_cast<double>(f.epoch);
    facts_[1] = f.base ? 1 : 0;
    facts_[2] = f.overrun ? 1 : 0;
    facts_[3] = f.dirty_pages;
    facts_[4] = f.output_frames;
    facts_[5] = static_cast<double>(f.pause_ns) / 1000;
    facts_[6] = static_cast<double>(f.harvest_ns) / 1000;
    facts_[7] = static_cast<double>(f.copy_ns) / 1000;
    facts_[8] = static_cast<double>(f.reset_ns) / 1000;
    facts_[9] = static_cast<double>(f.state_ns) / 1000;
    facts_[10] = static_cast<double>(f.guest_end);
    facts_[12] = static_cast<double>(f.kick_ns) / 1000;
    facts_[13] = static_cast<double>(f.barrier_ns) / 1000;
    facts_[11] = static_cast<double>(monotonic_ns() - f.end_ns) / 1000;
    facts_[18] = machine_->is_of_halted(f) ? 1 : 0;
    const auto out = bytes_of(info[0]);
    // Gives the slot back with the last piece, so the facts were read before.
    store(machine_->encode_cut(out), out, kFirstPiece);
  }
  return Napi::Boolean::New(info.Env(), slot != nullptr);
}

void NativeMachine::encode_cut(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  const auto out = bytes_of(info[0]);
  store(machine_->encode_cut(out), out);
}

void NativeMachine::commit(const Napi::CallbackInfo& info) {
  if (alive(info)) machine_->commit(static_cast<uint64_t>(info[0].ToNumber().DoubleValue()));
}

// The clock that extendLease() speaks of: µs, a fraction below.
Napi::Value NativeMachine::lease_now_us(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(Outbox::boottime_ns()) / 1000);
}

void NativeMachine::extend_lease(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  machine_->extend_lease(static_cast<uint64_t>(info[0].ToNumber().DoubleValue() * 1000));
}

void NativeMachine::heal(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  auto gfns = info[0].As<Napi::Uint32Array>();
  machine_->heal({gfns.Data(), gfns.ElementLength()});
}

void NativeMachine::open_output(const Napi::CallbackInfo& info) {
  if (alive(info)) machine_->open_output();
}

void NativeMachine::fence(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  clock_->set(0);
  machine_->fence();
}

Napi::Value NativeMachine::output_waits(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), alive(info) && machine_->output_waits_for_lease());
}

void NativeMachine::halt_guest(const Napi::CallbackInfo& info) {
  if (alive(info)) machine_->halt_guest();
}

void NativeMachine::resume_guest(const Napi::CallbackInfo& info) {
  if (alive(info)) machine_->resume_guest();
}

// Argument: the primary's sync ids. Returns this side's maps, one a disk or undefined.
Napi::Value NativeMachine::begin_sync(const Napi::CallbackInfo& info) {
  if (!alive(info)) return info.Env().Undefined();
  const auto maps = machine_->begin_sync(read_texts(info[0]));
  if (maps.ok()) return disk_maps_value(info.Env(), maps.value());
  throw_error(info.Env(), maps.error());
  return info.Env().Undefined();
}

// As begin_sync, with what memory holds kept.
Napi::Value NativeMachine::begin_catch_up(const Napi::CallbackInfo& info) {
  if (!alive(info)) return info.Env().Undefined();
  const auto maps = machine_->begin_sync(read_texts(info[0]), true);
  if (maps.ok()) return disk_maps_value(info.Env(), maps.value());
  throw_error(info.Env(), maps.error());
  return info.Env().Undefined();
}

// Argument: a bit a page. Throws when the map does not fit; nothing was cleared then.
void NativeMachine::clear_pages(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  const auto status = machine_->clear_pages(bytes_of(info[0]));
  if (!status.ok()) throw_error(info.Env(), status.error());
}

// Returns undefined for a sound body, else the error (not thrown: it is expected from outside).
Napi::Value NativeMachine::verify(const Napi::CallbackInfo& info) {
  if (!alive(info)) return info.Env().Undefined();
  const auto status = machine_->verify(bytes_of(info[0]));
  if (status.ok()) return info.Env().Undefined();
  return error_object(info.Env(), status.error());
}

// Returns the number of records applied; facts[0] is the number of audit mismatches, which
// auditMismatches lists when it is not 0.
Napi::Value NativeMachine::apply(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!alive(info)) return env.Undefined();
  mismatches_.clear();
  const auto applied = machine_->apply(bytes_of(info[0]), &mismatches_);
  if (!applied.ok()) {
    throw_error(env, applied.error());
    return env.Undefined();
  }
  facts_[0] = applied.value();
  facts_[1] = static_cast<double>(machine_->disks().backlog_bytes());
  if (mismatches_.empty()) return env.Undefined();
  auto list = Napi::Array::New(env, mismatches_.size());
  for (uint32_t i = 0; i < mismatches_.size(); i++)
    list.Set(i, Napi::Number::New(env, mismatches_[i]));
  return list;
}

Napi::Value NativeMachine::disk_backlog_bytes(const Napi::CallbackInfo& info) {
  const uint64_t bytes = alive(info) ? machine_->disks().backlog_bytes() : 0;
  return Napi::Number::New(info.Env(), static_cast<double>(bytes));
}

Napi::Value NativeMachine::disks(const Napi::CallbackInfo& info) {
  if (!alive(info)) return info.Env().Undefined();
  return disk_descriptions_value(info.Env(), machine_->disks());
}

Napi::Value NativeMachine::disk_sync_ids(const Napi::CallbackInfo& info) {
  if (!alive(info)) return info.Env().Undefined();
  return texts_value(info.Env(), machine_->disks().sync_ids());
}

Napi::Value NativeMachine::disks_synced(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), alive(info) && machine_->disks().synced());
}

Napi::Value NativeMachine::disk_sync_progress(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), alive(info) ? machine_->disks().sync_progress() : 0);
}

void NativeMachine::in_step(const Napi::CallbackInfo& info) {
  if (alive(info)) machine_->disks().in_step(info[0].ToString().Utf8Value());
}

void NativeMachine::promote(const Napi::CallbackInfo& info) {
  if (!alive(info)) return;
  const auto clock = machine_->promote();
  if (!clock.ok()) {
    throw_error(info.Env(), clock.error());
    return;
  }
  facts_[0] = static_cast<double>(clock.value().cut_ns) / 1000;
  facts_[1] = static_cast<double>(clock.value().resumed_ns) / 1000;
}

void NativeMachine::close(const Napi::CallbackInfo& info) {
  const Status ended = shut_down();
  if (!ended.ok()) throw_error(info.Env(), ended.error());
}

}  // namespace ft

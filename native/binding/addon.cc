// The addon's exports: the machine class and the few functions that need no machine.
#include <napi.h>

#include "binding/loop_hooks.h"
#include "binding/native_machine.h"
#include "binding/raw_socket.h"
#include "core/confine.h"
#include "core/crc32c.h"
#include "core/memory_keeper.h"
#include "core/service_notify.h"
#include "kvm/kvm.h"

namespace ft {
namespace {

// crc32c(bytes): CRC-32C as an unsigned number.
Napi::Value checksum(const Napi::CallbackInfo& info) {
  auto array = info[0].As<Napi::Uint8Array>();
  return Napi::Number::New(info.Env(), crc32c({array.Data(), array.ByteLength()}));
}

// setBusyPoll(us): how long the event loop stays awake after something came; 0: not at all.
void set_busy_poll(const Napi::CallbackInfo& info) {
  LoopHooks::of(info.Env()).set_busy_poll(info[0].ToNumber().Uint32Value());
}

// startMemoryKeeper(): its process id; throws when there is no room for one more process.
Napi::Value keep_memory(const Napi::CallbackInfo& info) {
  const auto pid = start_memory_keeper();
  if (!pid.ok()) {
    throw_error(info.Env(), pid.error());
    return info.Env().Undefined();
  }
  return Napi::Number::New(info.Env(), pid.value());
}

// systemdNotify(address, text): one datagram to a supervisor's socket; throws when it was not sent.
void systemd_notify(const Napi::CallbackInfo& info) {
  const auto status =
      service_notify(info[0].ToString().Utf8Value(), info[1].ToString().Utf8Value());
  if (!status.ok()) throw_error(info.Env(), status.error());
}

// confine({writable, bindPorts}): { landlock, forbidden }; throws.
Napi::Value confine_process(const Napi::CallbackInfo& info) {
  const auto object = info[0].As<Napi::Object>();
  const auto each = [&](const char* name, const auto& take) {
    const auto list = object.Get(name).As<Napi::Array>();
    for (uint32_t n = 0; n < list.Length(); ++n) take(list.Get(n));
  };
  Confinement wanted;
  each("writable",
       [&](const Napi::Value& path) { wanted.writable.push_back(path.ToString().Utf8Value()); });
  const auto port = [](const Napi::Value& value) {
    return static_cast<uint16_t>(value.ToNumber().Uint32Value());
  };
  each("bindPorts", [&](const Napi::Value& value) { wanted.bind_ports.push_back(port(value)); });
  const auto confined = confine(wanted);
  if (!confined.ok()) {
    throw_error(info.Env(), confined.error());
    return info.Env().Undefined();
  }
  auto result = Napi::Object::New(info.Env());
  result.Set("landlock", confined.value().landlock);
  result.Set("forbidden", confined.value().forbidden);
  return result;
}

// probeKvm(path): throws when this host's KVM cannot run a protected guest, saying why.
void probe_kvm(const Napi::CallbackInfo& info) {
  const auto kvm = Kvm::open(info[0].ToString().Utf8Value());
  if (!kvm.ok()) throw_error(info.Env(), kvm.error());
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  LoopHooks::install(env);
  exports.Set("RawSocket", RawSocket::define(env));
  exports.Set("setBusyPoll", Napi::Function::New(env, set_busy_poll, "setBusyPoll"));
  exports.Set("NativeMachine", NativeMachine::define(env));
  exports.Set("startMemoryKeeper", Napi::Function::New(env, keep_memory, "startMemoryKeeper"));
  exports.Set("systemdNotify", Napi::Function::New(env, systemd_notify, "systemdNotify"));
  exports.Set("confine", Napi::Function::New(env, confine_process, "confine"));
  exports.Set("crc32c", Napi::Function::New(env, checksum, "crc32c"));
  exports.Set("probeKvm", Napi::Function::New(env, probe_kvm, "probeKvm"));
  return exports;
}

}  // namespace
}  // namespace ft

static Napi::Object init_romulus(Napi::Env env, Napi::Object exports) {
  return ft::init(env, exports);
}
NODE_API_MODULE(romulus, init_romulus)

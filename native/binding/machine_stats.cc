// What the machine counted, as a JavaScript object; made when somebody asks, never per epoch.
#include "binding/machine_disks.h"
#include "binding/native_machine.h"

namespace ft {

Napi::Value NativeMachine::stats(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Object out = Napi::Object::New(env);
  if (!alive(info)) return out;
  const auto put = [&](const char* key, uint64_t value) {
    out.Set(key, Napi::Number::New(env, static_cast<double>(value)));
  };
  const Outbox::Facts facts = machine_->outbox_facts();
  put("outboxFrames", facts.frames_held);
  put("outboxBytes", facts.bytes_held);
  put("framesReleased", facts.frames_released);
  put("framesDropped", facts.frames_dropped);
  put("leaseExpired", facts.lease_expired);
  put("auditPagesHealed", machine_->pages_healed());
  put("floorEpochs", machine_->floor_facts().cuts);
  put("floorPages", machine_->floor_facts().pages);
  static constexpr const char* kExitNames[VcpuThreads::kExitKinds] = {
      "interrupted",   "io",        "mmio", "halt", "shutdown", "systemEvent", "dirtyRingFull",
      "internalError", "failEntry", "other"};
  Napi::Object exits = Napi::Object::New(env);
  for (size_t i = 0; i < VcpuThreads::kExitKinds; i++) {
    exits.Set(
        kExitNames[i],
        Napi::Number::New(env, static_cast<double>(machine_->exits(static_cast<Vcpu::Exit>(i)))));
  }
  out.Set("exits", exits);
  out.Set("disks", disk_stats_value(env, machine_->disks()));
  return out;
}

}  // namespace ft

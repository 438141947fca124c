// The guest's console, as JavaScript reads it and types on it.
#include <algorithm>

#include "binding/native_machine.h"
#include "binding/raw_socket.h"

namespace ft {
namespace {

std::span<uint8_t> bytes_of(const Napi::Value& value) {
  auto array = value.As<Napi::Uint8Array>();
  return {array.Data(), array.ByteLength()};
}

}  // namespace

void NativeMachine::make_console_waker(const Napi::Function& on_console) {
  on_console_ = Napi::Persistent(on_console);
  console_waker_ = std::make_unique<LoopWaker>(on_console.Env(), [this] {
    const Napi::HandleScope scope(Env());
    call_from_loop(Env(), on_console_, context_, {});
  });
}

// Argument: whether onConsole() is wanted from now on.
void NativeMachine::watch_console(const Napi::CallbackInfo& info) {
  if (alive(info)) machine_->console_tail().watch(info[0].ToBoolean());
}

Napi::Value NativeMachine::console_head(const Napi::CallbackInfo& info) {
  const uint64_t head = alive(info) ? machine_->console_tail().head() : 0;
  return Napi::Number::New(info.Env(), static_cast<double>(head));
}

// Arguments: the number of the first byte wanted, where to. Returns how many bytes were copied.
Napi::Value NativeMachine::read_console(const Napi::CallbackInfo& info) {
  if (!alive(info)) return Napi::Number::New(info.Env(), 0);
  const double from = std::max(0.0, info[0].ToNumber().DoubleValue());
  const auto piece = machine_->console_tail().read(static_cast<uint64_t>(from), bytes_of(info[1]));
  facts_[0] = static_cast<double>(piece.first);
  return Napi::Number::New(info.Env(), static_cast<double>(piece.bytes));
}

// Argument: what is typed. Returns how many bytes of it were taken.
Napi::Value NativeMachine::type_console(const Napi::CallbackInfo& info) {
  const size_t taken = alive(info) ? machine_->type_console(bytes_of(info[0])) : 0;
  return Napi::Number::New(info.Env(), static_cast<double>(taken));
}

}  // namespace ft

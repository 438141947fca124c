#include "binding/raw_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>

#include "binding/loop_hooks.h"
#include "binding/native_machine.h"
#include "core/result.h"

namespace ft {
namespace {

// More buffers than this leave in a second call.
constexpr uint32_t kVectorsMax = 64;

}  // namespace

void call_from_loop(Napi::Env env, const Napi::FunctionReference& function,
                    const Napi::AsyncContext& context,
                    const std::initializer_list<napi_value>& arguments) {
  function.MakeCallback(env.Global(), arguments, context);
  if (!env.IsExceptionPending()) return;
  napi_fatal_exception(env, env.GetAndClearPendingException().Value());
}

Napi::Function RawSocket::define(Napi::Env env) {
  return DefineClass(env, "RawSocket",
                     {
                         InstanceMethod("write", &RawSocket::write),
                         InstanceMethod("watch", &RawSocket::watch),
                         InstanceMethod("aim", &RawSocket::aim),
                         InstanceMethod("close", &RawSocket::close),
                     });
}

RawSocket::RawSocket(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<RawSocket>(info), context_(info.Env(), "RawSocket") {
  const Napi::Env env = info.Env();
  auto room = info[1].As<Napi::Uint8Array>();
  room_ref_ = Napi::Reference<Napi::Uint8Array>::New(room, 1);
  room_ = room.Data();
  room_bytes_ = next_room_bytes_ = room.ByteLength();
  on_readable_ = Napi::Persistent(info[2].As<Napi::Function>());
  on_writable_ = Napi::Persistent(info[3].As<Napi::Function>());
  fd_ = UniqueFd(::fcntl(info[0].ToNumber().Int32Value(), F_DUPFD_CLOEXEC, 0));
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  poll_ = new uv_poll_t;
  if (fd_.get() < 0 || uv_poll_init(loop, poll_, fd_.get()) != 0) {
    delete poll_;
    poll_ = nullptr;
    fd_ = UniqueFd();
    throw_error(env, sys_error("FT_ERR_SOCKET", "cannot watch a socket"));
    return;
  }
  poll_->data = this;
  napi_add_env_cleanup_hook(env, at_exit, this);
}

RawSocket::~RawSocket() {
  shut();
}

void RawSocket::at_exit(void* self) {
  static_cast<RawSocket*>(self)->shut();
}

void RawSocket::shut() {
  if (poll_ == nullptr) return;
  napi_remove_env_cleanup_hook(Env(), at_exit, this);
  poll_->data = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(poll_),
           [](uv_handle_t* handle) { delete reinterpret_cast<uv_poll_t*>(handle); });
  poll_ = nullptr;
  fd_ = UniqueFd();
}

void RawSocket::on_poll(uv_poll_t* poll, int status, int events) {
  auto* self = static_cast<RawSocket*>(poll->data);
  if (self == nullptr) return;
  if (status < 0)
    self->failed();
  else
    self->ready(events);
}

// libuv watches the socket no more. What came before the error can still be read, and the error
// follows it with its number.
void RawSocket::failed() {
  const Napi::HandleScope scope(Env());
  while (poll_ != nullptr && !ended_) receive(true);
}

void RawSocket::ready(int events) {
  LoopHooks::of(Env()).note_activity();
  const Napi::HandleScope scope(Env());
  if ((events & UV_WRITABLE) != 0) call_from_loop(Env(), on_writable_, context_, {});
  // The callback may have closed this.
  if ((events & UV_READABLE) != 0 && poll_ != nullptr) receive();
}

void RawSocket::receive(bool to_the_end) {
  iovec vectors[] = {{gap_, gap_bytes_}, {room_, next_room_bytes_}};
  msghdr message{};
  message.msg_iov = gap_bytes_ > 0 ? vectors : vectors + 1;
  message.msg_iovlen = gap_bytes_ > 0 ? 2 : 1;
  const ssize_t bytes = ::recvmsg(fd_.get(), &message, MSG_DONTWAIT);
  if (bytes < 0 && errno == EINTR) return;
  if (bytes < 0 && errno == EAGAIN) {
    if (!to_the_end) return;
    errno = ECONNRESET;  // an error that nobody reports is one all the same
  }
  const double said = bytes < 0 ? -errno : static_cast<double>(bytes);
  gap_bytes_ = 0;
  next_room_bytes_ = room_bytes_;
  // After the end, or an error, nothing more is read; what is still to be written may be.
  ended_ = bytes <= 0;
  if (ended_) uv_poll_stop(poll_);
  call_from_loop(Env(), on_readable_, context_, {Napi::Number::New(Env(), said)});
}

// Arguments: buffers, lengths, from, count, skip. Sends the first lengths[i] bytes of buffers[i]
// for `count` buffers from `from` on, less the first `skip` bytes. Returns how many bytes the
// system took (0: none for now), or −errno.
Napi::Value RawSocket::write(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (poll_ == nullptr) return Napi::Number::New(env, -EBADF);
  const auto buffers = info[0].As<Napi::Array>();
  const auto lengths = info[1].As<Napi::Array>();
  const uint32_t from = info[2].ToNumber().Uint32Value();
  const uint32_t count = std::min(info[3].ToNumber().Uint32Value(), kVectorsMax);
  const size_t skip = info[4].ToNumber().Uint32Value();
  iovec vectors[kVectorsMax];
  for (uint32_t i = 0; i < count; i++) {
    auto buffer = buffers.Get(from + i).As<Napi::Uint8Array>();
    const size_t length = lengths.Get(from + i).ToNumber().Uint32Value();
    const size_t skipped = i == 0 ? skip : 0;
    FT_CHECK(skipped <= length && length <= buffer.ByteLength(), "a write outside its buffer");
    vectors[i] = {buffer.Data() + skipped, length - skipped};
  }
  msghdr message{};
  message.msg_iov = vectors;
  message.msg_iovlen = count;
  const ssize_t sent = ::sendmsg(fd_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0 && (errno == EAGAIN || errno == EINTR)) return Napi::Number::New(env, 0);
  return Napi::Number::New(env, sent < 0 ? -errno : static_cast<double>(sent));
}

// Arguments: whether to read what comes, and whether to say when there is room to write.
void RawSocket::watch(const Napi::CallbackInfo& info) {
  const bool readable = info[0].ToBoolean();
  const bool writable = info[1].ToBoolean();
  if (poll_ == nullptr) return;
  const int events = (writable ? UV_WRITABLE : 0) | (readable && !ended_ ? UV_READABLE : 0);
  if (events == 0) {
    uv_poll_stop(poll_);
    return;
  }
  FT_CHECK(uv_poll_start(poll_, events, on_poll) == 0, "a watched socket cannot be watched");
}

// Arguments: the gap, and how much of the receive buffer may be used behind it.
void RawSocket::aim(const Napi::CallbackInfo& info) {
  auto gap = info[0].As<Napi::Uint8Array>();
  gap_ref_.Reset(gap, 1);
  gap_ = gap.Data();
  gap_bytes_ = gap.ByteLength();
  next_room_bytes_ = std::min<size_t>(info[1].ToNumber().Uint32Value(), room_bytes_);
}

void RawSocket::close(const Napi::CallbackInfo&) {
  shut();
}

}  // namespace ft

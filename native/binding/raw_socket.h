// A connected socket read and written by plain system calls, for a transport that frames and queues
// by itself: no buffer is made per read, no request object per write.
//
//   readable ─▶ recv into the one receive buffer ─▶ onReadable(bytes)   0: the peer's end
//                 └ after aim(gap, roomBytes), once: into        < 0: −errno
//                   the gap, and then into the buffer
//   write(buffers, lengths, from, count, skip) ─▶ sendmsg ─▶ bytes taken, or −errno
//        └ fewer than asked: watch(true, true) ─▶ onWritable()
//
// Nothing is read before watch(true, …). Works on a descriptor of its own (a duplicate), so that
// whoever made the socket keeps theirs; a reset or an end that the other side shall see needs both
// closed. The receive buffer belongs to the caller and is written only just before onReadable.
//
// Thread: JavaScript's.
#pragma once

#include <napi.h>
#include <uv.h>

#include "core/unique_fd.h"

namespace ft {

class RawSocket : public Napi::ObjectWrap<RawSocket> {
 public:
  static Napi::Function define(Napi::Env env);
  /// Arguments: fd, receive buffer, onReadable(bytes), onWritable().
  explicit RawSocket(const Napi::CallbackInfo& info);
  ~RawSocket() override;

 private:
  Napi::Value write(const Napi::CallbackInfo& info);
  void watch(const Napi::CallbackInfo& info);
  void aim(const Napi::CallbackInfo& info);
  void close(const Napi::CallbackInfo& info);

  void ready(int events);
  void failed();
  void receive(bool to_the_end = false);
  void shut();
  static void on_poll(uv_poll_t* poll, int status, int events);
  static void at_exit(void* self);

  UniqueFd fd_;
  uv_poll_t* poll_ = nullptr;  // freed by libuv's close callback
  bool ended_ = false;         // nothing more comes in
  Napi::Reference<Napi::Uint8Array> room_ref_;
  uint8_t* room_ = nullptr;
  size_t room_bytes_ = 0;
  // Of the next read alone.
  Napi::Reference<Napi::Uint8Array> gap_ref_;
  uint8_t* gap_ = nullptr;
  size_t gap_bytes_ = 0;
  size_t next_room_bytes_ = 0;
  Napi::FunctionReference on_readable_;
  Napi::FunctionReference on_writable_;
  Napi::AsyncContext context_;
};

/// Calls into JavaScript from the event loop; what it throws becomes an uncaught exception.
void call_from_loop(Napi::Env env, const Napi::FunctionReference& function,
                    const Napi::AsyncContext& context,
                    const std::initializer_list<napi_value>& arguments);

}  // namespace ft

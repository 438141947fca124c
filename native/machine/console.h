// Where the guest's serial console meets the outside: nothing, a file, this process's own standard
// streams, or a UNIX socket to attach to.
//
//   Outbox ─sink─▶ write() ─▶ ring, 1 MiB ─▶ console thread ─▶ stdout, or the attached client
//   Serial ◀─ input() ◀──────────────────── console thread ◀─ stdin, or the attached client
//
//   socket   free ──connect──▶ attached ──hangs up──▶ free      one client at a time; another one
//                                                              is told so and turned away
//   attach   the last 64 KiB of output, then what comes; on a standby one line that says so, and
//            nothing more until the guest runs here
//
// The guest never waits for a reader: write() copies into the ring and returns. Who falls behind by
// more than the ring loses the oldest of it and is told how much. Only a plain file is written to
// at once and in full: it is read after a death, so what has left must be in it, even when the
// process is killed in the next moment. The price: a file cannot be written without waiting, so a
// file on storage that hangs holds whoever writes, and with it all that this host lets out or says
// to its peer, until the storage answers. To the standby it is a host that hangs, and is replaced
// like one; going on, it finds its lease at an end and lets nothing out. Who runs a guest without a
// standby puts the file where it cannot hang, or takes the socket.
//
// On a terminal, stdio passes every key to the guest (Ctrl-C too); Ctrl-A is the escape: Ctrl-A x
// ends this process as SIGTERM would, Ctrl-A a (or Ctrl-A twice) types one Ctrl-A. Standard input
// that is no terminal has no escape; its end ends nothing.
//
// Threads: write() from any, one at a time (the outbox sees to that); input() is called on the
// console's thread, which holds no lock then; everything else on the event loop.
#pragma once

#include <termios.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/result.h"
#include "core/unique_fd.h"

namespace ft {

/// What a client that attaches is shown of the past.
inline constexpr size_t kConsoleReplayBytes = 64 * 1024;
inline constexpr size_t kConsoleRingBytes = 1024 * 1024;
inline constexpr size_t kConsoleInputBytes = 1024;

class Console {
 public:
  enum class Kind : uint8_t { kNone, kFile, kStdio, kUnix };
  struct Options {
    Kind kind = Kind::kNone;
    int file = -1;     // kFile: opened for appending; not owned
    std::string path;  // kUnix
  };
  /// Gives the guest input; returns how many bytes it took. The rest is offered again after
  /// input_room().
  using Input = std::function<size_t(std::span<const uint8_t>)>;

  /// Opens the place and starts its thread. A socket file that nobody listens on is replaced.
  /// Errors: FT_ERR_CONSOLE (the path is too long, in use, no socket, or cannot be bound),
  /// FT_ERR_RESOURCES.
  static Result<std::unique_ptr<Console>> create(Options options, Input input);
  ~Console();

  /// The guest runs here (or does no longer): input is passed on only while it does.
  void set_active(bool active);
  /// Output that was released. Never blocks but for a plain file.
  void write(std::span<const uint8_t> bytes);
  /// The guest has room for input again. Any thread, any lock.
  void input_room() { wake(); }
  /// Says what is left, as far as the reader takes it at once, and lets go of everything; the
  /// terminal and the socket file are put back in order.
  void stop();

 private:
  explicit Console(Options options, Input input);
  Status open_stdio();
  Status open_socket();
  Status bind_socket(const std::string& path);
  void loop();
  void accept_client();
  void attach(UniqueFd client);
  size_t send(std::span<const uint8_t> bytes);
  void detach();
  void read_input();
  void take_typed(std::span<const uint8_t> bytes);
  void deliver_input();
  bool write_output();
  size_t next_output(std::span<uint8_t> out);
  void wake();
  int reader_fd() const;
  int writer_fd() const;
  int stdout_fd() const { return own_stdout_.valid() ? own_stdout_.get() : 1; }

  Options options_;
  Input input_;
  UniqueFd wake_;
  UniqueFd listener_;
  UniqueFd client_;
  UniqueFd own_stdout_;  // the terminal or pipe, opened anew so that writing never waits
  std::thread thread_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> active_{false};
  std::atomic<bool> woken_{false};
  bool direct_ = false;  // a plain file: written to in write()
  bool bound_ = false;   // the socket file is ours to take away
  bool terminal_ = false;
  termios terminal_before_{};

  std::mutex mutex_;  // the ring; innermost, held for a copy
  std::vector<uint8_t> ring_;
  uint64_t head_ = 0;  // bytes ever written into the ring

  // The console thread's own.
  bool input_ended_ = false;
  bool output_broken_ = false;
  bool escaped_ = false;        // Ctrl-A was typed
  uint64_t cursor_ = 0;         // bytes ever shown
  std::string note_;            // what we say ourselves, before the output
  std::vector<uint8_t> typed_;  // input that the guest has no room for yet
};

}  // namespace ft

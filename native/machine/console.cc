// The console's thread: the ring to the reader, the reader's input to the guest.
#include "machine/console.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>

namespace ft {
namespace {

// What poll() calls writable takes this much at once, be it a pipe (PIPE_BUF) or a socket; a larger
// write to a descriptor that blocks could wait for the reader.
constexpr size_t kWriteBytesMax = 4096;
constexpr auto kFarewell = std::chrono::milliseconds(200);
constexpr int kWaitingClients = 4;
constexpr int kLockTries = 50;

constexpr uint8_t kEscape = 0x01;  // Ctrl-A

constexpr char kStandbyNote[] =
    "romulus: standby; the guest runs elsewhere, its console comes here when it does\r\n";
constexpr char kTakenNote[] = "romulus: another client is attached to this console\r\n";

void write_whole(int fd, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;  // a full disk loses console output and nothing else
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
}

bool writable(int fd, int wait_ms) {
  pollfd ready{.fd = fd, .events = POLLOUT, .revents = 0};
  return ::poll(&ready, 1, wait_ms) == 1 && (ready.revents & POLLOUT) != 0;
}

void drain(int event_fd) {
  uint64_t count;
  while (::read(event_fd, &count, sizeof(count)) == sizeof(count)) {
  }
}

}  // namespace

Console::Console(Options options, Input input)
    : options_(std::move(options)), input_(std::move(input)) {}

Console::~Console() {
  stop();
}

Result<std::unique_ptr<Console>> Console::create(Options options, Input input) {
  std::unique_ptr<Console> console(new Console(std::move(options), std::move(input)));
  const Kind kind = console->options_.kind;
  if (kind == Kind::kNone) return console;
  if (kind == Kind::kFile) {
    console->direct_ = true;
    return console;
  }
  console->wake_ = UniqueFd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!console->wake_.valid()) {
    return sys_error("FT_ERR_RESOURCES", "cannot make the console's event descriptor");
  }
  console->ring_.resize(kConsoleRingBytes);
  FT_TRY(kind == Kind::kStdio ? console->open_stdio() : console->open_socket());
  console->thread_ = std::thread([self = console.get()] { self->loop(); });
  return console;
}

void Console::stop() {
  if (!thread_.joinable()) return;
  stop_.store(true);
  wake();
  thread_.join();
  if (terminal_) {
    // A process in the background is not stopped for giving the terminal back.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before_);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  if (bound_) ::unlink(options_.path.c_str());
}

void Console::set_active(bool active) {
  active_.store(active);
  wake();
}

void Console::wake() {
  if (!wake_.valid() || woken_.exchange(true)) return;
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof(one));
}

void Console::write(std::span<const uint8_t> bytes) {
  if (direct_) {
    write_whole(options_.kind == Kind::kFile ? options_.file : STDOUT_FILENO, bytes);
    return;
  }
  if (ring_.empty()) return;
  {
    const std::lock_guard lock(mutex_);
    // Of more than a ring only the end can be kept.
    const size_t skip = bytes.size() > ring_.size() ? bytes.size() - ring_.size() : 0;
    head_ += skip;
    bytes = bytes.subspan(skip);
    const size_t at = head_ % ring_.size();
    const size_t first = std::min(bytes.size(), ring_.size() - at);
    std::memcpy(ring_.data() + at, bytes.data(), first);
    std::memcpy(ring_.data(), bytes.data() + first, bytes.size() - first);
    head_ += bytes.size();
  }
  wake();
}

int Console::reader_fd() const {
  if (options_.kind == Kind::kStdio) return input_ended_ ? -1 : STDIN_FILENO;
  return input_ended_ ? -1 : client_.get();
}

int Console::writer_fd() const {
  if (options_.kind == Kind::kStdio) return direct_ || output_broken_ ? -1 : stdout_fd();
  return client_.get();
}

// ── the thread ─────────────────────────────────────────────────────────────────────────────────

void Console::loop() {
  // Every signal is blocked here: what a terminal sends to a process in the background (SIGTTIN,
  // SIGTTOU) must not stop a machine; the read fails instead.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  while (!stop_.load()) {
    pollfd fds[4] = {{.fd = wake_.get(), .events = POLLIN, .revents = 0},
                     {.fd = listener_.get(), .events = POLLIN, .revents = 0},
                     {.fd = typed_.empty() ? reader_fd() : -1, .events = POLLIN, .revents = 0},
                     {.fd = -1, .events = POLLOUT, .revents = 0}};
    {
      const std::lock_guard lock(mutex_);
      if (cursor_ < head_ || !note_.empty()) fds[3].fd = writer_fd();
    }
    // A client that only listens still has to be seen hanging up.
    if (client_.valid() && fds[2].fd < 0 && fds[3].fd < 0) {
      fds[3] = {.fd = client_.get(), .events = 0, .revents = 0};
    }
    if (::poll(fds, 4, -1) < 0) continue;
    if (fds[0].revents != 0) {
      drain(wake_.get());
      woken_.store(false);
      deliver_input();
    }
    if (fds[2].fd >= 0 && fds[2].revents != 0) read_input();
    if (fds[3].fd >= 0 && (fds[3].revents & (POLLOUT | POLLERR | POLLNVAL)) != 0) write_output();
    if (client_.valid() && ((fds[2].revents | fds[3].revents) & (POLLHUP | POLLERR)) != 0) {
      detach();
    }
    if (fds[1].fd >= 0 && fds[1].revents != 0) accept_client();
  }
  // The last words: as much as the reader takes within a moment, however it takes them.
  const auto until = std::chrono::steady_clock::now() + kFarewell;
  while (writer_fd() >= 0) {
    const auto left = until - std::chrono::steady_clock::now();
    const auto left_ms = std::chrono::duration_cast<std::chrono::milliseconds>(left).count();
    if (left_ms <= 0 || !writable(writer_fd(), static_cast<int>(left_ms)) || !write_output()) break;
  }
}

// ── output ─────────────────────────────────────────────────────────────────────────────────────

// Copies what comes next out of the ring; the cursor stays. A reader that fell behind by more than
// the ring goes on at its oldest byte.
size_t Console::next_output(std::span<uint8_t> out) {
  const std::lock_guard lock(mutex_);
  if (head_ - cursor_ > ring_.size()) {
    const uint64_t lost = head_ - ring_.size() - cursor_;
    cursor_ += lost;
    note_ = "\r\nromulus: " + std::to_string(lost) + " bytes of output were skipped here\r\n";
    return 0;
  }
  const size_t at = cursor_ % ring_.size();
  const uint64_t waiting = std::min<uint64_t>(head_ - cursor_, ring_.size() - at);
  const size_t n = std::min<size_t>(waiting, out.size());
  std::memcpy(out.data(), ring_.data() + at, n);
  return n;
}

// Writes to the reader without waiting; 0 when it takes nothing now, or is gone.
size_t Console::send(std::span<const uint8_t> bytes) {
  const int fd = writer_fd();
  const bool to_client = options_.kind == Kind::kUnix;
  const ssize_t n = to_client ? ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT)
                              : ::write(fd, bytes.data(), bytes.size());
  if (n >= 0) return static_cast<size_t>(n);
  if (errno == EAGAIN || errno == EINTR) return 0;
  if (to_client) {
    detach();
  } else {
    output_broken_ = true;
  }
  return 0;
}

// Our own words first, then the guest's. False when there is nothing, or the reader took nothing.
bool Console::write_output() {
  uint8_t bytes[kWriteBytesMax];
  size_t n = note_.empty() ? next_output(bytes) : 0;
  if (!note_.empty()) {
    const size_t sent = send({reinterpret_cast<const uint8_t*>(note_.data()), note_.size()});
    note_.erase(0, std::min(sent, note_.size()));
    return sent > 0;
  }
  if (n == 0) return !note_.empty();
  n = send({bytes, n});
  cursor_ += n;
  return n > 0;
}

// ── input ──────────────────────────────────────────────────────────────────────────────────────

void Console::read_input() {
  uint8_t bytes[kConsoleInputBytes];
  const ssize_t n = ::read(reader_fd(), bytes, sizeof(bytes));
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) {
    // The end of standard input, or a client that only listens from now on. A terminal that is not
    // ours to read (a process in the background) ends here, too.
    input_ended_ = true;
    return;
  }
  if (!active_.load()) return;  // nobody here to type to
  take_typed({bytes, static_cast<size_t>(n)});
  deliver_input();
}

void Console::take_typed(std::span<const uint8_t> bytes) {
  if (!terminal_) {
    typed_.assign(bytes.begin(), bytes.end());
    return;
  }
  typed_.clear();
  for (const uint8_t byte : bytes) {
    if (!escaped_) {
      escaped_ = byte == kEscape;
      if (!escaped_) typed_.push_back(byte);
      continue;
    }
    escaped_ = false;
    if (byte == 'x') ::kill(::getpid(), SIGTERM);
    if (byte == 'a' || byte == kEscape) typed_.push_back(kEscape);
  }
}

void Console::deliver_input() {
  if (!active_.load()) typed_.clear();
  if (typed_.empty()) return;
  const size_t taken = input_(typed_);
  typed_.erase(typed_.begin(), typed_.begin() + static_cast<ptrdiff_t>(taken));
}

// ── clients ────────────────────────────────────────────────────────────────────────────────────

void Console::accept_client() {
  UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!client.valid()) return;
  if (!client_.valid()) {
    attach(std::move(client));
    return;
  }
  [[maybe_unused]] const ssize_t n =
      ::send(client.get(), kTakenNote, sizeof(kTakenNote) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void Console::attach(UniqueFd client) {
  client_ = std::move(client);
  input_ended_ = false;
  typed_.clear();
  note_ = active_.load() ? "" : kStandbyNote;
  const std::lock_guard lock(mutex_);
  cursor_ = head_ - std::min<uint64_t>(head_, kConsoleReplayBytes);
}

void Console::detach() {
  client_.reset();
  note_.clear();
  typed_.clear();
  const std::lock_guard lock(mutex_);
  cursor_ = head_;
}

// ── opening ────────────────────────────────────────────────────────────────────────────────────

Status Console::open_stdio() {
  struct stat out {};
  // Output that goes to a file loses nothing, however fast it comes.
  direct_ = ::fstat(STDOUT_FILENO, &out) == 0 && S_ISREG(out.st_mode);
  // A terminal that poll() calls writable may still make a writer wait, and so may a pipe that
  // others write to as well. Not waiting is a property of the open file, which is shared with
  // whoever started us; so this one is opened anew.
  if (!direct_ && !S_ISSOCK(out.st_mode)) {
    own_stdout_ = UniqueFd(::open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  }
  if (::isatty(STDIN_FILENO) == 0) return Ok{};
  const bool foreground = ::tcgetpgrp(STDIN_FILENO) == ::getpgrp();
  if (!foreground || ::tcgetattr(STDIN_FILENO, &terminal_before_) != 0) {
    input_ended_ = true;
    return Ok{};
  }
  // Every key goes to the guest as it is typed; what is printed keeps its line ends.
  termios raw = terminal_before_;
  raw.c_iflag &= ~static_cast<tcflag_t>(ICRNL | INLCR | IGNCR | ISTRIP | IXON | BRKINT | PARMRK);
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO | ECHONL | ISIG | IEXTEN);
  raw.c_cc[VMIN] = 1;
  raw.c_cc[VTIME] = 0;
  terminal_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
  return Ok{};
}

Status Console::open_socket() {
  const std::string& path = options_.path;
  if (path.size() >= sizeof(sockaddr_un{}.sun_path)) {
    return Error{"FT_ERR_CONSOLE", 0,
                 "The console socket's path \"" + path + "\" has " + std::to_string(path.size()) +
                     " bytes, and " + std::to_string(sizeof(sockaddr_un{}.sun_path) - 1) +
                     " are the most; choose a shorter one."};
  }
  listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  // The mode of the descriptor becomes the mode of the file, so that it is never open to others.
  if (!listener_.valid() || ::fchmod(listener_.get(), 0600) != 0) {
    return sys_error("FT_ERR_RESOURCES", "cannot make the console's socket");
  }
  FT_TRY(bind_socket(path));
  if (::listen(listener_.get(), kWaitingClients) != 0) {
    return sys_error("FT_ERR_CONSOLE", "cannot listen on the console socket " + path);
  }
  return Ok{};
}

// A file that is left of a process that was killed is replaced. The folder is locked meanwhile, so
// that two processes that start at once cannot take each other's socket for such a file.
Status Console::bind_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const auto* const name = reinterpret_cast<const sockaddr*>(&address);
  const auto folder = std::filesystem::path(path).parent_path();
  const UniqueFd lock(
      ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Bounded, since in a folder such as /tmp anybody may hold the lock; going on without it is no
  // worse than what an unlucky moment does.
  for (int tries = 0; lock.valid() && tries < kLockTries; tries++) {
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  const auto in_use = [&](const char* what) {
    return Error{"FT_ERR_CONSOLE", EADDRINUSE,
                 "The console socket " + path + " cannot be made: " + what};
  };
  for (int tries = 0; tries < 2; tries++) {
    if (::bind(listener_.get(), name, sizeof(address)) == 0) {
      bound_ = true;
      return Ok{};
    }
    if (errno != EADDRINUSE) {
      return sys_error("FT_ERR_CONSOLE", "The console socket " + path + " cannot be made");
    }
    struct stat there {};
    if (::lstat(path.c_str(), &there) == 0 && !S_ISSOCK(there.st_mode)) {
      return in_use("something that is no socket has this name; choose another one.");
    }
    const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::connect(probe.get(), name, sizeof(address)) == 0 || errno != ECONNREFUSED) {
      return in_use("another process listens there; end it, or choose another path.");
    }
    ::unlink(path.c_str());
  }
  return in_use("somebody else takes the name again and again; choose another path.");
}

}  // namespace ft

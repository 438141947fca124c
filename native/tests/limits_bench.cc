// What this machine can do at the most, in the sizes of an epoch; one JSON line for each case:
//
//   memcpy      scattered pages copied side by side, from a warm cache or from memory
//   loopback    that many bytes there and 16 back over TCP, another process answering
//   fault       the first write to a page of private memory, and of a memory file
//
// Usage: limits_bench [rounds]. Times are microseconds for the whole case, but for `fault`: a page.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kAnswerBytes = 16;
constexpr size_t kPagesMax = 4096;
/// Far more than any cache holds: pages drawn from it are cold.
constexpr size_t kPoolPages = 64 * 1024;
constexpr size_t kPageCounts[] = {1, 16, 64, 512, kPagesMax};

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

double now_us() {
  const auto t = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::micro>(t).count();
}

void report(const char* what, const char* how, size_t pages, std::vector<double> us) {
  std::sort(us.begin(), us.end());
  const auto at = [&](double q) {
    return us[static_cast<size_t>(q * static_cast<double>(us.size() - 1))];
  };
  std::printf(
      "{\"what\":\"%s\",\"how\":\"%s\",\"pages\":%zu,\"samples\":%zu,\"usP50\":%.3f,"
      "\"usP99\":%.3f,\"usMax\":%.3f}\n",
      what, how, pages, us.size(), at(0.5), at(0.99), us.back());
}

// Fewer rounds of the large cases, so that each takes about as long.
size_t rounds_for(size_t rounds, size_t pages) {
  return std::max<size_t>(20, rounds / std::max<size_t>(1, pages / 4));
}

void measure_copies(size_t rounds) {
  std::vector<uint8_t> pool(kPoolPages * kPageBytes, 1);
  std::vector<uint8_t> slot(kPagesMax * kPageBytes, 2);
  std::mt19937 random(1);
  for (const size_t pages : kPageCounts) {
    std::vector<size_t> drawn(pages);
    const auto draw = [&] {
      for (size_t& page : drawn) page = random() % kPoolPages;
    };
    for (const bool warm : {true, false}) {
      std::vector<double> us;
      draw();
      for (size_t round = 0; round < rounds_for(rounds, pages); round++) {
        if (!warm) draw();
        const double begin = now_us();
        for (size_t i = 0; i < pages; i++) {
          std::memcpy(&slot[i * kPageBytes], &pool[drawn[i] * kPageBytes], kPageBytes);
        }
        // Somebody might look at the copies: without that the compiler makes none.
        __asm__ volatile("" : : "r"(slot.data()) : "memory");
        us.push_back(now_us() - begin);
      }
      report("memcpy", warm ? "warm" : "cold", pages, std::move(us));
    }
  }
}

void move_all(int fd, uint8_t* bytes, size_t count, bool out) {
  while (count > 0) {
    const ssize_t moved =
        out ? ::send(fd, bytes, count, MSG_NOSIGNAL) : ::recv(fd, bytes, count, 0);
    if (moved <= 0) fail(out ? "send" : "recv");
    bytes += moved;
    count -= static_cast<size_t>(moved);
  }
}

// A connection over loopback: the parent's end, and the child's pid, which answers on the other.
int connect_to_child(size_t rounds, pid_t* child) {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(where);
  if (listener < 0 || ::bind(listener, reinterpret_cast<sockaddr*>(&where), length) != 0 ||
      ::listen(listener, 1) != 0 ||
      ::getsockname(listener, reinterpret_cast<sockaddr*>(&where), &length) != 0) {
    fail("loopback");
  }
  const int on = 1;
  std::fflush(stdout);
  *child = ::fork();
  if (*child < 0) fail("fork");
  if (*child == 0) {
    const int fd = ::accept(listener, nullptr, nullptr);
    if (fd < 0) fail("accept");
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    std::vector<uint8_t> bytes(kPagesMax * kPageBytes);
    for (const size_t pages : kPageCounts) {
      for (size_t round = 0; round < rounds_for(rounds, pages); round++) {
        move_all(fd, bytes.data(), pages * kPageBytes, false);
        move_all(fd, bytes.data(), kAnswerBytes, true);
      }
    }
    ::_exit(0);
  }
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&where), length) != 0) fail("connect");
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  ::close(listener);
  return fd;
}

void measure_loopback(size_t rounds) {
  pid_t child = -1;
  const int fd = connect_to_child(rounds, &child);
  std::vector<uint8_t> bytes(kPagesMax * kPageBytes, 3);
  for (const size_t pages : kPageCounts) {
    std::vector<double> us;
    for (size_t round = 0; round < rounds_for(rounds, pages); round++) {
      const double begin = now_us();
      move_all(fd, bytes.data(), pages * kPageBytes, true);
      move_all(fd, bytes.data(), kAnswerBytes, false);
      us.push_back(now_us() - begin);
    }
    report("loopback", "16 bytes back", pages, std::move(us));
  }
  ::close(fd);
  int status = 0;
  if (::waitpid(child, &status, 0) != child || status != 0) fail("the answering process");
}

void measure_faults() {
  constexpr size_t kBatchPages = 512;
  constexpr size_t kBytes = 128 * kBatchPages * kPageBytes;
  const int file = ::memfd_create("limits", MFD_CLOEXEC);
  if (file < 0 || ::ftruncate(file, static_cast<off_t>(kBytes)) != 0) fail("memfd");
  for (const bool shared : {false, true}) {
    const int flags = shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
    void* map = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, flags, shared ? file : -1, 0);
    if (map == MAP_FAILED) fail("mmap");
    ::madvise(map, kBytes, MADV_NOHUGEPAGE);
    auto* bytes = static_cast<volatile uint8_t*>(map);
    std::vector<double> us;
    for (size_t at = 0; at < kBytes; at += kBatchPages * kPageBytes) {
      const double begin = now_us();
      for (size_t page = 0; page < kBatchPages; page++) bytes[at + page * kPageBytes] = 1;
      us.push_back((now_us() - begin) / kBatchPages);
    }
    report("fault", shared ? "memory file" : "private memory", 1, std::move(us));
    ::munmap(map, kBytes);
  }
  ::close(file);
}

}  // namespace

int main(int count, char** words) {
  const size_t rounds = count > 1 ? static_cast<size_t>(std::max(20L, std::atol(words[1]))) : 20000;
  measure_copies(rounds);
  measure_loopback(rounds);
  measure_faults();
  return 0;
}

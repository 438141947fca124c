// The TAP interface that joins the guest's network card to the host. It is made and brought up by
// the operator; this class only attaches to it. Source: Linux Documentation/networking/tuntap.rst.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "core/result.h"
#include "core/unique_fd.h"

namespace ft {

class Tap {
 public:
  struct Facts {
    uint64_t writes_dropped = 0;  // the interface was down or its queue full
  };

  /// Attaches to the existing TAP `name` in the network namespace `netns` (see net_namespace.h;
  /// empty: the one of the calling thread): bare Ethernet frames, no offloads, non-blocking.
  /// Errors: those of in_net_namespace, FT_ERR_TUN_MISSING (no /dev/net/tun),
  /// FT_ERR_TAP_NAME (empty or too long), FT_ERR_TAP_MISSING (says how to make it), FT_ERR_TAP_BUSY
  /// (another process holds it), FT_ERR_TAP_PERMISSION, FT_ERR_TAP_KIND (an interface of that name
  /// is no TAP, or a multi-queue one), FT_ERR_TAP_OPEN for anything else.
  static Result<Tap> open(const std::string& name, const std::string& netns = {});

  /// For epoll. Readable when a frame waits.
  int fd() const { return fd_.get(); }
  const std::string& name() const { return name_; }

  /// Reads one frame into `buffer`; 0 when none waits. A frame longer than the buffer is cut off by
  /// the kernel; give kFrameBytesMax + 1 and drop what fills it.
  /// Error: FT_ERR_TAP_GONE (the interface was removed).
  Result<size_t> read_frame(std::span<uint8_t> buffer);
  /// Writes one frame. False when it was dropped (counted). Never blocks. One thread at a time.
  bool write_frame(std::span<const uint8_t> frame);
  const Facts& facts() const { return facts_; }

 private:
  static Result<Tap> open_here(const std::string& name, const std::string& netns);

  UniqueFd fd_;
  std::string name_;
  Facts facts_;
};

}  // namespace ft

// What this process gives up when it has what it needs. A node talks to guests and to networks;
// what a bug in it could be made to do is bounded by what the kernel still lets it do:
//
//   no new privileges   no set-user-ID program gives it more than it has
//   not dumpable        no other process of the same user reads its memory; no core file holds keys
//   Landlock            no program is executed; files are written, made and removed, and devices
//                       asked by ioctl, only where it is said here; TCP is listened to only at the
//                       ports said here
//
// Dialling is not confined, since a reload may name other peers. Reading is not confined: the user
// that the node runs as decides what can be read. Source: landlock(7), prctl(2).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/result.h"

namespace ft {

struct Confinement {
  /// Files and devices that are written, and directories below which files are, on whatever is
  /// mounted there later as well; a directory that is itself mounted anew is another one, for which
  /// nothing is allowed. Directories stay open (and mounted) until the process ends. What is not
  /// there is left out: whoever opens it says so better.
  std::vector<std::string> writable;
  /// TCP ports to listen at; 0 stands for one that the system chooses.
  std::vector<uint16_t> bind_ports;
};

/// What the kernel granted.
struct Confined {
  /// The version of Landlock; 0: without it, and only the other two hold. Devices are confined from
  /// 5 on, ports from 4 on.
  int landlock;
  /// Landlock is 0 because something forbids this process to ask for it, as a filter of system
  /// calls does. False with 0: the kernel was built or booted without it.
  bool forbidden;
};

/// Confines the calling thread and all that it starts from now on; there is no way back. Call it
/// before the threads and descriptors are made that it shall hold for.
/// Errors: FT_ERR_CONFINE (errno says why): part of it may hold by then, so the process should end.
Result<Confined> confine(const Confinement& wanted);

}  // namespace ft

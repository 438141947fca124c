#include "binding/machine_options.h"

#include <algorithm>

#include "binding/machine_disks.h"

namespace ft {
namespace {

Console::Options read_console(const std::string& kind, std::string path, double file) {
  if (kind == "file") return {Console::Kind::kFile, static_cast<int>(file), {}};
  if (kind == "stdio") return {Console::Kind::kStdio, -1, {}};
  if (kind == "unix") return {Console::Kind::kUnix, -1, std::move(path)};
  return {};
}

}  // namespace

MachineOptions read_machine_options(const Napi::Object& from) {
  const auto number = [&](const char* key) { return from.Get(key).ToNumber().DoubleValue(); };
  const auto text = [&](const char* key) { return from.Get(key).ToString().Utf8Value(); };
  MachineOptions options;
  options.memory_bytes = static_cast<uint64_t>(number("memoryBytes"));
  options.vcpus = static_cast<uint32_t>(number("vcpus"));
  options.cpu_model = text("cpuModel");
  options.kernel_path = text("kernelPath");
  options.initrd_path = text("initrdPath");
  options.cmdline = text("cmdline");
  options.disks = read_disk_options(from.Get("disks"));
  options.tap_name = text("tapName");
  options.netns = text("netns");
  const auto mac = from.Get("mac").As<Napi::Uint8Array>();
  std::copy_n(mac.Data(), std::min(mac.ByteLength(), options.mac.size()), options.mac.begin());
  options.console = read_console(text("consoleKind"), text("consolePath"), number("consoleFd"));
  options.first_cpu = static_cast<int>(number("vcpuCpu"));
  options.outbox_bytes_max = static_cast<uint64_t>(number("outboxBytesMax"));
  options.kvm_path = text("kvmPath");
  options.paced = true;
  options.floor_interval_us = static_cast<uint32_t>(number("floorIntervalUs"));
  options.faults.hide_dirty_page = from.Get("hideDirtyPage").ToBoolean();
  options.faults.release_early = from.Get("releaseEarly").ToBoolean();
  return options;
}

}  // namespace ft

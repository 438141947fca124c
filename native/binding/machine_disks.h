// The disks of a machine as JavaScript values: options and maps in, descriptions, maps and numbers
// out. Shapes: src/machine/native.ts. Thread: JavaScript's.
#pragma once

#include <napi.h>

#include "machine/disk_set.h"

namespace ft {

/// From an array of { path, readOnly, mapPath }.
std::vector<DiskOptions> read_disk_options(const Napi::Value& from);
/// From an array of Uint8Array or undefined, one a disk; bytes are copied.
DiskSet::Maps read_disk_maps(const Napi::Value& from);
/// From an array of strings.
std::vector<std::string> read_texts(const Napi::Value& from);

Napi::Value disk_maps_value(Napi::Env env, const DiskSet::Maps& maps);
Napi::Value texts_value(Napi::Env env, const std::vector<std::string>& texts);
/// { bytes, readOnly, fingerprint } a disk.
Napi::Value disk_descriptions_value(Napi::Env env, const DiskSet& disks);
/// NativeDiskStats a disk.
Napi::Value disk_stats_value(Napi::Env env, const DiskSet& disks);

}  // namespace ft

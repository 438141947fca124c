// The disks of a machine as JavaScript values.
#include "binding/machine_disks.h"

#include "disk/region_map.h"

namespace ft {
namespace {

/// Calls each(index, element) for every element of an array.
template <typename Each>
void for_each(const Napi::Value& from, Each each) {
  const auto list = from.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) each(i, list.Get(i));
}

Napi::Number number(Napi::Env env, uint64_t value) {
  return Napi::Number::New(env, static_cast<double>(value));
}

}  // namespace

std::vector<DiskOptions> read_disk_options(const Napi::Value& from) {
  std::vector<DiskOptions> disks;
  for_each(from, [&](uint32_t, const Napi::Value& value) {
    const auto object = value.As<Napi::Object>();
    disks.push_back({.path = object.Get("path").ToString().Utf8Value(),
                     .read_only = object.Get("readOnly").ToBoolean(),
                     .map_path = object.Get("mapPath").ToString().Utf8Value()});
  });
  return disks;
}

DiskSet::Maps read_disk_maps(const Napi::Value& from) {
  DiskSet::Maps maps;
  for_each(from, [&](uint32_t, const Napi::Value& value) {
    maps.emplace_back();
    if (!value.IsTypedArray()) return;
    const auto bytes = value.As<Napi::Uint8Array>();
    maps.back().emplace(bytes.Data(), bytes.Data() + bytes.ByteLength());
  });
  return maps;
}

std::vector<std::string> read_texts(const Napi::Value& from) {
  std::vector<std::string> texts;
  for_each(from, [&](uint32_t, const Napi::Value& value) {
    texts.push_back(value.ToString().Utf8Value());
  });
  return texts;
}

Napi::Value disk_maps_value(Napi::Env env, const DiskSet::Maps& maps) {
  auto list = Napi::Array::New(env, maps.size());
  for (uint32_t i = 0; i < maps.size(); i++) {
    if (!maps[i].has_value()) {
      list.Set(i, env.Undefined());
      continue;
    }
    auto bytes = Napi::Uint8Array::New(env, maps[i]->size());
    std::copy(maps[i]->begin(), maps[i]->end(), bytes.Data());
    list.Set(i, bytes);
  }
  return list;
}

Napi::Value texts_value(Napi::Env env, const std::vector<std::string>& texts) {
  auto list = Napi::Array::New(env, texts.size());
  for (uint32_t i = 0; i < texts.size(); i++) list.Set(i, Napi::String::New(env, texts[i]));
  return list;
}

Napi::Value disk_descriptions_value(Napi::Env env, const DiskSet& disks) {
  auto list = Napi::Array::New(env, disks.count());
  for (uint32_t i = 0; i < disks.count(); i++) {
    const DiskSet::Description& disk = disks.descriptions()[i];
    auto object = Napi::Object::New(env);
    object.Set("bytes", number(env, disk.bytes));
    object.Set("readOnly", Napi::Boolean::New(env, disk.read_only));
    object.Set("fingerprint", number(env, disk.fingerprint));
    list.Set(i, object);
  }
  return list;
}

Napi::Value disk_stats_value(Napi::Env env, const DiskSet& disks) {
  auto list = Napi::Array::New(env, disks.count());
  for (uint32_t i = 0; i < disks.count(); i++) {
    const ReplicatedDisk::Facts f = disks.disk(i).facts();
    const uint64_t region_bytes = RegionMap::region_bytes_for(disks.descriptions()[i].bytes);
    auto object = Napi::Object::New(env);
    object.Set("reads", number(env, f.reads));
    object.Set("writes", number(env, f.writes));
    object.Set("flushes", number(env, f.flushes));
    object.Set("zeroes", number(env, f.zeroes));
    object.Set("bytesRead", number(env, f.bytes_read));
    object.Set("bytesWritten", number(env, f.bytes_written));
    object.Set("errors", number(env, f.errors));
    object.Set("regionsMarked", number(env, f.regions_marked));
    object.Set("syncBytes", number(env, f.sync_bytes));
    object.Set("syncBytesLeft", number(env, f.sync_regions_left * region_bytes));
    object.Set("backlogBytes", number(env, f.backlog_bytes));
    list.Set(i, object);
  }
  return list;
}

}  // namespace ft

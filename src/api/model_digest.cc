#include "api/model_digest.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <memory>
#include <set>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "hub/store.h"
#include "runtime/saved/context_weights.h"

namespace lode::api {
namespace {

constexpr size_t kRemembered = 256;     // digests; the oldest go
constexpr int64_t kFreshSeconds = 3;    // a file may change again without its times telling

std::string Absolute(const std::string& path) {
  const std::unique_ptr<char, decltype(&::free)> real(::realpath(path.c_str(), nullptr), &::free);
  return real == nullptr ? path : real.get();
}

// What the files of a source are known by; empty: it has none, or they are too fresh.
std::string KeyOf(const tensor::TensorSource& source) {
  std::set<std::string> names;
  for (const tensor::TensorInfo& info : source.tensors()) names.insert(info.file);
  const std::string& path = source.path();
  const size_t slash = path.find_last_of('/');
  const std::string folder = IsFolder(path)                ? path + "/"
                             : slash == std::string::npos ? ""
                                                          : path.substr(0, slash + 1);
  if (IsFolder(path)) names.insert("config.json");
  std::string key;
  for (const std::string& name : names) {
    struct stat info;
    const std::string file = Absolute(FileExists(folder + name) ? folder + name : name);
    if (::stat(file.c_str(), &info) != 0) return "";
    const int64_t changed = std::max<int64_t>(info.st_mtime, info.st_ctime);
    if (std::time(nullptr) - changed < kFreshSeconds) return "";
    key += Format("%s %llu %llu %llu %lld.%09ld %lld.%09ld\n", file.c_str(),
                  static_cast<unsigned long long>(info.st_size),
                  static_cast<unsigned long long>(info.st_dev),
                  static_cast<unsigned long long>(info.st_ino),
                  static_cast<long long>(info.st_mtim.tv_sec), info.st_mtim.tv_nsec,
                  static_cast<long long>(info.st_ctim.tv_sec), info.st_ctim.tv_nsec);
  }
  return key.empty() ? "" : runtime::DigestText(runtime::Sha256(key));
}

// [[key, digest], ...], the oldest first. A file that makes no sense is as none.
Json Remembered(const std::string& path) {
  const auto text = ReadFile(path, 1 << 20);
  if (!text.ok()) return Json::array();
  auto json = ParseJson(*text);
  if (!json.ok() || !json->is_array()) return Json::array();
  return std::move(*json);
}

bool ParseDigest(const Json& entry, const std::string& key, runtime::ContextDigest* digest) {
  if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() || !entry[1].is_string() ||
      entry[0].get<std::string>() != key) {
    return false;
  }
  const auto hex = entry[1].get<std::string>();
  if (hex.size() != 2 * digest->size()) return false;
  for (size_t i = 0; i < digest->size(); ++i) {
    char* end = nullptr;
    const std::string byte = hex.substr(2 * i, 2);
    (*digest)[i] = static_cast<std::byte>(std::strtoul(byte.c_str(), &end, 16));
    if (end != byte.c_str() + 2) return false;
  }
  return true;
}

}  // namespace

Result<runtime::ContextDigest> ModelDigest(const tensor::TensorSource& source,
                                           const DigestProgress& progress) {
  const std::string key = KeyOf(source);
  const auto store = hub::Store::OfUser();
  const std::string path = store.ok() ? store->home() + "/digests.json" : "";
  const bool keeps = !key.empty() && !path.empty();
  runtime::ContextDigest digest;
  if (keeps) {
    for (const Json& entry : Remembered(path)) {
      if (ParseDigest(entry, key, &digest)) return digest;
    }
  }
  uint64_t total = 0;
  for (const tensor::TensorInfo& info : source.tensors()) total += info.bytes;
  LODE_ASSIGN(digest, runtime::DigestWeights(source, [&](uint64_t done) {
    return !progress || progress(done, total);
  }));
  if (!keeps || KeyOf(source) != key) return digest;  // it changed while we read
  Json all = Remembered(path);
  while (all.size() >= kRemembered) all.erase(0);
  all.push_back(Json::array({key, runtime::DigestText(digest)}));
  if (MakeFolders(store->home()).ok()) (void)WriteFileAtomic(path, DumpJson(all) + "\n");
  return digest;
}

}  // namespace lode::api

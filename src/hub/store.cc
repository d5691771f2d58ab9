#include "hub/store.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <system_error>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "hub/hash.h"

namespace lode::hub {
namespace {

constexpr char kManifest[] = ".lode.json";
constexpr size_t kNameBytesMax = 1024;
constexpr size_t kComponentBytesMax = 200;  // leaves room for ".part.json" below the usual 255

bool IsPlainName(const std::string& text) {
  if (text.empty() || text.size() > 96 || text[0] == '.' || text[0] == '-') return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  });
}

std::string Environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// A revision may contain slashes; as a file name it must not.
std::string RefFileName(const std::string& revision) {
  std::string out;
  for (const char c : revision) out += c == '/' ? std::string("%2F") : std::string(1, c);
  return out;
}

// The sha to use for `model`, or an empty string.
std::string NewestRevision(const std::string& refs) {
  const auto read = [](const std::string& path) {
    const Result<std::string> text = ReadFile(path, 4096);
    std::string sha = text.ok() ? *text : "";
    while (!sha.empty() && sha.back() == '\n') sha.pop_back();
    return IsHex(sha, sha.size()) && !sha.empty() ? sha : std::string();
  };
  if (std::string sha = read(refs + "/main"); !sha.empty()) return sha;
  std::error_code error;
  std::string newest;
  std::filesystem::file_time_type newest_time;
  for (auto entry = std::filesystem::directory_iterator(refs, error);
       !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    std::error_code time_error;
    const auto time = std::filesystem::last_write_time(entry->path(), time_error);
    const std::string sha = read(entry->path().string());
    if (time_error || sha.empty()) continue;
    if (newest.empty() || time > newest_time) {
      newest = sha;
      newest_time = time;
    }
  }
  return newest;
}

}  // namespace

Result<ModelName> ParseModelName(const std::string& text) {
  ModelName model;
  const size_t colon = text.find(':');
  const std::string id = text.substr(0, colon);
  if (colon != std::string::npos) model.file = text.substr(colon + 1);
  const size_t slash = id.find('/');
  if (slash != std::string::npos) {
    model.organization = id.substr(0, slash);
    model.name = id.substr(slash + 1);
  }
  if (!IsPlainName(model.organization) || !IsPlainName(model.name)) {
    return Error(Code::kBadInput, Quote(text) + " is not the name of a model on a hub",
                 "write ORG/NAME, or ORG/NAME:FILE for one file of it");
  }
  if (colon != std::string::npos) LODE_TRY(CheckFileName(model.file));
  return model;
}

bool LooksLikeModelName(const std::string& text) { return ParseModelName(text).ok(); }

Result<void> CheckFileName(const std::string& name) {
  const auto refuse = [&](const char* why) {
    return Error(Code::kBadInput, "the file name " + Quote(name) + " is refused: " + why);
  };
  if (name.empty()) return refuse("it is empty");
  if (name.size() > kNameBytesMax) return refuse("it is too long");
  if (!IsValidUtf8(name)) return refuse("it is not UTF-8");
  if (name[0] == '/') return refuse("it is an absolute path");
  for (const char c : name) {
    if (c == '\\') return refuse("it has a backslash");
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
      return refuse("it has control characters");
  }
  for (const std::string& part : Split(name, '/')) {
    if (part.empty() || part == "." || part == "..") return refuse("it leaves its folder");
    if (part.size() > kComponentBytesMax) return refuse("it is too long");
    if (part == kManifest || EndsWith(part, ".part") || EndsWith(part, ".part.json")) {
      return refuse("the store uses that name itself");
    }
  }
  return {};
}

Result<Store> Store::OfUser() {
  if (std::string home = Environment("LODE_HOME"); !home.empty()) return Store(home);
  if (std::string data = Environment("XDG_DATA_HOME"); !data.empty()) return Store(data + "/lode");
  if (std::string home = Environment("HOME"); !home.empty()) {
    return Store(home + "/.local/share/lode");
  }
  return Error(Code::kBadInput, "there is no place for models: neither LODE_HOME nor HOME is set",
               "set LODE_HOME to a folder");
}

std::string Store::ModelFolder(const ModelName& model) const {
  return home_ + "/models/" + model.organization + "/" + model.name;
}

std::string Store::RevisionFolder(const ModelName& model, const std::string& sha) const {
  return ModelFolder(model) + "/" + sha;
}

std::string Store::PartialFolder(const ModelName& model, const std::string& sha) const {
  return ModelFolder(model) + "/.partial/" + sha;
}

std::vector<StoredFile> Store::Files(const ModelName& model, const std::string& sha) const {
  std::vector<StoredFile> files;
  const Result<Json> manifest = ReadJsonFile(RevisionFolder(model, sha) + "/" + kManifest);
  const Json* list = manifest.ok() ? FindKey(*manifest, "files") : nullptr;
  if (list == nullptr || !list->is_array()) return files;
  for (const Json& entry : *list) {
    StoredFile file{GetString(entry, "name"), static_cast<uint64_t>(GetInt(entry, "size")),
                    GetString(entry, "hash")};
    if (!CheckFileName(file.name).ok()) continue;
    // Somebody may have deleted or cut the file since.
    const Result<uint64_t> size = FileSize(RevisionFolder(model, sha) + "/" + file.name);
    if (size.ok() && *size == file.size) files.push_back(std::move(file));
  }
  return files;
}

Result<void> Store::Add(const ModelName& model, const std::string& revision, const std::string& sha,
                        const std::vector<StoredFile>& files) const {
  std::vector<StoredFile> all = Files(model, sha);
  for (const StoredFile& file : files) {
    std::erase_if(all, [&](const StoredFile& other) { return other.name == file.name; });
    all.push_back(file);
  }
  std::sort(all.begin(), all.end(),
            [](const StoredFile& a, const StoredFile& b) { return a.name < b.name; });
  Json manifest = {{"model", model.Id()}, {"sha", sha}, {"files", Json::array()}};
  for (const StoredFile& file : all) {
    manifest["files"].push_back({{"name", file.name}, {"size", file.size}, {"hash", file.hash}});
  }
  LODE_TRY(
      WriteFileAtomic(RevisionFolder(model, sha) + "/" + kManifest, DumpJson(manifest, 1) + "\n"));
  const std::string refs = ModelFolder(model) + "/refs";
  LODE_TRY(MakeFolders(refs));
  return WriteFileAtomic(refs + "/" + RefFileName(revision), sha + "\n");
}

Result<std::string> Store::Find(const std::string& text) const {
  LODE_ASSIGN(const ModelName model, ParseModelName(text));
  const std::string sha = NewestRevision(ModelFolder(model) + "/refs");
  const std::vector<StoredFile> files = sha.empty() ? std::vector<StoredFile>() : Files(model, sha);
  if (files.empty()) {
    return Error(Code::kNotFound, Quote(text) + " is neither a file, a folder nor a pulled model",
                 "check the path, or run: lode pull " + text);
  }
  const std::string folder = RevisionFolder(model, sha);
  std::set<std::string> ggufs;
  bool safetensors = false;
  for (const StoredFile& file : files) {
    if (EndsWith(file.name, ".gguf")) ggufs.insert(SplitGroup(file.name));
    safetensors |= EndsWith(file.name, ".safetensors");
    if (!model.file.empty() && file.name == model.file) return folder + "/" + file.name;
  }
  const std::vector<std::string> choices(ggufs.begin(), ggufs.end());
  if (!model.file.empty()) {
    return Error(Code::kNotFound, model.Id() + " was pulled without the file " + Quote(model.file),
                 choices.empty() ? "run: lode pull " + text
                                 : "it has " + Join(choices, ", ") + "; or run: lode pull " + text);
  }
  if (safetensors) return folder;
  if (choices.size() == 1) return folder + "/" + choices[0];
  if (choices.empty()) {
    return Error(Code::kNotFound, model.Id() + " was pulled without weights",
                 "run: lode pull " + model.Id());
  }
  return Error(Code::kBadInput, model.Id() + " has several models",
               "name one of " + Join(choices, ", ") + " after a colon, as in " + model.Id() + ":" +
                   choices[0]);
}

Result<std::string> FindInStore(const std::string& model) {
  LODE_ASSIGN(const Store store, Store::OfUser());
  return store.Find(model);
}

std::string SplitGroup(const std::string& file) {
  // NAME-00002-of-00005.gguf
  constexpr std::string_view kSuffix = ".gguf";
  constexpr size_t kTail = 15;  // "-00002-of-00005"
  if (!EndsWith(file, kSuffix) || file.size() < kSuffix.size() + kTail) return file;
  std::string tail = file.substr(file.size() - kSuffix.size() - kTail, kTail);
  for (size_t i = 0; i < kTail; ++i) {
    const bool digit = tail[i] >= '0' && tail[i] <= '9';
    if (digit != ((i >= 1 && i <= 5) || i >= 10)) return file;
  }
  if (tail[0] != '-' || tail.substr(6, 4) != "-of-") return file;
  tail.replace(1, 5, "00001");
  return file.substr(0, file.size() - kSuffix.size() - kTail) + tail + std::string(kSuffix);
}

}  // namespace lode::hub

#include "hub/select.h"

#include <fnmatch.h>

#include <algorithm>
#include <map>

#include "base/text.h"
#include "hub/store.h"

namespace lode::hub {
namespace {

// Weights of other programs and pictures; they are large and Lode does not read them.
constexpr const char* kForeign[] = {
    ".bin",    ".pt",   ".pth", ".ckpt",   ".onnx", ".onnx_data", ".h5", ".ot",  ".msgpack",
    ".tflite", ".nemo", ".npz", ".pickle", ".pkl",  ".tar",       ".gz", ".zip", ".png",
    ".jpg",    ".jpeg", ".gif", ".svg",    ".webp", ".mp4",       ".pdf"};

bool IsForeign(const std::string& name) {
  return std::any_of(std::begin(kForeign), std::end(kForeign),
                     [&](const char* suffix) { return EndsWith(name, suffix); });
}

bool IsGguf(const RemoteFile& file) { return EndsWith(file.name, ".gguf"); }

Error NothingFits(const std::vector<RemoteFile>& files, const std::string& model,
                  const std::string& wish) {
  std::vector<std::string> names;
  for (const RemoteFile& file : files) names.push_back(file.name);
  const std::string closest = ClosestName(wish, names);
  constexpr size_t kShown = 12;
  const bool cut = names.size() > kShown;
  if (cut) names.resize(kShown);
  return Error(Code::kNotFound, model + " has no file " + Quote(wish),
               closest.empty() ? "it has " + Join(names, ", ") + (cut ? ", ..." : "")
                               : "did you mean " + closest + "?");
}

Result<std::vector<RemoteFile>> OneFile(const std::vector<RemoteFile>& files,
                                        const Selection& selection) {
  std::vector<RemoteFile> taken;
  const bool found = std::any_of(files.begin(), files.end(), [&](const RemoteFile& file) {
    return file.name == selection.file;
  });
  if (!found) return NothingFits(files, selection.model, selection.file);
  for (const RemoteFile& file : files) {
    if (SplitGroup(file.name) == SplitGroup(selection.file)) taken.push_back(file);
  }
  return taken;
}

Result<std::vector<RemoteFile>> Included(const std::vector<RemoteFile>& files,
                                         const Selection& selection) {
  std::vector<RemoteFile> taken;
  for (const RemoteFile& file : files) {
    const bool wanted = std::any_of(selection.include.begin(), selection.include.end(),
                                    [&](const std::string& pattern) {
                                      return ::fnmatch(pattern.c_str(), file.name.c_str(), 0) == 0;
                                    });
    if (wanted) taken.push_back(file);
  }
  if (taken.empty()) return NothingFits(files, selection.model, Join(selection.include, " "));
  return taken;
}

}  // namespace

Result<std::vector<RemoteFile>> SelectFiles(const std::vector<RemoteFile>& files,
                                            const Selection& selection) {
  if (!selection.file.empty()) return OneFile(files, selection);
  if (!selection.include.empty()) return Included(files, selection);

  bool safetensors = false;
  std::map<std::string, uint64_t> ggufs;  // first part -> bytes of all parts
  for (const RemoteFile& file : files) {
    safetensors |= EndsWith(file.name, ".safetensors");
    if (IsGguf(file)) ggufs[SplitGroup(file.name)] += file.size;
  }
  if (!safetensors && ggufs.empty()) {
    return Error(Code::kNotFound, selection.model + " has neither .safetensors nor .gguf files",
                 "choose files yourself with --include");
  }
  if (!safetensors && ggufs.size() > 1) {
    std::vector<std::string> choices;
    for (const auto& [name, bytes] : ggufs) {
      choices.push_back(bytes > 0 ? name + " (" + HumanBytes(bytes) + ")" : name);
    }
    return Error(Code::kBadInput, selection.model + " has several models: " + Join(choices, ", "),
                 "choose one, as in: lode pull " + selection.model + ":" + ggufs.begin()->first);
  }
  std::vector<RemoteFile> taken;
  for (const RemoteFile& file : files) {
    if (IsForeign(file.name) || (safetensors && IsGguf(file))) continue;
    taken.push_back(file);
  }
  return taken;
}

}  // namespace lode::hub

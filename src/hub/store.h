// The store: where pulled models live on this disk, and how they are found again. No network here.
//
//   HOME/models/ORG/NAME/SHA/...        the files of one revision, with the hub's names
//   HOME/models/ORG/NAME/SHA/.lode.json which of them are complete and verified
//   HOME/models/ORG/NAME/refs/REVISION  the SHA that a branch or tag had when it was pulled
//   HOME/models/ORG/NAME/.partial/SHA/  downloads in progress (hub/part_file.h)
//
// A file counts only once .lode.json lists it, and that is written when a pull is complete: half a
// model is never found. HOME is LODE_HOME, else $XDG_DATA_HOME/lode, else ~/.local/share/lode.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace lode::hub {

// "ORG/NAME" or "ORG/NAME:FILE".
struct ModelName {
  std::string organization;
  std::string name;
  std::string file;  // may be empty

  std::string Id() const { return organization + "/" + name; }
};

// Errors: kBadInput for anything else than letters, digits, '.', '_' and '-' in the first two
// parts, or a FILE that CheckFileName refuses.
Result<ModelName> ParseModelName(const std::string& text);
// Whether `text` has the form of a model name; a path that exists should be preferred to it.
bool LooksLikeModelName(const std::string& text);

// Refuses names that must not become paths: absolute, "..", backslashes, control characters, names
// that the store uses itself. Names from a server are not trusted.
Result<void> CheckFileName(const std::string& name);

struct StoredFile {
  std::string name;
  uint64_t size = 0;
  std::string hash;  // hex, SHA-256 or git's; empty when the hub named none
};

class Store {
 public:
  explicit Store(std::string home) : home_(std::move(home)) {}
  // The store of this user. Errors: kBadInput when neither LODE_HOME, XDG_DATA_HOME nor HOME is
  // set.
  static Result<Store> OfUser();

  const std::string& home() const { return home_; }
  std::string ModelFolder(const ModelName& model) const;
  std::string RevisionFolder(const ModelName& model, const std::string& sha) const;
  std::string PartialFolder(const ModelName& model, const std::string& sha) const;

  // The complete files of one revision; empty when there is none.
  std::vector<StoredFile> Files(const ModelName& model, const std::string& sha) const;
  // Adds complete files, which lie in the revision's folder already, and points `revision` there.
  Result<void> Add(const ModelName& model, const std::string& revision, const std::string& sha,
                   const std::vector<StoredFile>& files) const;

  // A local path that can be used as MODEL: the one .gguf file (of a split one the first part), or
  // the folder of a checkpoint. The revision: main if it was pulled, else the newest ref.
  // Errors: kNotFound with the pull command as the hint; kBadInput when there is a choice to make.
  Result<std::string> Find(const std::string& model) const;

 private:
  std::string home_;
};

// Store::OfUser().Find(model).
Result<std::string> FindInStore(const std::string& model);

// "model-00002-of-00005.gguf" -> "model-00001-of-00005.gguf"; other names are their own group.
std::string SplitGroup(const std::string& file);

}  // namespace lode::hub

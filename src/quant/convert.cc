#include "quant/convert.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "base/text.h"
#include "quant/pack.h"
#include "quant/work.h"
#include "tensor/blocks.h"

namespace lode::quant {
namespace {

using tensor::DType;

constexpr uint64_t kHuggingFaceShardBytes = 5'000'000'000;  // what transformers writes

Error Exists(const std::string& out) {
  return Error(Code::kBadInput, Quote(out, 300) + " is there already",
               "give another name, or --force to replace it");
}

bool IsEmptyFolder(const std::string& path) {
  std::error_code ignored;
  return IsFolder(path) && std::filesystem::is_empty(path, ignored);
}

Result<void> CheckType(const ConvertOptions& options, bool gguf) {
  if (!options.type.has_value()) return {};
  const bool fits = gguf ? tensor::CanEncode(*options.type) : IsFloatType(*options.type);
  if (fits) return {};
  return Error(Code::kUnsupported,
               std::string("cannot convert to ") + tensor::Name(*options.type) +
                   (gguf ? "" : " in a Hugging Face folder"),
               gguf ? "the types are " + Join(TypeNames(), ", ") : "the types are f32, f16, bf16");
}

// Folders are made under another name and renamed when they are whole.
class NewFolder {
 public:
  static Result<NewFolder> Create(const std::string& path, bool force) {
    NewFolder folder;
    folder.path_ = path;
    while (folder.path_.size() > 1 && folder.path_.back() == '/') folder.path_.pop_back();
    if (FileExists(folder.path_) && !IsEmptyFolder(folder.path_)) {
      if (!force) return Exists(path);
      // A slip of the finger must not cost a home folder.
      if (!FileExists(folder.path_ + "/config.json")) {
        return Error(Code::kBadInput,
                     Quote(path, 300) + " is no model folder, so --force does not replace it");
      }
    }
    folder.part_ = folder.path_ + ".part-" + std::to_string(::getpid());
    std::error_code error;
    std::filesystem::create_directories(folder.part_, error);
    if (error) return SystemError("cannot create the folder", folder.part_, error.value());
    return folder;
  }
  NewFolder(NewFolder&& other) noexcept
      : path_(std::move(other.path_)), part_(std::exchange(other.part_, {})) {}
  NewFolder& operator=(NewFolder&&) = delete;
  ~NewFolder() {
    std::error_code ignored;
    if (!part_.empty()) std::filesystem::remove_all(part_, ignored);
  }

  const std::string& part() const { return part_; }

  Result<void> Commit() {
    const std::string old = path_ + ".old-" + std::to_string(::getpid());
    const bool replace = FileExists(path_) && !IsEmptyFolder(path_);
    if (replace && ::rename(path_.c_str(), old.c_str()) != 0) {
      return SystemError("cannot replace", path_, errno);
    }
    if (::rename(part_.c_str(), path_.c_str()) != 0) {
      const int reason = errno;
      if (replace) ::rename(old.c_str(), path_.c_str());
      return SystemError("cannot rename to", path_, reason);
    }
    part_.clear();
    std::error_code ignored;
    if (replace) std::filesystem::remove_all(old, ignored);
    return {};
  }

 private:
  NewFolder() = default;
  std::string path_, part_;
};

Result<ConvertReport> ToGgufFile(const tensor::TensorSource& in, const std::string& out,
                                 const ConvertOptions& options) {
  if (IsFolder(out)) return Error(Code::kBadInput, Quote(out, 300) + " is a folder");
  if (FileExists(out) && !options.force) return Exists(out);
  ConvertReport report;
  if (const auto* hf = dynamic_cast<const formats::HfCheckpoint*>(&in)) {
    LODE_TRY(HuggingFaceToGguf(*hf, out, options, &report));
  } else if (const auto* gguf = dynamic_cast<const formats::GgufFile*>(&in)) {
    LODE_TRY(GgufToGguf(*gguf, out, options, &report));
  } else {
    return Error(Code::kUnsupported, in.path() + " is neither a GGUF nor a Hugging Face checkpoint");
  }
  return report;
}

Result<ConvertReport> ToFolder(const tensor::TensorSource& in, const std::string& out,
                               ConvertOptions options) {
  if (options.shard_bytes_max == 0) options.shard_bytes_max = kHuggingFaceShardBytes;
  LODE_ASSIGN(NewFolder folder, NewFolder::Create(out, options.force));
  ConvertReport report;
  if (const auto* gguf = dynamic_cast<const formats::GgufFile*>(&in)) {
    LODE_TRY(GgufToHuggingFace(*gguf, folder.part(), options, &report));
  } else if (const auto* hf = dynamic_cast<const formats::HfCheckpoint*>(&in)) {
    LODE_TRY(HuggingFaceToHuggingFace(*hf, folder.part(), options, &report));
  } else {
    return Error(Code::kUnsupported, in.path() + " is neither a GGUF nor a Hugging Face checkpoint");
  }
  LODE_TRY(folder.Commit());
  for (std::string& path : report.paths) {
    path = (std::filesystem::path(out) / std::filesystem::path(path).filename()).string();
  }
  return report;
}

}  // namespace

std::vector<std::string> TypeNames() {
  std::vector<std::string> names;
  for (const tensor::DTypeInfo& info : tensor::AllDTypes()) {
    if (tensor::CanEncode(info.dtype)) names.push_back(info.name);
  }
  return names;
}

Result<ConvertReport> Convert(const tensor::TensorSource& in, const std::string& out,
                              const ConvertOptions& options) {
  if (out.empty()) return Error(Code::kBadInput, "the name of the output is empty");
  LODE_TRY(CheckNotPacked(in));
  const bool gguf = EndsWith(out, ".gguf");
  LODE_TRY(CheckType(options, gguf));
  return gguf ? ToGgufFile(in, out, options) : ToFolder(in, out, options);
}

}  // namespace lode::quant

// A checkpoint as Hugging Face lays it out: a folder with config.json, weights in safetensors (one
// file, or shards with an index) and the files of the tokenizer. Knows which file holds what, not
// what a name means.
//
// Multimodal wrappers keep the text model's config under "llm_config" (or "text_config") and put
// "language_model." before its tensors: config() is then the text model's, the prefix is cut off, and
// every other tensor is left out.
//
// A mapped file that somebody truncates while it is in use ends the process with SIGBUS: sizes are
// compared once, at open. Replace model files by renaming, not by writing over them.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/result.h"
#include "tensor/source.h"

namespace lode::formats {

// Files of a checkpoint that is not on disk: plain name -> content.
using MemoryFiles = std::map<std::string, std::span<const std::byte>>;

// Life: owns its maps; views live as long as it. Threads: const, so any.
class HfCheckpoint final : public tensor::TensorSource {
 public:
  // `weights` names the index or the single safetensors file inside the folder; empty: found by the
  // usual names, model.safetensors.index.json before model.safetensors.
  // Errors name the folder; missing shards and missing tensors are all listed at once.
  static Result<std::unique_ptr<HfCheckpoint>> Open(const std::string& folder,
                                                    const std::string& weights = "");
  // The spans must outlive the object. `name` stands for the folder in messages.
  static Result<std::unique_ptr<HfCheckpoint>> FromMemory(MemoryFiles files,
                                                          const std::string& name);

  tensor::Naming naming() const override { return tensor::Naming::kHuggingFace; }
  const std::string& path() const override { return path_; }
  const Json& config() const override { return config_; }
  const std::vector<tensor::TensorInfo>& tensors() const override { return tensors_; }
  const tensor::TensorInfo* Find(std::string_view name) const override;
  tensor::TensorView View(const tensor::TensorInfo& info) const override;
  bool mapped() const override { return !in_memory_; }
  std::string WhyAbsent(std::string_view name) const override;

  // config.json as it stands; differs from config() for a multimodal wrapper.
  const Json& root_config() const { return root_config_.is_null() ? config_ : root_config_; }

  // The other files of the folder (tokenizer.json, tokenizer_config.json, chat_template.jinja,
  // generation_config.json, hf_quant_config.json ...), by plain name.
  bool HasFile(const std::string& name) const;
  Result<std::string> ReadFile(const std::string& name) const;
  // Bare Infinity and NaN, as Python writes them, are read as strings (JsonLimits::python_numbers).
  Result<Json> ReadJson(const std::string& name) const;

  // What is odd but harmless, a sentence each: tensors that the index does not map, and the like.
  const std::vector<std::string>& warnings() const { return warnings_; }

 private:
  HfCheckpoint() = default;
  static Result<std::unique_ptr<HfCheckpoint>> Load(std::unique_ptr<HfCheckpoint> checkpoint,
                                                    const std::string& weights);
  Result<void> LoadConfig();
  Result<void> LoadIndex(const std::string& index);
  Result<void> LoadSingle(const std::string& file);
  Result<std::span<const std::byte>> Map(const std::string& name);
  void AddTensor(tensor::TensorInfo info, int file);
  void Unwrap();
  std::string FilePath(const std::string& name) const;

  std::string path_;
  bool in_memory_ = false;
  MemoryFiles memory_;
  std::vector<std::unique_ptr<MappedFile>> maps_;
  std::vector<std::span<const std::byte>> files_;
  Json config_;
  Json root_config_;  // null unless config_ was nested in it
  std::vector<tensor::TensorInfo> tensors_;
  std::vector<int> tensor_file_;  // which of files_
  std::unordered_map<std::string_view, size_t> tensor_index_;  // keys: names in tensors_
  std::unordered_map<std::string, std::string> unreadable_;    // name -> dtype as written
  std::vector<std::string> warnings_;
};

}  // namespace lode::formats

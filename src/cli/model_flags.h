// Flags that several verbs share: which model, how it is run, how tokens are drawn.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "api/open.h"

namespace lode::cli {

struct ModelFlags {
  std::string model;
  std::string activations = "auto";
  std::string kv = "auto";
  std::string pin = "auto";
  api::RunOptions run;

  // For verbs that answer.
  void AddDrafts(CLI::App* verb);
  void AddTo(CLI::App* verb);
  // Without --context the caller may choose a size: `tokens_needed` if > 0.
  Result<api::Running> Open(std::shared_ptr<const tensor::TensorSource> source,
                            int64_t tokens_needed = 0);
};

struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p, typical_p;
  std::optional<double> repetition_penalty, frequency_penalty, presence_penalty;
  std::optional<int64_t> top_k;
  std::optional<uint64_t> seed;

  void AddTo(CLI::App* verb);
  // The checkpoint's defaults with what was asked for. Without --seed one is drawn.
  Result<runtime::SamplingOptions> Resolve(const runtime::SamplingOptions& defaults) const;
};

// "auto" or "off". Errors: kBadInput.
Result<Pin> ParsePin(const std::string& name);

// "1,2,3" (blanks allowed). Errors: kBadInput that names the item.
Result<std::vector<int32_t>> ParseTokenList(const std::string& text);

}  // namespace lode::cli

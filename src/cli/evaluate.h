// How well a model predicts a text, and how near its predictions are to another's: for `perplexity`
// and the reports of `quantize`. Counting is llama.cpp's: the text is cut into chunks of the
// context's size, each begins anew (with BOS in place of its first token when the tokenizer adds
// one), and of each chunk the predictions with at least half a context before them count.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "api/open.h"
#include "base/json.h"
#include "base/result.h"

namespace lode::cli {

struct EvalText {
  std::vector<int32_t> tokens;   // BOS first when the tokenizer adds it
  std::vector<int32_t> bytes;    // that each token stands for
  std::optional<int32_t> bos;    // what replaces a chunk's first token
};
// Special tokens written in the text are ordinary text.
Result<EvalText> ReadEvalText(const tensor::TensorSource& source, const std::string& file);

struct EvalOptions {
  int64_t context = 512;
  int64_t stride = 0;      // > 0: chunks begin every `stride` tokens and their last `stride` count
  int64_t chunks_max = 0;  // 0: all
};

struct Divergence {
  double mean = 0, error = 0;  // of KL(base || model) in nats, and the standard error of the mean
  double median = 0, p90 = 0, p99 = 0, max = 0;
  double same_top = 0, same_top_error = 0;  // share of tokens with the same likeliest one
  double base_perplexity = 0, log_ratio = 0, log_ratio_error = 0;  // of ln(perplexity / base's)
};

struct Evaluation {
  int64_t chunks = 0, predictions = 0, tokens = 0;  // tokens: run through the model
  double perplexity = 0, error = 0;  // with its standard error
  double bits_per_byte = 0;
  double seconds = 0, tokens_per_second = 0;  // of the model alone
  std::optional<Divergence> divergence;
};

// `base` may be null. Both must have the same vocabulary. `progress` is told the tokens done;
// returning false stops with kCancelled. Errors: kBadInput for a text shorter than one chunk, for
// vocabularies that differ; those of the engine.
Result<Evaluation> Evaluate(api::Running& model, api::Running* base, const EvalText& text,
                            const EvalOptions& options,
                            const std::function<bool(int64_t done, int64_t all)>& progress);

std::string EvaluationText(const Evaluation& evaluation);
Json EvaluationJson(const Evaluation& evaluation);

}  // namespace lode::cli

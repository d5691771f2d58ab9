#include "cli/model_flags.h"

#include <random>

#include "base/text.h"

namespace lode::cli {

void ModelFlags::AddTo(CLI::App* verb) {
  verb->add_option("MODEL", model,
                   "a .gguf file, a Hugging Face folder, 'demo', or a pulled ORG/NAME[:FILE]")
      ->required();
  verb->add_option("--threads", run.threads,
                   "threads to compute with (default: all cores we may use)")
      ->check(CLI::Range(1, 1024));
  verb->add_option("--pin", pin, "bind threads to cores where that cannot hurt: auto or off")
      ->type_name("TEXT:{auto,off}");
  verb->add_option("--context", run.context_tokens, "tokens of context to hold")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24));
  verb->add_option("--activations", activations,
                   "rounding of activations and KV cache: auto, bf16 or f32 (reference)")
      ->type_name("TEXT:{auto,bf16,f32}");
  verb->add_option("--kv", kv, "numbers of the KV cache: auto, bf16, f32 or int8 (half of bf16)")
      ->type_name("TEXT:{auto,bf16,f32,int8}");
}

void ModelFlags::AddDrafts(CLI::App* verb) {
  verb->add_option("--draft", run.drafts,
                   "guess up to so many tokens with the model's MTP head, or without one from "
                   "earlier text; same words, fewer steps where it pays")
      ->check(CLI::Range(int64_t{0}, int64_t{16}))
      ->capture_default_str();
}

Result<api::Running> ModelFlags::Open(std::shared_ptr<const tensor::TensorSource> source,
                                      int64_t tokens_needed) {
  LODE_ASSIGN(run.activations, api::ParseActivations(activations));
  LODE_ASSIGN(run.kv, api::ParseKv(kv));
  LODE_ASSIGN(run.pin, ParsePin(pin));
  if (run.context_tokens == 0) run.context_tokens = tokens_needed;
  return api::Run(std::move(source), run);
}

void SamplingFlags::AddTo(CLI::App* verb) {
  verb->add_option("--temp", temperature, "temperature; 0 takes the likeliest token")
      ->check(CLI::Range(0.0, 100.0));
  verb->add_option("--top-p", top_p, "keep the likeliest tokens up to this probability")
      ->check(CLI::Range(0.0, 1.0));
  verb->add_option("--top-k", top_k, "keep so many of the likeliest tokens; 0: all")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 31));
  verb->add_option("--min-p", min_p,
                   "keep tokens at least this likely, as a share of the likeliest")
      ->check(CLI::Range(0.0, 1.0));
  verb->add_option("--typical-p", typical_p,
                   "keep tokens of a typical surprise up to this probability")
      ->check(CLI::Range(0.0, 1.0));
  verb->add_option("--repetition-penalty", repetition_penalty,
                   "above 1: tokens that are in the text already become less likely");
  verb->add_option("--frequency-penalty", frequency_penalty,
                   "taken off a token's logit for each time it is in the answer");
  verb->add_option("--presence-penalty", presence_penalty,
                   "taken off a token's logit once it is in the answer");
  verb->add_option("--seed", seed, "the same seed gives the same text");
}

Result<runtime::SamplingOptions> SamplingFlags::Resolve(
    const runtime::SamplingOptions& defaults) const {
  runtime::SamplingOptions options = defaults;
  if (temperature) options.temperature = *temperature;
  if (top_p) options.top_p = *top_p;
  if (top_k) options.top_k = *top_k;
  if (min_p) options.min_p = *min_p;
  if (typical_p) options.typical_p = *typical_p;
  if (repetition_penalty) options.repetition_penalty = *repetition_penalty;
  if (frequency_penalty) options.frequency_penalty = *frequency_penalty;
  if (presence_penalty) options.presence_penalty = *presence_penalty;
  if (seed) {
    options.seed = *seed;
  } else {
    std::random_device device;
    options.seed = uint64_t{device()} << 32 | device();
  }
  return options;
}

Result<Pin> ParsePin(const std::string& name) {
  if (name == "auto") return Pin::kAuto;
  if (name == "off") return Pin::kOff;
  return Error(Code::kBadInput, "--pin has no mode " + Quote(name), "take auto or off");
}

Result<std::vector<int32_t>> ParseTokenList(const std::string& text) {
  std::vector<int32_t> tokens;
  std::string item;
  for (size_t i = 0; i <= text.size(); ++i) {
    const char c = i < text.size() ? text[i] : ',';
    if (c == ' ' || c == '\n' || c == '\t' || c == '\r') continue;
    if (c != ',') {
      item += c;
      continue;
    }
    int64_t id = 0;
    if (!ParseInt64(item, &id) || id < 0 || id > INT32_MAX) {
      return Error(Code::kBadInput, Quote(item) + " is not a token id", "write ids as 1,2,3");
    }
    tokens.push_back(static_cast<int32_t>(id));
    item.clear();
  }
  return tokens;
}

}  // namespace lode::cli

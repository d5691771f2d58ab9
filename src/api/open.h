// MODEL -> tensors, text tools, a running engine. MODEL is a .gguf file, a Hugging Face folder,
// `demo` (embedded in the program), or ORG/NAME[:FILE] that was pulled before.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "model/bind.h"
#include "model/packer.h"
#include "runtime/engine.h"
#include "runtime/sampling/sampler.h"
#include "tensor/source.h"
#include "text/template/chat_template.h"
#include "text/tokenizer/tokenizer.h"

namespace lode::api {

// Errors: what the formats say; for a name that is neither a path nor in the store, what to do.
Result<std::shared_ptr<const tensor::TensorSource>> OpenSource(const std::string& model);

// Everything about text that a checkpoint carries.
struct TextTools {
  std::unique_ptr<text::Tokenizer> tokenizer;
  std::string template_source;                          // empty: the checkpoint has none
  std::unique_ptr<text::ChatTemplate> chat_template;    // null: none
  std::string bos, eos;                                 // as text, may be empty
  std::vector<int32_t> stop_ids;
  runtime::SamplingOptions sampling;                    // the checkpoint's defaults, else greedy
  std::vector<std::string> warnings;
};
Result<TextTools> OpenText(const tensor::TensorSource& source);
// Only the tokenizer, for verbs that need nothing else.
Result<std::unique_ptr<text::Tokenizer>> OpenTokenizer(const tensor::TensorSource& source);
// Only the template: its source, and the texts of BOS and EOS.
struct TemplateSource {
  std::string source, bos, eos;
};
Result<TemplateSource> OpenTemplate(const tensor::TensorSource& source);

enum class ActivationMode { kAuto, kBF16, kF32 };
// The mode's name, as flags spell it. Errors: the list of names.
Result<ActivationMode> ParseActivations(const std::string& name);

const char* Name(kernels::KvType type);  // as --kv spells it
// "auto" (none), "bf16", "f32" or "int8". Errors: the list of names.
Result<std::optional<kernels::KvType>> ParseKv(const std::string& name);

struct RunOptions {
  int threads = 0;             // 0: the cores we may use
  Pin pin = Pin::kAuto;        // bind them to cores where that cannot hurt
  int64_t context_tokens = 0;  // 0: DefaultContext
  int64_t agents = 1;          // sequences at once
  int64_t kept_states = 0;     // room for so many more, to go on from later
  uint64_t cache_bytes = 0;    // and so many bytes of pages and states
  int64_t rows_max = 0;        // rows of a step; 0: a default
  int64_t drafts = 0;          // tokens that a step may guess for each sequence
  ActivationMode activations = ActivationMode::kAuto;
  std::optional<kernels::KvType> kv;  // the cache's numbers; none: what `activations` says
  // Bring the weights into the form that is fastest, in the background, when memory allows.
  bool pack = true;
};

// What `auto` means for a model. f32 and bf16 are what they say, KV cache included. auto rounds the
// inputs of a product as its weight's type is fastest with (8-bit whole numbers for quantized
// weights, bfloat16 for BF16 and FP8, none for F32) and keeps the KV cache in f32, or in bf16 when
// the weights themselves are no finer (BF16 or quantized).
model::Numerics NumericsFor(ActivationMode mode, bool quantized, bool any_bf16);

// Everything resolved: no "auto" is left.
runtime::EngineOptions EngineOptionsFor(const model::ModelSpec& spec, bool quantized, bool any_bf16,
                                        const RunOptions& options);

// Lets the model's routed experts run fused where they can: less workspace.
void FuseExperts(const model::Model& model, runtime::EngineOptions* options);

// A model ready to run.
// Life: the engine refers to the model; both go with this.
struct Running {
  std::shared_ptr<const tensor::TensorSource> source;
  std::unique_ptr<model::Model> model;
  runtime::EngineOptions options;
  std::unique_ptr<model::Packer> packer;  // null: nothing is packed
  std::unique_ptr<runtime::Engine> engine;

  // Waits until all matrices are packed; for whoever measures.
  void FinishPacking() {
    if (packer != nullptr) packer->Finish();
  }
};
// Errors: also kNoSpace when the plan does not fit the memory that is left, with both numbers.
Result<Running> Run(std::shared_ptr<const tensor::TensorSource> source, const RunOptions& options);

// What a run takes, before anything is loaded, in bytes.
struct MemoryPlan {
  uint64_t weights = 0;        // matrices, mapped from the file
  uint64_t packed = 0;         // matrices that are packed while the model runs, instead of mapped
  uint64_t other_tensors = 0;  // mapped too: small tensors, scales, what the model does not use
  uint64_t headers = 0;        // of the files, in front of their tensors
  uint64_t vectors = 0;        // small tensors, decoded
  uint64_t workspace = 0;      // activations and scratch
  uint64_t states = 0;         // pages and slots
  uint64_t logits = 0;         // a row for each sequence, and the sampler's own
  // Measured by who makes the plan, not computed: zero from PlanMemory.
  uint64_t text = 0;           // heap of tokenizer, template, metadata
  uint64_t program = 0;        // code and libraries
  uint64_t page_tokens = 0, page_bytes = 0, slot_bytes = 0;

  uint64_t mapped() const { return weights + other_tensors + headers; }
  uint64_t total() const {
    return mapped() + packed + vectors + workspace + states + logits + text + program;
  }
};
// With `pack` as a run with RunOptions::pack ends up.
MemoryPlan PlanMemory(const model::Model& model, const runtime::EngineOptions& options,
                      bool pack = true);

}  // namespace lode::api

#include "api/open.h"

#include <algorithm>
#include <map>

#include "api/demo.h"
#include "base/file.h"
#include "base/text.h"
#include "base/topology.h"
#include "formats/gguf.h"
#include "formats/hf_checkpoint.h"
#include "formats/open.h"
#include "hub/store.h"
#include "runtime/mtp_drafts.h"

namespace lode::api {
namespace {

using formats::GgufFile;
using formats::HfCheckpoint;
using tensor::TensorSource;

constexpr int64_t kContextDefault = 8192;  // tokens, unless the model claims less
constexpr int64_t kRowsDefault = 512;      // rows of a step: experts want many tokens each

Result<text::GgufVocab> VocabOf(const GgufFile& file) {
  text::GgufVocab vocab;
  const auto text = [&](const char* key) {
    const auto value = file.GetString(key);
    return value.ok() ? std::string(*value) : std::string();
  };
  const auto strings = [&](const char* key, std::vector<std::string>* out) -> Result<void> {
    if (!file.Has(key)) return {};
    LODE_ASSIGN(const auto views, file.GetStrings(key));
    out->assign(views.begin(), views.end());
    return {};
  };
  const auto id = [&](const char* key) -> std::optional<int64_t> {
    const auto value = file.GetInt(std::string("tokenizer.ggml.") + key);
    return value.ok() ? std::optional<int64_t>(*value) : std::nullopt;
  };
  const auto flag = [&](const char* key) -> std::optional<bool> {
    const auto value = file.GetBool(std::string("tokenizer.ggml.") + key);
    return value.ok() ? std::optional<bool>(*value) : std::nullopt;
  };
  vocab.model = text("tokenizer.ggml.model");
  vocab.pre = text("tokenizer.ggml.pre");
  vocab.huggingface_json = text("tokenizer.huggingface.json");
  LODE_TRY(strings("tokenizer.ggml.tokens", &vocab.tokens));
  LODE_TRY(strings("tokenizer.ggml.merges", &vocab.merges));
  if (file.Has("tokenizer.ggml.token_type")) {
    LODE_ASSIGN(const auto types, file.GetInts("tokenizer.ggml.token_type"));
    vocab.token_types.assign(types.begin(), types.end());
  }
  vocab.bos = id("bos_token_id");
  vocab.eos = id("eos_token_id");
  vocab.eot = id("eot_token_id");
  vocab.eom = id("eom_token_id");
  vocab.unk = id("unknown_token_id");
  vocab.pad = id("padding_token_id");
  vocab.add_bos = flag("add_bos_token");
  vocab.add_eos = flag("add_eos_token");
  return vocab;
}

// A special token in tokenizer_config.json: a string, or an object with "content".
std::string TokenText(const Json& config, const char* key) {
  const Json* value = FindKey(config, key);
  if (value == nullptr) return "";
  return value->is_object() ? GetString(*value, "content") : GetString(config, key);
}

// The template named "default" of a string or a list of {name, template}.
std::string TemplateOf(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return "";
  for (const Json& item : value) {
    if (GetString(item, "name") == "default") return GetString(item, "template");
  }
  return "";
}

// An id, or a list of ids, under `key`.
void AddIds(const Json& config, const char* key, std::vector<int32_t>* ids) {
  const Json* value = FindKey(config, key);
  if (value == nullptr) return;
  const auto add = [&](const Json& item) {
    if (item.is_number_integer() && item.get<int64_t>() >= 0 && item.get<int64_t>() <= INT32_MAX) {
      ids->push_back(static_cast<int32_t>(item.get<int64_t>()));
    }
  };
  if (value->is_array()) {
    for (const Json& item : *value) add(item);
  } else {
    add(*value);
  }
}

// generation_config.json's sampling: what transformers would do with it.
runtime::SamplingOptions SamplingOf(const Json& config) {
  runtime::SamplingOptions sampling;
  const bool has_temperature = FindKey(config, "temperature") != nullptr;
  if (!GetBool(config, "do_sample", has_temperature)) return sampling;
  sampling.temperature = std::max(0.0, GetDouble(config, "temperature", 1.0));
  sampling.top_p = GetDouble(config, "top_p", 1.0);
  sampling.top_k = GetInt(config, "top_k", 0);
  sampling.min_p = GetDouble(config, "min_p", 0.0);
  return sampling;
}

Result<Json> OptionalJson(const HfCheckpoint& checkpoint, const char* name) {
  if (!checkpoint.HasFile(name)) return Json::object();
  return checkpoint.ReadJson(name);
}

// Maps the pages in now, so that the first tokens do not pay for it and memory is what the plan
// says. Left alone when the file would not fit the memory: then the system pages as it can.
void PopulateWeights(const model::Model& model) {
  if (model.weight_bytes > AvailableMemoryBytes()) return;
  model::PopulateFile(*model.source);
}

}  // namespace

Result<std::shared_ptr<const TensorSource>> OpenSource(const std::string& model) {
  if (model == "demo") {
    LODE_ASSIGN(auto source, formats::OpenHfFromMemory(DemoFiles(), "demo"));
    return std::shared_ptr<const TensorSource>(std::move(source));
  }
  std::string path = model;
  if (!FileExists(model)) {
    if (!hub::LooksLikeModelName(model)) {
      return Error(Code::kNotFound, "there is no model at " + Quote(model, 300),
                   "MODEL is a .gguf file, a Hugging Face folder, 'demo', or ORG/NAME after "
                   "'lode pull ORG/NAME'");
    }
    LODE_ASSIGN(path, hub::FindInStore(model));
  }
  LODE_ASSIGN(auto source, formats::OpenSource(path));
  return std::shared_ptr<const TensorSource>(std::move(source));
}

Result<std::unique_ptr<text::Tokenizer>> OpenTokenizer(const TensorSource& source) {
  if (const auto* gguf = dynamic_cast<const GgufFile*>(&source)) {
    LODE_ASSIGN(const text::GgufVocab vocab, VocabOf(*gguf));
    auto tokenizer = text::Tokenizer::FromGguf(vocab);
    if (!tokenizer.ok()) tokenizer.error().AddContext(source.path());
    return tokenizer;
  }
  const auto* checkpoint = dynamic_cast<const HfCheckpoint*>(&source);
  if (checkpoint == nullptr || !checkpoint->HasFile("tokenizer.json")) {
    return Error(Code::kNotFound, source.path() + ": tokenizer.json is missing",
                 "copy it from the checkpoint's repository");
  }
  LODE_ASSIGN(const std::string json, checkpoint->ReadFile("tokenizer.json"));
  std::string config;
  if (checkpoint->HasFile("tokenizer_config.json")) {
    LODE_ASSIGN(config, checkpoint->ReadFile("tokenizer_config.json"));
  }
  auto tokenizer = text::Tokenizer::FromHuggingFace(json, config);
  if (!tokenizer.ok()) tokenizer.error().AddContext(source.path());
  return tokenizer;
}

Result<TemplateSource> OpenTemplate(const TensorSource& source) {
  TemplateSource found;
  if (const auto* gguf = dynamic_cast<const GgufFile*>(&source)) {
    const auto text = gguf->GetString("tokenizer.chat_template");
    if (text.ok()) found.source = std::string(*text);
    const auto tokens = gguf->GetStrings("tokenizer.ggml.tokens");
    const auto token = [&](const char* key) -> std::string {
      const auto id = gguf->GetInt(key);
      if (!id.ok() || !tokens.ok() || *id < 0 || *id >= static_cast<int64_t>(tokens->size())) {
        return "";
      }
      return std::string((*tokens)[static_cast<size_t>(*id)]);
    };
    found.bos = token("tokenizer.ggml.bos_token_id");
    found.eos = token("tokenizer.ggml.eos_token_id");
    return found;
  }
  const auto* checkpoint = dynamic_cast<const HfCheckpoint*>(&source);
  if (checkpoint == nullptr) return found;
  LODE_ASSIGN(const Json config, OptionalJson(*checkpoint, "tokenizer_config.json"));
  found.bos = TokenText(config, "bos_token");
  found.eos = TokenText(config, "eos_token");
  if (checkpoint->HasFile("chat_template.jinja")) {
    LODE_ASSIGN(found.source, checkpoint->ReadFile("chat_template.jinja"));
  } else if (checkpoint->HasFile("chat_template.json")) {
    LODE_ASSIGN(const Json json, checkpoint->ReadJson("chat_template.json"));
    if (const Json* value = FindKey(json, "chat_template")) found.source = TemplateOf(*value);
  } else if (const Json* value = FindKey(config, "chat_template")) {
    found.source = TemplateOf(*value);
  }
  return found;
}

Result<TextTools> OpenText(const TensorSource& source) {
  TextTools tools;
  LODE_ASSIGN(tools.tokenizer, OpenTokenizer(source));
  tools.warnings = tools.tokenizer->warnings();
  LODE_ASSIGN(TemplateSource found, OpenTemplate(source));
  tools.template_source = std::move(found.source);
  tools.bos = std::move(found.bos);
  tools.eos = std::move(found.eos);
  if (!tools.template_source.empty()) {
    auto parsed = text::ChatTemplate::Parse(tools.template_source);
    if (!parsed.ok()) {
      // The model can still complete text; chatting says why it cannot.
      tools.warnings.push_back("the chat template is broken: " + parsed.error().ToString());
    } else {
      tools.chat_template = std::move(*parsed);
    }
  }
  if (const auto* checkpoint = dynamic_cast<const HfCheckpoint*>(&source)) {
    LODE_ASSIGN(const Json generation, OptionalJson(*checkpoint, "generation_config.json"));
    tools.sampling = SamplingOf(generation);
    AddIds(generation, "eos_token_id", &tools.stop_ids);
    if (tools.stop_ids.empty()) AddIds(checkpoint->config(), "eos_token_id", &tools.stop_ids);
  } else if (const auto* gguf = dynamic_cast<const GgufFile*>(&source)) {
    const auto temperature = gguf->GetFloat("general.sampling.temp");
    if (temperature.ok()) {
      tools.sampling.temperature = *temperature;
      const auto top_p = gguf->GetFloat("general.sampling.top_p");
      const auto top_k = gguf->GetInt("general.sampling.top_k");
      const auto min_p = gguf->GetFloat("general.sampling.min_p");
      if (top_p.ok()) tools.sampling.top_p = *top_p;
      if (top_k.ok()) tools.sampling.top_k = *top_k;
      if (min_p.ok()) tools.sampling.min_p = *min_p;
    }
  }
  if (tools.stop_ids.empty()) tools.stop_ids = tools.tokenizer->stop_ids();
  if (tools.stop_ids.empty() && tools.tokenizer->eos_id()) {
    tools.stop_ids.push_back(*tools.tokenizer->eos_id());
  }
  return tools;
}

Result<ActivationMode> ParseActivations(const std::string& name) {
  if (name == "auto") return ActivationMode::kAuto;
  if (name == "bf16") return ActivationMode::kBF16;
  if (name == "f32") return ActivationMode::kF32;
  return Error(Code::kBadInput, "--activations has no mode " + Quote(name),
               "take auto, bf16 or f32");
}

const char* Name(kernels::KvType type) {
  if (type == kernels::KvType::kF32) return "f32";
  return type == kernels::KvType::kBF16 ? "bf16" : "int8";
}

Result<std::optional<kernels::KvType>> ParseKv(const std::string& name) {
  if (name == "auto") return std::optional<kernels::KvType>();
  for (const auto type :
       {kernels::KvType::kF32, kernels::KvType::kBF16, kernels::KvType::kInt8}) {
    if (name == Name(type)) return std::optional(type);
  }
  return Error(Code::kBadInput, "--kv has no type " + Quote(name),
               "take auto, bf16, f32 or int8");
}

model::Numerics NumericsFor(ActivationMode mode, bool quantized, bool any_bf16) {
  switch (mode) {
    case ActivationMode::kF32:
      return {model::Activations::kF32, kernels::KvType::kF32};
    case ActivationMode::kBF16:
      return {model::Activations::kBF16, kernels::KvType::kBF16};
    case ActivationMode::kAuto:
      break;
  }
  return {model::Activations::kNative,
          quantized || any_bf16 ? kernels::KvType::kBF16 : kernels::KvType::kF32};
}

runtime::EngineOptions EngineOptionsFor(const model::ModelSpec& spec, bool quantized, bool any_bf16,
                                        const RunOptions& options) {
  runtime::EngineOptions resolved;
  resolved.numerics = NumericsFor(options.activations, quantized, any_bf16);
  if (options.kv) resolved.numerics.kv = *options.kv;
  resolved.threads = options.threads > 0 ? options.threads : UsableCores();
  resolved.pin = options.pin;
  resolved.sequences_max = std::max<int64_t>(1, options.agents);
  const int64_t claimed = spec.context_max > 0 ? spec.context_max : kContextDefault;
  const int64_t each =
      options.context_tokens > 0 ? options.context_tokens : std::min(kContextDefault, claimed);
  resolved.context_tokens = each * resolved.sequences_max;
  resolved.sequence_tokens_max = each;
  resolved.cache_bytes =
      options.cache_bytes +
      static_cast<uint64_t>(options.kept_states) *
      runtime::FramePool::Stride(runtime::Engine::SlotBytes(spec, resolved.numerics), true);
  resolved.trial_rows_max = options.drafts > 0 ? 1 + options.drafts : 0;
  resolved.rows_max = options.rows_max > 0 ? options.rows_max : std::min(kRowsDefault, each);
  return resolved;
}

void FuseExperts(const model::Model& model, runtime::EngineOptions* options) {
  options->numerics.fused_experts =
      options->numerics.activations == model::Activations::kNative && model::CanFuseExperts(model);
}

MemoryPlan PlanMemory(const model::Model& model, const runtime::EngineOptions& options, bool pack) {
  MemoryPlan plan;
  plan.weights = model.weight_bytes;
  uint64_t tensors = 0;
  std::map<std::string, uint64_t> headers;  // by file: where its first tensor begins
  for (const tensor::TensorInfo& info : model.source->tensors()) {
    tensors += info.bytes;
    const auto [at, is_new] = headers.emplace(info.file, info.file_offset);
    if (!is_new) at->second = std::min(at->second, info.file_offset);
  }
  plan.other_tensors = tensors - std::min(tensors, plan.weights);
  for (const auto& [file, bytes] : headers) plan.headers += bytes;
  if (pack && options.numerics.activations == model::Activations::kNative) {
    const model::Packer::Size size = model::Packer::SizeOf(model);
    plan.packed = size.packed;
    plan.weights -= std::min(plan.weights, size.replaced);
  }
  const int64_t logit_rows = options.sequences_max * std::max<int64_t>(1, options.trial_rows_max);
  plan.logits = static_cast<uint64_t>(logit_rows * model.spec.vocabulary) * sizeof(float) +
                runtime::Sampler::Bytes(model.spec.vocabulary);
  if (options.trial_rows_max > 0) {
    plan.logits += runtime::MtpDrafts::Bytes(model.spec, options.sequences_max);
  }
  plan.vectors = model.vector_bytes;
  plan.workspace =
      model::Workspace::Bytes(model.spec, options.numerics, options.rows_max, options.threads);
  plan.states = runtime::Engine::Bytes(model.spec, options) - plan.workspace;
  const model::StateLayout layout = model::MakeStateLayout(model.spec, options.numerics);
  plan.page_tokens = kernels::kPageTokens;
  plan.page_bytes = layout.page_bytes + layout.mtp_page_bytes;
  plan.slot_bytes = runtime::Engine::SlotBytes(model.spec, options.numerics);
  return plan;
}

Result<Running> Run(std::shared_ptr<const TensorSource> source, const RunOptions& options) {
  Running running;
  running.source = source;
  LODE_ASSIGN(running.model, model::Bind(std::move(source)));
  running.options = EngineOptionsFor(running.model->spec, running.model->quantized,
                                     running.model->any_bf16, options);
  FuseExperts(*running.model, &running.options);
  // Mapped weights can be paged out again; everything else must fit.
  const MemoryPlan plan = PlanMemory(*running.model, running.options, options.pack);
  const uint64_t available = AvailableMemoryBytes();
  const uint64_t needed = plan.total() - plan.mapped() - plan.packed;
  if (needed > available) {
    return Error(Code::kNoSpace,
                 running.source->path() + ": needs " + HumanBytesBinary(needed) +
                     " besides its weights, but " + HumanBytesBinary(available) + " are free",
                 "lower --context or --agents; 'lode inspect MODEL --plan' shows the sum");
  }
  LODE_TRY(runtime::Engine::CheckRoom(running.model->spec, running.options));
  running.engine = std::make_unique<runtime::Engine>(*running.model, running.options);
  if (plan.packed > 0 && needed + plan.packed <= available) {
    running.packer = std::make_unique<model::Packer>(running.model.get());
    running.engine->BetweenLayers([packer = running.packer.get()] { packer->Adopt(); });
  } else {
    PopulateWeights(*running.model);
  }
  return running;
}

}  // namespace lode::api

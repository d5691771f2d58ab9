// lode inspect: what a model is, whether it is sound, and what memory it takes. Binding maps the files
// and reads the small tensors; the large ones are only looked at by --check.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "base/topology.h"
#include "cli/console.h"
#include "cli/model_flags.h"
#include "cli/verbs.h"
#include "formats/gguf.h"
#include "formats/hf_checkpoint.h"
#include "kernels/panel.h"
#include "model/config.h"
#include "model/tensors.h"

namespace lode::cli {
namespace {

using tensor::TensorInfo;
using tensor::TensorSource;

struct Flags {
  ModelFlags model;
  bool tensors = false, check = false, plan = false, json = false;
};

// Everything that was found out; what could not be is an error or a warning.
struct Findings {
  std::shared_ptr<const TensorSource> source;
  std::optional<model::ModelSpec> spec;
  std::unique_ptr<model::Model> model;
  std::optional<Error> why_not;  // the model cannot run
  std::optional<api::TextTools> text;
  std::string why_no_text;
  uint64_t program_bytes = 0;  // resident before anything was opened
  uint64_t text_bytes = 0;     // heap that tokenizer, template and metadata took
  std::vector<std::string> warnings;
};

std::string Number(int64_t n) {
  return WithThousands(static_cast<uint64_t>(std::max<int64_t>(0, n)));
}

uint64_t HeapBytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

uint64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

Result<Findings> Find(const Flags& flags) {
  Findings found;
  found.program_bytes = ResidentBytes();
  const uint64_t heap = HeapBytes();
  LODE_ASSIGN(found.source, api::OpenSource(flags.model.model));
  auto text = api::OpenText(*found.source);
  found.text_bytes = HeapBytes() - std::min(heap, HeapBytes());
  if (text.ok()) {
    found.text = std::move(*text);
    found.warnings = found.text->warnings;
  } else {
    found.why_no_text = text.error().ToString();
  }
  if (const auto* folder = dynamic_cast<const formats::HfCheckpoint*>(found.source.get())) {
    found.warnings.insert(found.warnings.end(), folder->warnings().begin(),
                          folder->warnings().end());
  }
  auto spec = model::ReadSpec(*found.source);
  if (!spec.ok()) {
    found.why_not = spec.error();
    return found;
  }
  found.spec = std::move(*spec);
  auto bound = model::Bind(found.source);
  if (bound.ok()) {
    found.model = std::move(*bound);
  } else {
    found.why_not = bound.error();
  }
  if (found.text && found.text->tokenizer->vocab_size() > found.spec->vocabulary) {
    found.warnings.push_back(Format("the tokenizer has %d ids, the model only %lld rows",
                                    found.text->tokenizer->vocab_size(),
                                    static_cast<long long>(found.spec->vocabulary)));
  }
  return found;
}

// --- What it is ------------------------------------------------------------------------------------

std::string FormatOf(const TensorSource& source) {
  std::set<std::string> files;
  for (const TensorInfo& info : source.tensors()) files.insert(info.file);
  const std::string count = Format("%zu file%s", files.size(), files.size() == 1 ? "" : "s");
  if (const auto* gguf = dynamic_cast<const formats::GgufFile*>(&source)) {
    return Format("GGUF version %d, ", gguf->version()) + count;
  }
  return "Hugging Face, safetensors, " + count;
}

Json TypesOf(const TensorSource& source) {
  struct Sum {
    int64_t tensors = 0, elements = 0;
    uint64_t bytes = 0;
    bool plain = false;  // a quantized type without kernels of its own
  };
  std::map<std::string, Sum> sums;
  for (const TensorInfo& info : source.tensors()) {
    Sum& sum = sums[tensor::Name(info.dtype)];
    int64_t elements = 0;
    tensor::CountElements(info.shape, &elements);
    kernels::Weight weight;
    weight.dtype = info.dtype;
    sum.plain = tensor::Info(info.dtype).weights && tensor::Info(info.dtype).block_elements > 1 &&
                kernels::PanelFormatOf(weight) == kernels::PanelFormat::kNone;
    ++sum.tensors;
    sum.elements += elements;
    sum.bytes += info.bytes;
  }
  std::vector<std::pair<std::string, Sum>> sorted(sums.begin(), sums.end());
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.second.bytes > b.second.bytes; });
  Json types = Json::array();
  for (const auto& [name, sum] : sorted) {
    types.push_back({{"type", name},
                     {"tensors", sum.tensors},
                     {"elements", sum.elements},
                     {"bytes", sum.bytes},
                     {"plain_decoding", sum.plain}});
  }
  return types;
}

uint64_t TensorBytes(const TensorSource& source) {
  uint64_t bytes = 0;
  for (const TensorInfo& info : source.tensors()) bytes += info.bytes;
  return bytes;
}

// What the tensors show and what the files say of it.
Json QuantizationOf(const TensorSource& source) {
  Json json = Json::object();
  int64_t nvfp4 = 0, fp8 = 0, blocks = 0, kv_scales = 0;
  for (const TensorInfo& info : source.tensors()) {
    const tensor::DTypeInfo& type = tensor::Info(info.dtype);
    if (EndsWith(info.name, ".weight_scale_2")) ++nvfp4;
    if (EndsWith(info.name, ".weight") && info.dtype == tensor::DType::kF8E4M3) ++fp8;
    if (EndsWith(info.name, ".k_scale") || EndsWith(info.name, ".v_scale")) ++kv_scales;
    if (type.weights && type.block_elements > 1) ++blocks;
  }
  if (nvfp4 > 0) json["nvfp4_modules"] = nvfp4;
  if (fp8 > 0) json["fp8_modules"] = fp8;
  if (blocks > 0) json["block_tensors"] = blocks;
  if (kv_scales > 0) json["kv_scales"] = kv_scales;
  const auto note = [&](const Json& config) {
    for (const char* key : {"quant_method", "quant_algo", "kv_cache_quant_algo"}) {
      const std::string value = GetString(config, key);
      if (!value.empty()) json[key] = value;
    }
  };
  if (const Json* config = FindKey(source.config(), "quantization_config")) note(*config);
  if (const auto* folder = dynamic_cast<const formats::HfCheckpoint*>(&source)) {
    if (folder->HasFile("hf_quant_config.json")) {
      const auto config = folder->ReadJson("hf_quant_config.json");
      if (config.ok()) {
        if (const Json* quantization = FindKey(*config, "quantization")) note(*quantization);
      }
    }
  }
  return json;
}

Json LayersJson(const model::ModelSpec& spec) {
  Json json;
  json["count"] = spec.layers.size();
  for (const auto kind : {model::BlockKind::kMamba2, model::BlockKind::kAttention,
                          model::BlockKind::kMlp, model::BlockKind::kMoe}) {
    json[model::Name(kind)] = CountLayers(spec, kind);
  }
  return json;
}

// Widths of the first layer of each kind; layers of one kind hardly ever differ, and --tensors shows it.
Json BlocksJson(const model::ModelSpec& spec) {
  Json json = Json::object();
  for (const auto* layers : {&spec.layers, &spec.mtp}) {
    for (const model::LayerSpec& layer : *layers) {
      const char* name = model::Name(layer.kind);
      if (json.contains(name)) continue;
      switch (layer.kind) {
        case model::BlockKind::kMamba2:
          json[name] = {{"heads", layer.mamba2.heads},
                        {"head_dim", layer.mamba2.head_dim},
                        {"groups", layer.mamba2.groups},
                        {"state", layer.mamba2.state},
                        {"taps", layer.mamba2.taps}};
          break;
        case model::BlockKind::kAttention:
          json[name] = {{"heads", layer.attention.heads},
                        {"kv_heads", layer.attention.kv_heads},
                        {"head_dim", layer.attention.head_dim}};
          break;
        case model::BlockKind::kMlp:
          json[name] = {{"width", layer.mlp.width}};
          break;
        case model::BlockKind::kMoe:
          json[name] = {{"experts", layer.moe.experts},
                        {"per_token", layer.moe.top_k},
                        {"width", layer.moe.width},
                        {"latent", layer.moe.latent},
                        {"shared_width", layer.moe.shared_width}};
          break;
      }
    }
  }
  return json;
}

Json TokenJson(const text::Tokenizer& tokenizer, std::optional<int32_t> id) {
  if (!id) return nullptr;
  return {{"id", *id}, {"text", std::string(tokenizer.TokenText(*id))}};
}

Json TextJson(const Findings& found) {
  if (!found.text) return {{"error", found.why_no_text}};
  const text::Tokenizer& tokenizer = *found.text->tokenizer;
  Json json;
  json["tokens"] = tokenizer.vocab_size();
  json["bos"] = TokenJson(tokenizer, tokenizer.bos_id());
  json["eos"] = TokenJson(tokenizer, tokenizer.eos_id());
  json["pad"] = TokenJson(tokenizer, tokenizer.pad_id());
  json["unk"] = TokenJson(tokenizer, tokenizer.unk_id());
  json["stop"] = Json::array();
  for (const int32_t id : found.text->stop_ids) json["stop"].push_back(TokenJson(tokenizer, id));
  json["special"] = 0;
  int64_t special = 0;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) special += tokenizer.IsSpecial(id);
  json["special"] = special;
  return json;
}

Json Describe(const Findings& found) {
  const TensorSource& source = *found.source;
  Json json;
  json["path"] = source.path();
  json["format"] = FormatOf(source);
  if (found.spec) {
    const model::ModelSpec& spec = *found.spec;
    const model::TensorTotals totals = model::CountTensors(spec);
    json["family"] = spec.family;
    json["name"] = spec.name;
    json["pattern"] = model::PatternOf(spec);
    json["layers"] = LayersJson(spec);
    json["mtp_layers"] = spec.mtp.size();
    json["width"] = spec.width;
    json["vocabulary"] = spec.vocabulary;
    json["context"] = spec.context_max;
    json["tied_head"] = spec.tied_head;
    json["blocks"] = BlocksJson(spec);
    json["parameters"] = {{"total", totals.parameters},
                          {"without_mtp", totals.parameters - totals.mtp_parameters},
                          {"mtp", totals.mtp_parameters},
                          {"active", totals.active}};
    json["bits_per_weight"] = static_cast<double>(TensorBytes(source)) * 8.0 /
                              static_cast<double>(std::max<int64_t>(1, totals.parameters));
  }
  json["tensor_count"] = source.tensors().size();
  json["tensor_bytes"] = TensorBytes(source);
  json["types"] = TypesOf(source);
  json["quantization"] = QuantizationOf(source);
  json["tokenizer"] = TextJson(found);
  json["chat_template"] = found.text && found.text->chat_template != nullptr;
  json["warnings"] = found.warnings;
  if (found.why_not) json["error"] = found.why_not->ToString();
  return json;
}

// --- Printing --------------------------------------------------------------------------------------

void Line(const char* label, const std::string& text) {
  if (!text.empty()) Print(Format("  %-13s %s\n", label, text.c_str()));
}

std::string TokenText(const Json& token) {
  if (!token.is_object()) return "none";
  return std::to_string(GetInt(token, "id")) + " " + Quote(GetString(token, "text"), 40);
}

// "heads 8, head_dim 64": a JSON object in words.
std::string InWords(const Json& object) {
  std::vector<std::string> parts;
  for (const auto& [key, value] : object.items()) {
    std::string word = key;
    std::replace(word.begin(), word.end(), '_', ' ');
    if (value.is_number_integer() && value == 0) continue;
    parts.push_back(word + " " + (value.is_string() ? value.get<std::string>() : DumpJson(value)));
  }
  return Join(parts, ", ");
}

void PrintDescription(const Findings& found, const Json& json) {
  Print(found.source->path() + "\n");
  Line("format", GetString(json, "format"));
  if (found.spec) {
    const model::ModelSpec& spec = *found.spec;
    Line("family", spec.family + (spec.name.empty() ? "" : "  " + Quote(spec.name, 200)));
    std::vector<std::string> kinds;
    for (const auto& [kind, count] : json["layers"].items()) {
      if (kind != "count" && count != 0) kinds.push_back(DumpJson(count) + " " + kind);
    }
    Line("layers", Format("%zu: ", spec.layers.size()) + Join(kinds, ", "));
    Line("pattern", GetString(json, "pattern"));
    if (!spec.mtp.empty()) {
      Line("MTP head", Format("%zu layers, ", spec.mtp.size()) +
                           Number(GetInt(json["parameters"], "mtp")) + " parameters");
    }
    Line("width", Number(spec.width) + ", vocabulary " + Number(spec.vocabulary) +
                      (spec.tied_head ? ", head tied to the embedding" : ""));
    for (const auto& [kind, widths] : json["blocks"].items()) {
      Line(kind == model::Name(model::BlockKind::kMoe) ? "MoE" : kind.c_str(), InWords(widths));
    }
    Line("context",
         spec.context_max > 0 ? Number(spec.context_max) + " tokens, as it claims" : "not stated");
    const Json& parameters = json["parameters"];
    Line("parameters", Number(GetInt(parameters, "without_mtp")) +
                           (spec.mtp.empty() ? "" : " without the MTP head") + ", " +
                           Number(GetInt(parameters, "active")) + " active for a token");
    Line("weights", HumanBytes(TensorBytes(*found.source)) +
                        Format(", %.2f bits a weight", GetDouble(json, "bits_per_weight")));
  } else {
    Line("weights", HumanBytes(TensorBytes(*found.source)));
  }
  for (const Json& type : json["types"]) {
    Print(Format("    %-11s %8s tensors  %10s%s\n", GetString(type, "type").c_str(),
                 Number(GetInt(type, "tensors")).c_str(),
                 HumanBytes(static_cast<uint64_t>(GetInt(type, "bytes"))).c_str(),
                 GetBool(type, "plain_decoding", false) ? "  decoded plainly, slower" : ""));
  }
  Line("quantization", json["quantization"].empty() ? "none" : InWords(json["quantization"]));
  if (found.text) {
    const Json& tokenizer = json["tokenizer"];
    std::vector<std::string> stops;
    for (const Json& stop : tokenizer["stop"]) stops.push_back(TokenText(stop));
    Line("tokenizer", Number(GetInt(tokenizer, "tokens")) + " ids (" +
                          Number(GetInt(tokenizer, "special")) + " special), bos " +
                          TokenText(tokenizer["bos"]) + ", eos " + TokenText(tokenizer["eos"]));
    Line("stops at", Join(stops, ", "));
    Line("template", found.text->chat_template != nullptr
                         ? "yes, " + HumanBytes(found.text->template_source.size())
                         : "none");
  } else {
    Line("tokenizer", "none: " + found.why_no_text);
  }
  for (const std::string& warning : found.warnings) Line("warning", warning);
}

Json TensorsJson(const TensorSource& source) {
  Json list = Json::array();
  for (const TensorInfo& info : source.tensors()) {
    list.push_back({{"name", info.name},
                    {"type", tensor::Name(info.dtype)},
                    {"shape", info.shape},
                    {"bytes", info.bytes},
                    {"file", info.file},
                    {"offset", info.file_offset}});
  }
  return list;
}

void PrintTensors(const TensorSource& source) {
  size_t name_width = 4;
  size_t shape_width = 5;
  std::set<std::string> files;
  for (const TensorInfo& info : source.tensors()) {
    name_width = std::max(name_width, info.name.size());
    shape_width = std::max(shape_width, tensor::ToString(info.shape).size());
    files.insert(info.file);
  }
  const bool many = files.size() > 1;
  Print(Format("\n%-*s  %-8s %-*s  %15s%s\n", static_cast<int>(name_width), "name", "type",
               static_cast<int>(shape_width), "shape", "bytes", many ? "  file" : ""));
  for (const TensorInfo& info : source.tensors()) {
    Print(Format("%-*s  %-8s %-*s  %15s%s\n", static_cast<int>(name_width), info.name.c_str(),
                 tensor::Name(info.dtype), static_cast<int>(shape_width),
                 tensor::ToString(info.shape).c_str(), WithThousands(info.bytes).c_str(),
                 many ? ("  " + info.file.substr(info.file.rfind('/') + 1)).c_str() : ""));
  }
}

// --- Is it sound -----------------------------------------------------------------------------------

// Sentences, one for each thing that is wrong. Formats were checked when they were opened.
Result<std::vector<std::string>> Check(const Findings& found, int threads) {
  ThreadPool pool(threads > 0 ? threads : UsableCores());
  const uint64_t total = TensorBytes(*found.source);
  ProgressBar bar("checking", "MB", static_cast<int64_t>(total / 1'000'000));
  std::vector<std::string> findings =
      model::FindBadNumbers(*found.source, &pool, [&](uint64_t bytes) {
        bar.Update(static_cast<int64_t>(bytes / 1'000'000));
        return !Interrupted();
      });
  bar.Finish();
  if (Interrupted()) return InterruptedError();
  if (found.text && found.spec) {
    for (const int32_t id : found.text->stop_ids) {
      if (id >= found.spec->vocabulary) {
        findings.push_back(Format("the stop id %d is outside of the vocabulary of %lld", id,
                                  static_cast<long long>(found.spec->vocabulary)));
      }
    }
  }
  return findings;
}

// --- What memory it takes --------------------------------------------------------------------------

struct Plan {
  api::MemoryPlan memory;
  runtime::EngineOptions options;
  int64_t context = 0;  // tokens of one agent
  uint64_t agent_bytes = 0;
  uint64_t available = 0;
  std::optional<uint64_t> tokens_that_fit;  // none: any number does
};

Result<Plan> MakePlan(const Findings& found, ModelFlags& flags) {
  LODE_ASSIGN(flags.run.activations, api::ParseActivations(flags.activations));
  LODE_ASSIGN(flags.run.kv, api::ParseKv(flags.kv));
  Plan plan;
  plan.options =
      api::EngineOptionsFor(*found.spec, found.model->quantized, found.model->any_bf16, flags.run);
  api::FuseExperts(*found.model, &plan.options);
  plan.memory = api::PlanMemory(*found.model, plan.options);
  plan.memory.program = found.program_bytes;
  plan.memory.text = found.text_bytes;
  plan.context = plan.options.context_tokens / plan.options.sequences_max;
  const auto pages =
      static_cast<uint64_t>((plan.context + kernels::kPageTokens - 1) / kernels::kPageTokens);
  plan.agent_bytes = plan.memory.slot_bytes + pages * plan.memory.page_bytes;
  plan.available = AvailableMemoryBytes();
  const uint64_t fixed = plan.memory.total() - plan.memory.states +
                         static_cast<uint64_t>(plan.options.sequences_max) * plan.memory.slot_bytes;
  if (plan.memory.page_bytes > 0) {
    const uint64_t rest = plan.available > fixed ? plan.available - fixed : 0;
    plan.tokens_that_fit = rest / plan.memory.page_bytes * plan.memory.page_tokens;
  } else if (fixed > plan.available) {
    plan.tokens_that_fit = 0;
  }
  return plan;
}

Json PlanJson(const Plan& plan) {
  const api::MemoryPlan& m = plan.memory;
  Json json;
  json["context"] = plan.context;
  json["agents"] = plan.options.sequences_max;
  json["rows"] = plan.options.rows_max;
  json["threads"] = plan.options.threads;
  const model::Activations activations = plan.options.numerics.activations;
  json["activations"] = activations == model::Activations::kF32    ? "f32"
                        : activations == model::Activations::kBF16 ? "bf16"
                                                                   : "auto";
  json["kv_cache"] = api::Name(plan.options.numerics.kv);
  json["weights"] = m.weights;
  json["packed"] = m.packed;
  json["other_tensors"] = m.other_tensors;
  json["headers"] = m.headers;
  json["vectors"] = m.vectors;
  json["workspace"] = m.workspace;
  json["states"] = m.states;
  json["logits"] = m.logits;
  json["text"] = m.text;
  json["program"] = m.program;
  json["total"] = m.total();
  json["page_tokens"] = m.page_tokens;
  json["page_bytes"] = m.page_bytes;
  json["slot_bytes"] = m.slot_bytes;
  json["agent_bytes"] = plan.agent_bytes;
  json["available"] = plan.available;
  json["fits"] = m.total() <= plan.available;
  json["tokens_that_fit"] = plan.tokens_that_fit ? Json(*plan.tokens_that_fit) : Json(nullptr);
  return json;
}

void PrintPlan(const Plan& plan) {
  const api::MemoryPlan& m = plan.memory;
  const auto row = [](const char* label, uint64_t bytes, const std::string& note) {
    Print(Format("  %-14s %17s  %10s  %s\n", label, WithThousands(bytes).c_str(),
                 HumanBytesBinary(bytes).c_str(), note.c_str()));
  };
  Print(Format("\nMemory for %lld agent%s with %s tokens of context each, %d threads\n",
               static_cast<long long>(plan.options.sequences_max),
               plan.options.sequences_max == 1 ? "" : "s", Number(plan.context).c_str(),
               plan.options.threads));
  row("weights", m.weights, "mapped from the file");
  if (m.packed > 0) row("packed", m.packed, "matrices as panels, made while the model runs");
  row("other tensors", m.other_tensors, "mapped, small");
  row("headers", m.headers, "mapped, names and metadata");
  row("vectors", m.vectors, "small tensors, decoded to f32");
  row("workspace", m.workspace,
      Format("activations of %lld rows, scratch of each thread",
             static_cast<long long>(plan.options.rows_max)));
  row("states", m.states,
      Format("pages of %llu tokens (%s each), a slot an agent (%s)",
             static_cast<unsigned long long>(m.page_tokens), WithThousands(m.page_bytes).c_str(),
             WithThousands(m.slot_bytes).c_str()));
  row("logits", m.logits, "of the next tokens, and to sample them");
  row("text", m.text, "tokenizer, template and metadata, as the allocator counts them");
  row("program", m.program, "code and libraries, resident now");
  row("total", m.total(), "");
  Print("\n");
  row("an agent", plan.agent_bytes, "its slot and its pages; an idle one keeps them");
  row("available", plan.available, m.total() <= plan.available ? "it fits" : "it does NOT fit");
  if (plan.tokens_that_fit) {
    Print(Format("  %-14s %17s  in all, with this number of agents\n", "tokens fit",
                 WithThousands(*plan.tokens_that_fit).c_str()));
  } else {
    Print("  any number of tokens fits: no layer keeps a cache\n");
  }
}

Result<void> RunInspect(Flags& flags) {
  LODE_ASSIGN(const Findings found, Find(flags));
  Json json = Describe(found);
  if (!flags.json) PrintDescription(found, json);
  if (flags.tensors) {
    if (flags.json) {
      json["tensors"] = TensorsJson(*found.source);
    } else {
      PrintTensors(*found.source);
    }
  }
  std::vector<std::string> bad;
  if (flags.check) {
    LODE_ASSIGN(bad, Check(found, flags.model.run.threads));
    json["check"] = {{"ok", bad.empty() && !found.why_not}, {"findings", bad}};
    if (!flags.json) {
      for (const std::string& sentence : bad) Line("bad", sentence);
      if (bad.empty()) Line("check", "every number is finite");
    }
  }
  if (flags.plan && found.model != nullptr) {
    LODE_ASSIGN(const Plan plan, MakePlan(found, flags.model));
    json["plan"] = PlanJson(plan);
    if (!flags.json) PrintPlan(plan);
  }
  if (flags.json) Print(DumpJson(json, 2) + "\n");
  if (found.why_not) return *found.why_not;
  if (!bad.empty()) {
    return Error(Code::kBadInput,
                 found.source->path() + Format(": the check found %zu fault%s", bad.size(),
                                               bad.size() == 1 ? "" : "s"),
                 "download it again; if the faults stay, they are the publisher's");
  }
  return {};
}

}  // namespace

void AddInspect(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand("inspect", "Say what a model is, and what memory it takes");
  flags->model.AddTo(verb);
  verb->add_flag("--tensors", flags->tensors, "list every tensor: type, shape, bytes, file");
  verb->add_flag("--check", flags->check, "look at every number for NaN and infinity");
  verb->add_flag("--plan", flags->plan, "the memory that a run takes, to the byte");
  verb->add_option("--agents", flags->model.run.agents, "sequences at once, for --plan")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 16));
  verb->add_flag("--json", flags->json, "one JSON object");
  verb->footer("Example: lode inspect demo --plan --context 4096 --agents 2");
  verb->callback([=] { *action = [=] { return RunInspect(*flags); }; });
}

}  // namespace lode::cli

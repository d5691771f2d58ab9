// ModelSpec -> config.json, for a GGUF that does not remember one.
#include <algorithm>
#include <cctype>

#include "base/text.h"
#include "model/config.h"
#include "quant/hyper.h"
#include "quant/metadata.h"

namespace lode::quant {
namespace {

using model::Field;
using model::Hyper;

// "some_family" -> "SomeFamilyForCausalLM": how transformers names its classes.
std::string ClassName(const std::string& family) {
  std::string name;
  bool upper = true;
  for (const char c : family) {
    if (c == '_') {
      upper = true;
      continue;
    }
    name += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = false;
  }
  return name + "ForCausalLM";
}

std::string Letters(const model::ArchDef& arch, const std::vector<model::LayerSpec>& layers) {
  std::string letters;
  for (const model::LayerSpec& layer : layers) {
    for (const model::Layout& row : arch.layout) {
      if (row.kind == layer.kind) letters += row.letter;
    }
  }
  return letters;
}

}  // namespace

std::string ConfigText(const model::ModelSpec& spec, const formats::GgufFile& file) {
  const model::ArchDef& arch = model::ArchOf(spec);
  const Kinds kinds = KindsOf(spec);
  const Hyper hyper = HyperOf(spec);
  Json config = Json::object();
  config["architectures"] = Json::array({ClassName(spec.family)});
  config["model_type"] = arch.hugging_face_types.front();
  config["torch_dtype"] = "bfloat16";
  config[arch.pattern_keys.front()] = Letters(arch, spec.layers);
  if (!spec.mtp.empty()) config[arch.mtp_pattern_keys.front()] = Letters(arch, spec.mtp);
  for (const Field& field : arch.fields) {
    if (field.hugging_face.empty() || (OfExperts(field) && !kinds.moe)) continue;
    const char* key = field.hugging_face.front();
    if (field.integer == &Hyper::latent && hyper.latent == 0) {
      config[key] = nullptr;
    } else if (field.integer != nullptr) {
      config[key] = hyper.*field.integer;
    } else if (field.real != nullptr) {
      // GGUF holds floats: 1e-5 comes as 9.99999974e-06, and was meant as the shortest that reads so.
      config[key] = std::stod(Format("%.7g", hyper.*field.real));
    } else {
      config[key] = hyper.*field.flag;
    }
  }
  for (const model::Refusal& refusal : arch.refusals) {  // said, so that others compute the same
    const Result<Json> allowed = ParseJson(Split(refusal.allowed, '|').front());
    if (allowed.ok() && !allowed->is_null()) config[refusal.key] = *allowed;
  }
  for (const auto& [key, word] : {std::pair{"bos", "bos_token_id"}, {"eos", "eos_token_id"},
                                  {"padding", "pad_token_id"}}) {
    const auto id = file.GetInt(std::string("tokenizer.ggml.") + key + "_token_id");
    if (id.ok()) config[word] = *id;
  }
  return DumpJson(config, 2) + "\n";
}

}  // namespace lode::quant

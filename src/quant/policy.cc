#include "quant/policy.h"

#include <algorithm>
#include <functional>

#include "base/json.h"
#include "base/text.h"

namespace lode::quant {
namespace {

using model::Role;
using tensor::DType;

// A mix: the type of most matrices, and llama.cpp's rules for the rest where it has some.
enum class Mix : uint8_t {
  kPlain,  // the head finer, nothing else
  kSmall, kMedium, kLarge,
  kQ2K, kIq4, kMoe, kFourBit,
};

struct MixInfo {
  const char* name;
  DType type;
  Mix mix;
  uint32_t file_type;
  const char* words;
};

constexpr MixInfo kMixes[] = {
    {"f32", DType::kF32, Mix::kPlain, 0, "32 bits"},
    {"f16", DType::kF16, Mix::kPlain, 1, "16 bits"},
    {"bf16", DType::kBF16, Mix::kPlain, 32, "16 bits"},
    {"q8_0", DType::kQ8_0, Mix::kPlain, 7, "8.5 bits, no loss that one could measure"},
    {"q6_k", DType::kQ6K, Mix::kPlain, 18, "6.6 bits"},
    {"q5_k_m", DType::kQ5K, Mix::kMedium, 17, "5.5 bits and some matrices q6_k"},
    {"q5_k_s", DType::kQ5K, Mix::kSmall, 16, "5.5 bits"},
    {"q5_1", DType::kQ5_1, Mix::kPlain, 9, "6 bits"},
    {"q5_0", DType::kQ5_0, Mix::kPlain, 8, "5.5 bits"},
    {"q4_k_m", DType::kQ4K, Mix::kMedium, 15, "4.5 bits and some matrices q6_k"},
    {"q4_k_s", DType::kQ4K, Mix::kSmall, 14, "4.5 bits and a few matrices q5_k"},
    {"q4_1", DType::kQ4_1, Mix::kPlain, 3, "5 bits"},
    {"q4_0", DType::kQ4_0, Mix::kPlain, 2, "4.5 bits, the fastest"},
    {"4bit", DType::kQ4_0, Mix::kFourBit, 2, "q4_0 for all that is multiplied, the head too"},
    {"iq4_nl", DType::kIQ4NL, Mix::kIq4, 25, "4.5 bits, levels closer around zero"},
    {"iq4_xs", DType::kIQ4XS, Mix::kIq4, 30, "4.25 bits"},
    {"nvfp4", DType::kNVFP4, Mix::kPlain, 39, "4.5 bits, FP4 with a scale for 16"},
    {"mxfp4", DType::kMXFP4, Mix::kPlain, 38, "4.25 bits, FP4 with a power of two for 32"},
    {"mxfp4_moe", DType::kMXFP4, Mix::kMoe, 38, "experts mxfp4, the rest q8_0"},
    {"q3_k_l", DType::kQ3K, Mix::kLarge, 13, "3.4 bits and some matrices q5_k"},
    {"q3_k_m", DType::kQ3K, Mix::kMedium, 12, "3.4 bits and some matrices q4_k and q5_k"},
    {"q3_k_s", DType::kQ3K, Mix::kSmall, 11, "3.4 bits"},
    {"q2_k", DType::kQ2K, Mix::kQ2K, 10, "2.6 bits and some matrices q3_k"},
};

constexpr std::pair<const char*, const char*> kAliases[] = {
    {"q5_k", "q5_k_m"}, {"q4_k", "q4_k_m"}, {"q3_k", "q3_k_m"}};

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return out;
}

Result<const MixInfo*> FindMix(std::string_view type) {
  std::string name = Lower(type);
  for (const auto& [alias, full] : kAliases) {
    if (name == alias) name = full;
  }
  std::vector<std::string> names;
  for (const MixInfo& mix : kMixes) {
    if (name == mix.name) return &mix;
    names.push_back(mix.name);
  }
  if (name == "f8_e4m3" || name == "fp8") {
    return Error(Code::kUnsupported, "GGUF has no FP8, so it cannot be written",
                 "q8_0 has the same size and a smaller error");
  }
  return Error(Code::kBadInput, "no type is called " + Quote(type),
               "take one of " + Join(names, ", "));
}

// A type of a single matrix: by its own name, not a mix's.
Result<DType> TypeOfMatrix(std::string_view name) {
  LODE_ASSIGN(const DType dtype, tensor::DTypeFromName(name));
  const tensor::DTypeInfo& info = tensor::Info(dtype);
  if (info.weights && info.ggml_id >= 0) return dtype;
  return Error(Code::kUnsupported, std::string("a matrix of a GGUF cannot be ") + info.name);
}

// llama.cpp's mixes. What they count: attention layers by their value projections; for down
// projections the layer's place among all, or in a dense model the place among down projections.
class Mixer {
 public:
  Mixer(const Matrices& matrices, const MixInfo& mix, bool pure, bool calibrated)
      : mix_(mix), pure_(pure), calibrated_(calibrated), spec_(matrices.spec()) {
    layers_ = static_cast<int64_t>(spec_.layers.size()) + (spec_.mtp.empty() ? 0 : 1);
    for (const Matrix& matrix : matrices.all()) {
      if (matrix.slot.row->role == Role::kValue) ++values_;
    }
    for (const model::LayerSpec& layer : spec_.layers) {
      if (layer.kind == model::BlockKind::kMoe) experts_ = layer.moe.experts;
      if (layer.kind == model::BlockKind::kAttention) {
        grouped_ = layer.attention.heads >= 4 * layer.attention.kv_heads;
      }
    }
  }

  // To be called once for each matrix, in order.
  DType Default(const Matrix& matrix) {
    const Role role = matrix.slot.row->role;
    const DType type = mix_.type;
    if (role == Role::kRouter) return DType::kF32;
    if (tensor::Info(type).block_elements == 1) return type;
    const bool head = role == Role::kHead || (role == Role::kEmbedding && spec_.tied_head);
    if (mix_.mix == Mix::kFourBit) {
      // An embedding is looked up, not multiplied: finer numbers cost memory, not time.
      return role == Role::kEmbedding && !head ? DType::kQ8_0 : type;
    }
    if (pure_) return type;
    if (head) {
      const bool whole = matrix.cols % tensor::Info(type).block_elements == 0;
      const bool fine = mix_.mix != Mix::kMoe && type != DType::kQ8_0 && whole;
      return fine ? DType::kQ6K : DType::kQ8_0;
    }
    if (mix_.mix == Mix::kMoe) return matrix.slot.experts > 0 ? type : DType::kQ8_0;
    if (role == Role::kValue) return OfValues();
    if (role == Role::kAttentionOut) return OfAttentionOut();
    if (role == Role::kDown || role == Role::kExpertDown || role == Role::kSharedDown) {
      return OfDown(matrix);
    }
    if (role == Role::kKey && experts_ == 8) return DType::kQ8_0;
    return type;
  }

 private:
  static bool MoreBits(int64_t i, int64_t n) {
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
  }

  DType OfValues() {
    const int64_t i = value_++;
    if (experts_ == 8) return DType::kQ8_0;
    switch (mix_.mix) {
      case Mix::kQ2K: return grouped_ ? DType::kQ4K : DType::kQ3K;
      case Mix::kLarge: return DType::kQ5K;
      case Mix::kIq4: return grouped_ ? DType::kQ5K : mix_.type;
      case Mix::kMedium:
        if (mix_.type == DType::kQ3K) return i < 2 ? DType::kQ5K : DType::kQ4K;
        return MoreBits(i, values_) ? DType::kQ6K : mix_.type;
      case Mix::kSmall: return mix_.type == DType::kQ4K && i < 4 ? DType::kQ5K : mix_.type;
      default: return mix_.type;
    }
  }

  DType OfAttentionOut() const {
    if (experts_ == 8) {
      const bool coarse = mix_.mix == Mix::kQ2K || mix_.mix == Mix::kIq4 ||
                          (mix_.type == DType::kQ3K && mix_.mix != Mix::kLarge) ||
                          mix_.type == DType::kQ4K;
      return coarse ? DType::kQ5K : mix_.type;
    }
    if (mix_.mix == Mix::kQ2K) return DType::kQ3K;
    if (mix_.mix == Mix::kLarge) return DType::kQ5K;
    return mix_.mix == Mix::kMedium && mix_.type == DType::kQ3K ? DType::kQ4K : mix_.type;
  }

  DType OfDown(const Matrix& matrix) {
    const int64_t at = matrix.slot.mtp ? layers_ - 1 : matrix.slot.layer;
    const int64_t i = experts_ > 1 ? at : down_;
    ++down_;
    const bool early = i < layers_ / 8;
    switch (mix_.mix) {
      case Mix::kQ2K: return DType::kQ3K;
      case Mix::kLarge: return DType::kQ5K;
      case Mix::kMedium:
        if (mix_.type == DType::kQ3K) return i < layers_ / 16 ? DType::kQ5K : DType::kQ4K;
        return MoreBits(i, layers_) ? DType::kQ6K : mix_.type;
      case Mix::kSmall: return mix_.type == DType::kQ4K && early ? DType::kQ5K : mix_.type;
      case Mix::kIq4: return early && !calibrated_ ? DType::kQ5K : mix_.type;
      case Mix::kPlain:
        if (calibrated_ && early && mix_.type == DType::kQ4_0) return DType::kQ4_1;
        if (calibrated_ && early && mix_.type == DType::kQ5_0) return DType::kQ5_1;
        return mix_.type;
      default: return mix_.type;
    }
  }

  const MixInfo& mix_;
  bool pure_, calibrated_;
  const model::ModelSpec& spec_;
  int64_t layers_ = 0, experts_ = 0, values_ = 0, value_ = 0, down_ = 0;
  bool grouped_ = false;
};

// Programs that read GGUF apply NVFP4's scale of the tensor where they multiply; these they look
// up, or multiply without looking for one (plan.cc).
bool HasNoPlaceForScale(Role role) {
  return role == Role::kEmbedding || role == Role::kLatentDown || role == Role::kLatentUp;
}

// The next type whose blocks are shorter, as llama.cpp takes it.
DType Shorter(DType type) {
  switch (type) {
    case DType::kIQ4XS: return DType::kIQ4NL;
    case DType::kQ2K: case DType::kQ3K: return DType::kQ4_0;
    case DType::kQ4K: return DType::kQ5_0;
    case DType::kQ5K: return DType::kQ5_1;
    case DType::kQ6K: return DType::kQ8_0;
    case DType::kNVFP4: return DType::kQ4_0;
    default: return DType::kF16;
  }
}

Choice Fit(const Matrix& matrix, DType wanted) {
  Choice choice;
  choice.type = wanted;
  std::string why;
  if (wanted == DType::kNVFP4 && HasNoPlaceForScale(matrix.slot.row->role)) {
    choice.type = DType::kQ8_0;
    why = "programs look for no scale beside this tensor, and NVFP4 is coarse without one";
  }
  while (matrix.cols % tensor::Info(choice.type).block_elements != 0) {
    why = Format("its rows of %lld are no whole blocks of %d", static_cast<long long>(matrix.cols),
                 tensor::Info(choice.type).block_elements);
    choice.type = Shorter(choice.type);
  }
  if (choice.type != wanted) {
    choice.fallback = matrix.slot.gguf + " is " + tensor::Name(choice.type) + " instead of " +
                      tensor::Name(wanted) + ": " + why;
  }
  return choice;
}

constexpr Group kGroups[] = {Group::kEmbedding, Group::kHead,    Group::kMamba,  Group::kAttention,
                             Group::kMlp,       Group::kRouter,  Group::kExperts, Group::kShared,
                             Group::kLatent,    Group::kMtp};

Error NoSuchTensor(const Matrices& matrices, const std::string& pattern) {
  std::vector<std::string> names;
  for (const Matrix& matrix : matrices.all()) names.push_back(matrix.slot.gguf);
  // Near in spelling; or in the same layer; or at least how names look.
  std::vector<std::string> near;
  if (const std::string closest = ClosestName(pattern, names); !closest.empty()) near = {closest};
  const std::string layer = pattern.substr(0, pattern.find('.', 4) + 1);
  for (const std::string& name : names) {
    if (near.size() < 8 && !layer.empty() && StartsWith(name, layer) && name != pattern) {
      near.push_back(name);
    }
  }
  for (const std::string& name : names) {
    if (near.size() < 5) near.push_back(name);
  }
  near.erase(std::unique(near.begin(), near.end()), near.end());
  return Error(Code::kBadInput, "the policy's " + Quote(pattern) + " names no matrix of the model",
               "there are " + Join(near, ", ") + (near.size() < names.size() ? " .." : ""));
}

}  // namespace

const char* Name(Group group) {
  switch (group) {
    case Group::kEmbedding: return "embedding";
    case Group::kHead: return "head";
    case Group::kMamba: return "mamba";
    case Group::kAttention: return "attention";
    case Group::kMlp: return "mlp";
    case Group::kRouter: return "router";
    case Group::kExperts: return "experts";
    case Group::kShared: return "shared";
    case Group::kLatent: return "latent";
    case Group::kMtp: return "mtp";
  }
  return "";
}

Group GroupOf(const Matrix& matrix) {
  const Role role = matrix.slot.row->role;
  if (role == Role::kRouter) return Group::kRouter;
  if (matrix.slot.mtp) return Group::kMtp;
  switch (role) {
    case Role::kEmbedding: return Group::kEmbedding;
    case Role::kHead: return Group::kHead;
    case Role::kMambaIn: case Role::kMambaOut: return Group::kMamba;
    case Role::kQuery: case Role::kKey: case Role::kValue: case Role::kAttentionOut:
      return Group::kAttention;
    case Role::kExpertUp: case Role::kExpertDown: return Group::kExperts;
    case Role::kSharedUp: case Role::kSharedDown: return Group::kShared;
    case Role::kLatentDown: case Role::kLatentUp: return Group::kLatent;
    default: return Group::kMlp;
  }
}

std::vector<std::pair<std::string, std::string>> TypeChoices() {
  std::vector<std::pair<std::string, std::string>> out;
  for (const MixInfo& mix : kMixes) out.emplace_back(mix.name, mix.words);
  return out;
}

bool MatchesPattern(std::string_view pattern, std::string_view name) {
  // What comes after a star is looked for at its first place; if the rest then fails, one further on.
  size_t p = 0, n = 0, star = std::string_view::npos, tried = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      tried = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++tried;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

Result<void> ReadPolicy(std::string_view json, TypePolicy* policy) {
  LODE_ASSIGN(const Json document, ParseJson(json, {.refuse_duplicates = true}));
  if (!document.is_object()) return Error(Code::kBadInput, "a policy is a JSON object");
  std::vector<std::string> known = {"type", "pure", "tensors"};
  for (const Group group : kGroups) known.push_back(Name(group));
  const auto type_of = [](const std::string& key, const Json& value) -> Result<DType> {
    if (!value.is_string()) {
      return Error(Code::kBadInput, "the policy's " + Quote(key) + " is no string");
    }
    return TypeOfMatrix(value.get<std::string>());
  };
  for (const auto& [key, value] : document.items()) {
    if (key == "type") {
      if (!value.is_string()) return Error(Code::kBadInput, "the policy's 'type' is no string");
      policy->type = value.get<std::string>();
    } else if (key == "pure") {
      if (!value.is_boolean()) return Error(Code::kBadInput, "the policy's 'pure' is no bool");
      policy->pure = value.get<bool>();
    } else if (key == "tensors") {
      if (!value.is_object()) {
        return Error(Code::kBadInput, "the policy's 'tensors' is no object of names and types");
      }
      for (const auto& [name, type] : value.items()) {
        LODE_ASSIGN(const DType dtype, type_of(name, type));
        policy->tensors.emplace_back(name, dtype);
      }
    } else {
      const auto group = std::find_if(std::begin(kGroups), std::end(kGroups),
                                      [&](Group g) { return key == Name(g); });
      if (group == std::end(kGroups)) {
        const std::string guess = ClosestName(key, known);
        return Error(Code::kBadInput, "a policy has no " + Quote(key),
                     guess.empty() ? "it has " + Join(known, ", ")
                                   : "did you mean '" + guess + "'?");
      }
      LODE_ASSIGN(policy->groups[*group], type_of(key, value));
    }
  }
  return {};
}

Result<Choices> ChooseTypes(const Matrices& matrices, const TypePolicy& policy, bool calibrated) {
  LODE_ASSIGN(const MixInfo* mix, FindMix(policy.type));
  Choices choices;
  choices.file_type = mix->file_type;
  choices.main = mix->type;
  std::map<Group, bool> met;
  std::vector<bool> matched(policy.tensors.size());
  Mixer mixer(matrices, *mix, policy.pure, calibrated);
  for (const Matrix& matrix : matrices.all()) {
    const Group group = GroupOf(matrix);
    DType wanted = mixer.Default(matrix);
    met[group] = true;
    const auto own = policy.groups.find(group);
    if (own != policy.groups.end()) wanted = own->second;
    for (size_t i = 0; i < policy.tensors.size(); ++i) {
      if (!MatchesPattern(policy.tensors[i].first, matrix.slot.gguf)) continue;
      wanted = policy.tensors[i].second;
      matched[i] = true;
    }
    choices.of.push_back(Fit(matrix, wanted));
  }
  for (const auto& [group, type] : policy.groups) {
    if (met[group]) continue;
    const bool tied = group == Group::kHead && matrices.spec().tied_head;
    return Error(Code::kBadInput,
                 std::string("the policy gives a type for ") + Name(group) +
                     ", but the model has none",
                 tied ? "its head is the embedding: give that a type" : "");
  }
  for (size_t i = 0; i < matched.size(); ++i) {
    if (!matched[i]) return NoSuchTensor(matrices, policy.tensors[i].first);
  }
  return choices;
}

}  // namespace lode::quant

// The tokenizer from tokenizer.json's words to tokenizer.ggml.* and back. Only byte-level BPE, which is
// all that the families of model/arch use.
//
// Surprising policy: GGUF names pre-tokenizers instead of holding their pattern. The name is chosen by
// the pattern that tokenizer.json has, not by whose vocabulary it is: then every program that knows
// the name splits text as the original does.
#include <algorithm>
#include <optional>

#include "base/text.h"
#include "quant/metadata.h"

namespace lode::quant {
namespace {

constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5;

struct Pre {
  const char* name;
  const char* pattern;  // nullptr: ByteLevel's own
  bool ignore_merges;   // what readers of GGUF imply by the name
};

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kTekken =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// The first row with a pattern is the one that is written.
constexpr Pre kPres[] = {
    {"llama-bpe", kLlama3, true}, {"dbrx", kLlama3, false},   {"pixtral", kLlama3, true},
    {"llama3", kLlama3, true},    {"llama-v3", kLlama3, true}, {"falcon3", kLlama3, true},
    {"smaug-bpe", kLlama3, false}, {"qwen2", kQwen2, false},   {"tekken", kTekken, true},
    {"gpt-4o", kO200k, false},    {"gpt-2", nullptr, false},  {"gpt-2", kGpt2, false},
};

// The pattern of the first Split, or nothing; `byte_level` is set when ByteLevel splits by itself.
std::optional<std::string> FindPattern(const Json& pre, bool* byte_level) {
  const std::string type = GetString(pre, "type");
  if (type == "Sequence") {
    const Json* all = FindKey(pre, "pretokenizers");
    if (all == nullptr || !all->is_array()) return std::nullopt;
    for (const Json& one : *all) {
      if (auto found = FindPattern(one, byte_level)) return found;
    }
    return std::nullopt;
  }
  if (type == "Split") {
    const Json* pattern = FindKey(pre, "pattern");
    return pattern == nullptr ? std::string() : GetString(*pattern, "Regex");
  }
  if (type == "ByteLevel" && GetBool(pre, "use_regex", true)) *byte_level = true;
  return std::nullopt;
}

std::string PreName(const Json& tokenizer, bool ignore_merges, std::vector<std::string>* warnings) {
  const Json* pre = FindKey(tokenizer, "pre_tokenizer");
  bool byte_level = false;
  std::optional<std::string> pattern;
  if (pre != nullptr) pattern = FindPattern(*pre, &byte_level);
  const char* near = nullptr;
  for (const Pre& row : kPres) {
    const bool fits = pattern.has_value() ? row.pattern != nullptr && *pattern == row.pattern
                                          : byte_level && row.pattern == nullptr;
    if (!fits) continue;
    if (row.ignore_merges == ignore_merges) return row.name;
    if (near == nullptr) near = row.name;
  }
  warnings->push_back(
      std::string("GGUF has no name for this pre-tokenizer") +
      (near != nullptr ? std::string(" with its 'ignore_merges'; the nearest, '") + near +
                             "', may split text differently in other programs"
                       : "; other programs will split text by a default pattern"));
  return near != nullptr ? near : "default";
}

// "A B"; newer files hold pairs. A space inside a part would be ambiguous and is written as U+0120.
Result<std::vector<std::string>> Merges(const Json& model) {
  std::vector<std::string> merges;
  const Json* all = FindKey(model, "merges");
  if (all == nullptr || !all->is_array()) return merges;
  for (const Json& merge : *all) {
    if (merge.is_string()) {
      merges.push_back(merge.get<std::string>());
      continue;
    }
    if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string()) {
      return Error(Code::kBadInput, Format("tokenizer.json: merge %zu is no pair of strings",
                                           merges.size()));
    }
    std::string joined;
    for (const Json& part : merge) {
      if (!joined.empty()) joined += ' ';
      for (const char c : part.get_ref<const std::string&>()) {
        if (c == ' ') {
          joined += "\xC4\xA0";
        } else {
          joined += c;
        }
      }
    }
    merges.push_back(std::move(joined));
  }
  return merges;
}

struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<int32_t> types;

  int64_t Find(const std::string& text) const {
    const auto found = std::find(tokens.begin(), tokens.end(), text);
    return found == tokens.end() ? -1 : found - tokens.begin();
  }
};

Result<Vocabulary> Tokens(const Json& tokenizer, int64_t rows, std::vector<std::string>* warnings) {
  Vocabulary vocabulary;
  const auto size = static_cast<size_t>(rows);
  vocabulary.tokens.resize(size);
  vocabulary.types.assign(size, kUnused);
  int64_t outside = 0;
  const auto set = [&](const Json& id, const std::string& text, int32_t type) -> Result<void> {
    if (!id.is_number_integer() || id.get<int64_t>() < 0) {
      return Error(Code::kBadInput, "tokenizer.json: token " + Quote(text) + " has no proper id");
    }
    const auto at = static_cast<size_t>(id.get<int64_t>());
    if (at >= size) {
      ++outside;
      return {};
    }
    vocabulary.tokens[at] = text;
    vocabulary.types[at] = type;
    return {};
  };
  const Json* model = FindKey(tokenizer, "model");
  const Json* vocab = model == nullptr ? nullptr : FindKey(*model, "vocab");
  if (vocab == nullptr || !vocab->is_object()) {
    return Error(Code::kUnsupported, "tokenizer.json holds no byte-level BPE vocabulary");
  }
  for (const auto& [text, id] : vocab->items()) LODE_TRY(set(id, text, kNormal));
  const Json* added = FindKey(tokenizer, "added_tokens");
  if (added != nullptr && added->is_array()) {
    for (const Json& token : *added) {
      const Json* id = FindKey(token, "id");
      if (id == nullptr) return Error(Code::kBadInput, "tokenizer.json: an added token has no id");
      LODE_TRY(set(*id, GetString(token, "content"),
                   GetBool(token, "special") ? kControl : kUserDefined));
    }
  }
  for (size_t i = 0; i < size; ++i) {
    if (vocabulary.types[i] == kUnused) vocabulary.tokens[i] = Format("[PAD%zu]", i);
  }
  if (outside > 0) {
    warnings->push_back(Format("%lld tokens have ids behind the model's vocabulary of %lld and were "
                               "left out of the GGUF's list",
                               static_cast<long long>(outside), static_cast<long long>(rows)));
  }
  return vocabulary;
}

Json ReadOptional(const formats::HfCheckpoint& checkpoint, const char* name) {
  if (!checkpoint.HasFile(name)) return Json();
  Result<Json> json = checkpoint.ReadJson(name);
  return json.ok() ? std::move(*json) : Json();
}

// "eos_token": a string, or an object with its "content".
std::string TokenText(const Json& config, const char* key) {
  const Json* value = FindKey(config, key);
  if (value == nullptr) return "";
  return value->is_string() ? value->get<std::string>() : GetString(*value, "content");
}

std::vector<int64_t> Ids(const Json& config, const char* key) {
  std::vector<int64_t> ids;
  const Json* value = FindKey(config, key);
  if (value == nullptr) return ids;
  if (value->is_number_integer()) return {value->get<int64_t>()};
  if (!value->is_array()) return ids;
  for (const Json& id : *value) {
    if (id.is_number_integer()) ids.push_back(id.get<int64_t>());
  }
  return ids;
}

void SetSpecialTokens(const formats::HfCheckpoint& checkpoint, const Vocabulary& vocabulary,
                      const Json& tokenizer_config, formats::GgufWriter* writer) {
  const Json generation = ReadOptional(checkpoint, "generation_config.json");
  const auto set = [&](const char* key, int64_t id) {
    if (id < 0 || id >= static_cast<int64_t>(vocabulary.tokens.size())) return false;
    writer->SetU32(std::string("tokenizer.ggml.") + key + "_token_id", static_cast<uint32_t>(id));
    return true;
  };
  const auto find = [&](const char* word, const char* id_word) -> int64_t {
    const std::string text = TokenText(tokenizer_config, word);
    if (!text.empty() && vocabulary.Find(text) >= 0) return vocabulary.Find(text);
    for (const Json* config : {&generation, &checkpoint.config()}) {
      const auto ids = Ids(*config, id_word);
      if (!ids.empty()) return ids.front();
    }
    return -1;
  };
  set("bos", find("bos_token", "bos_token_id"));
  const int64_t eos = find("eos_token", "eos_token_id");
  set("eos", eos);
  // A second token that ends an answer has no better place.
  for (const int64_t id : Ids(generation, "eos_token_id")) {
    if (id != eos && set("eot", id)) break;
  }
  const std::string unknown = TokenText(tokenizer_config, "unk_token");
  if (!unknown.empty()) set("unknown", vocabulary.Find(unknown));
  set("padding", find("pad_token", "pad_token_id"));
  const Json* temperature = FindKey(generation, "temperature");
  const Json* top_p = FindKey(generation, "top_p");
  if (temperature != nullptr && temperature->is_number()) {
    writer->SetF32("general.sampling.temp", temperature->get<float>());
  }
  if (top_p != nullptr && top_p->is_number()) {
    writer->SetF32("general.sampling.top_p", top_p->get<float>());
  }
}

// Without the flag, the post-processor knows whether a text begins with the BOS token.
bool AddsBos(const Json& tokenizer, const Json& tokenizer_config) {
  const Json* flag = FindKey(tokenizer_config, "add_bos_token");
  if (flag != nullptr && flag->is_boolean()) return flag->get<bool>();
  const Json* post = FindKey(tokenizer, "post_processor");
  const std::string bos = TokenText(tokenizer_config, "bos_token");
  if (post == nullptr || bos.empty()) return false;
  const std::string text = DumpJson(*post);
  return text.find("SpecialToken") != std::string::npos &&
         text.find(DumpJson(Json(bos))) != std::string::npos;
}

void SetChatTemplates(const formats::HfCheckpoint& checkpoint, const Json& tokenizer_config,
                      formats::GgufWriter* writer) {
  constexpr const char* kKey = "tokenizer.chat_template";
  if (checkpoint.HasFile("chat_template.jinja")) {
    const Result<std::string> text = checkpoint.ReadFile("chat_template.jinja");
    if (text.ok()) writer->SetString(kKey, *text);
    return;
  }
  Json file = ReadOptional(checkpoint, "chat_template.json");
  const Json* templates = FindKey(file, "chat_template");
  if (templates == nullptr) templates = FindKey(tokenizer_config, "chat_template");
  if (templates == nullptr) return;
  if (templates->is_string()) {
    writer->SetString(kKey, templates->get_ref<const std::string&>());
    return;
  }
  if (!templates->is_array()) return;
  std::vector<std::string> names;
  for (const Json& one : *templates) {
    const std::string name = GetString(one, "name");
    const std::string text = GetString(one, "template");
    const bool plain = !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (name == "default") {
      writer->SetString(kKey, text);
    } else if (plain) {
      writer->SetString(std::string(kKey) + "." + name, text);
      names.push_back(name);
    }
  }
  if (!names.empty()) {
    writer->SetStrings("tokenizer.chat_templates", std::span<const std::string>(names));
  }
}

}  // namespace

Result<void> SetVocabulary(const formats::HfCheckpoint& checkpoint, const model::ModelSpec& spec,
                           formats::GgufWriter* writer, std::vector<std::string>* warnings) {
  if (!checkpoint.HasFile("tokenizer.json")) {
    warnings->push_back("there is no tokenizer.json, so the GGUF has no vocabulary");
    return {};
  }
  LODE_ASSIGN(const Json tokenizer, checkpoint.ReadJson("tokenizer.json"));
  const Json tokenizer_config = ReadOptional(checkpoint, "tokenizer_config.json");
  Result<Vocabulary> vocabulary = Tokens(tokenizer, spec.vocabulary, warnings);
  if (!vocabulary.ok()) return std::move(vocabulary.error().AddContext(checkpoint.path()));
  const Json& model = tokenizer["model"];
  LODE_ASSIGN(const std::vector<std::string> merges, Merges(model));
  if (merges.empty()) {
    warnings->push_back("the tokenizer has no merges; llama.cpp does not load a GGUF without any");
  }
  writer->SetString("tokenizer.ggml.model", "gpt2");
  writer->SetString("tokenizer.ggml.pre",
                    PreName(tokenizer, GetBool(model, "ignore_merges"), warnings));
  writer->SetStrings("tokenizer.ggml.tokens", std::span<const std::string>(vocabulary->tokens));
  writer->SetI32s("tokenizer.ggml.token_type", vocabulary->types);
  writer->SetStrings("tokenizer.ggml.merges", std::span<const std::string>(merges));
  SetSpecialTokens(checkpoint, *vocabulary, tokenizer_config, writer);
  writer->SetBool("tokenizer.ggml.add_bos_token", AddsBos(tokenizer, tokenizer_config));
  SetChatTemplates(checkpoint, tokenizer_config, writer);
  return {};
}

namespace {

const Pre* FindPre(std::string_view name) {
  for (const Pre& row : kPres) {
    if (name == row.name) return &row;
  }
  return nullptr;
}

// The vocabulary whose published GGUFs name a pattern ("pixtral") that is not the original's.
bool IsNamedWrongly(const std::vector<std::string_view>& tokens) {
  return tokens.size() == 131072 && tokens[10] == "<|im_start|>" && tokens[14] == "<tool_call>";
}

Json PreTokenizer(const Pre& row) {
  Json level = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true},
                {"use_regex", row.pattern == nullptr}};
  if (row.pattern == nullptr) return level;
  Json split = {{"type", "Split"}, {"pattern", {{"Regex", row.pattern}}}, {"behavior", "Isolated"},
                {"invert", false}};
  return {{"type", "Sequence"}, {"pretokenizers", Json::array({split, level})}};
}

Result<Json> TokenizerJson(const formats::GgufFile& file, const Pre& pre) {
  LODE_ASSIGN(const auto tokens, file.GetStrings("tokenizer.ggml.tokens"));
  LODE_ASSIGN(const auto merges, file.GetStrings("tokenizer.ggml.merges"));
  std::vector<int64_t> types(tokens.size(), kNormal);
  if (file.Has("tokenizer.ggml.token_type")) {
    LODE_ASSIGN(types, file.GetInts("tokenizer.ggml.token_type"));
  }
  Json added = Json::array();
  Json vocab = Json::object();
  auto& members = vocab.get_ref<Json::object_t&>();  // insertion by key compares with all of them
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t type = i < types.size() ? types[i] : kNormal;
    const std::string text(tokens[i]);
    if (type == kUnused) continue;
    members.emplace_back(text, i);
    if (type == kNormal || type == 6) continue;
    added.push_back({{"id", i}, {"content", text}, {"single_word", false}, {"lstrip", false},
                     {"rstrip", false}, {"normalized", false}, {"special", type != kUserDefined}});
  }
  Json pairs = Json::array();
  for (const std::string_view merge : merges) pairs.push_back(std::string(merge));
  Json model = {{"type", "BPE"}, {"dropout", nullptr}, {"unk_token", nullptr},
                {"continuing_subword_prefix", nullptr}, {"end_of_word_suffix", nullptr},
                {"fuse_unk", false}, {"byte_fallback", false},
                {"ignore_merges", pre.ignore_merges}};
  model["vocab"] = std::move(vocab);
  model["merges"] = std::move(pairs);
  Json json = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = std::move(added);
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = PreTokenizer(pre);
  json["post_processor"] = nullptr;
  json["decoder"] = {{"type", "ByteLevel"}, {"add_prefix_space", true}, {"trim_offsets", true},
                     {"use_regex", true}};
  json["model"] = std::move(model);
  return json;
}

}  // namespace

Result<std::map<std::string, std::string>> TokenizerTexts(const formats::GgufFile& file,
                                                          std::vector<std::string>* warnings) {
  std::map<std::string, std::string> texts;
  const auto model = file.GetString("tokenizer.ggml.model");
  if (!model.ok() || *model != "gpt2") {
    warnings->push_back("the GGUF has no byte-level BPE vocabulary, so there is no tokenizer.json");
    return texts;
  }
  const auto name = file.GetString("tokenizer.ggml.pre");
  const Pre* pre = nullptr;
  if (name.ok()) pre = FindPre(*name);
  LODE_ASSIGN(const auto tokens, file.GetStrings("tokenizer.ggml.tokens"));
  if (IsNamedWrongly(tokens)) pre = FindPre("tekken");
  if (pre == nullptr) {
    warnings->push_back("the GGUF's pre-tokenizer " +
                        Quote(name.ok() ? std::string(*name) : "(none)") +
                        " is not known; tokenizer.json has GPT-2's");
    pre = FindPre("gpt-2");
  }
  LODE_ASSIGN(const Json tokenizer, TokenizerJson(file, *pre));
  texts["tokenizer.json"] = DumpJson(tokenizer) + "\n";

  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
  Json generation = Json::object();
  for (const auto& [key, word] : {std::pair{"bos", "bos_token"}, {"eos", "eos_token"},
                                  {"unknown", "unk_token"}, {"padding", "pad_token"}}) {
    const auto id = file.GetInt(std::string("tokenizer.ggml.") + key + "_token_id");
    if (!id.ok() || *id < 0 || static_cast<size_t>(*id) >= tokens.size()) continue;
    config[word] = std::string(tokens[static_cast<size_t>(*id)]);
    if (std::string_view(key) != "unknown") generation[std::string(word) + "_id"] = *id;
  }
  const auto eot = file.GetInt("tokenizer.ggml.eot_token_id");
  if (eot.ok() && generation.contains("eos_token_id") && generation["eos_token_id"] != *eot) {
    generation["eos_token_id"] = Json::array({generation["eos_token_id"], *eot});
  }
  const auto add_bos = file.GetBool("tokenizer.ggml.add_bos_token");
  config["add_bos_token"] = add_bos.ok() && *add_bos;
  for (const auto& [key, word] : {std::pair{"general.sampling.temp", "temperature"},
                                  {"general.sampling.top_p", "top_p"}}) {
    const auto value = file.GetFloat(key);
    if (value.ok()) {
      generation[word] = std::stod(Format("%.7g", *value));
      generation["do_sample"] = true;
    }
  }
  texts["tokenizer_config.json"] = DumpJson(config, 2) + "\n";
  texts["generation_config.json"] = DumpJson(generation, 2) + "\n";
  const auto chat = file.GetString("tokenizer.chat_template");
  if (chat.ok()) texts["chat_template.jinja"] = std::string(*chat);
  return texts;
}

}  // namespace lode::quant

// tokenizer.json (and what tokenizer_config.json adds) -> Tokenizer.
#include <limits>
#include <unordered_map>

#include "base/text.h"
#include "text/tokenizer/json_scan.h"
#include "text/tokenizer/parts.h"

namespace lode::text {
namespace {

struct Model {
  Vocabulary vocabulary;
  std::deque<std::string> merge_texts;
  std::vector<std::pair<std::string_view, std::string_view>> merges;
  BpeOptions options;
  bool has_vocab = false;
  bool has_merges = false;
  std::string type = "BPE";  // very old files leave it out
};

Result<void> ReadVocab(JsonScanner* scanner, Model* model) {
  if (scanner->Peek() != '{') {
    return Error(Code::kBadInput, "model.vocab is no object; Lode reads BPE vocabularies only");
  }
  LODE_TRY(scanner->BeginObject());
  std::string token;
  for (bool first = true;; first = false) {
    LODE_ASSIGN(const bool more, scanner->NextKey(first, &token));
    if (!more) break;
    LODE_ASSIGN(const int64_t id, scanner->ReadInteger());
    model->vocabulary.Add(token, id);
  }
  model->has_vocab = true;
  Result<void> finished = model->vocabulary.Finish();
  if (!finished.ok()) finished.error().AddContext("model.vocab");
  return finished;
}

// Either "left right" or ["left", "right"]; only the latter can hold spaces.
Result<void> ReadMerges(JsonScanner* scanner, Model* model) {
  LODE_TRY(scanner->BeginArray());
  std::string left;
  std::string right;
  const auto keep = [&](std::string_view text) -> std::string_view {
    // Blocks of text that never move, since the merges point into them.
    constexpr size_t kBlockBytes = 1 << 16;
    auto& blocks = model->merge_texts;
    if (blocks.empty() || blocks.back().size() + text.size() > blocks.back().capacity()) {
      blocks.emplace_back();
      blocks.back().reserve(std::max(kBlockBytes, text.size()));
    }
    const size_t begin = blocks.back().size();
    blocks.back() += text;
    return std::string_view(blocks.back()).substr(begin);
  };
  for (bool first = true;; first = false) {
    LODE_ASSIGN(const bool more, scanner->NextElement(first));
    if (!more) break;
    if (scanner->Peek() == '"') {
      LODE_TRY(scanner->ReadString(&left));
      if (StartsWith(left, "#version")) continue;
      const size_t space = left.find(' ');
      if (space == std::string::npos || left.find(' ', space + 1) != std::string::npos) {
        return Error(Code::kBadInput, Format("model.merges: merge %zu, %s, is not two tokens with "
                                             "one space between them",
                                             model->merges.size(), Quote(left).c_str()));
      }
      const std::string_view kept = keep(left);
      model->merges.emplace_back(kept.substr(0, space), kept.substr(space + 1));
      continue;
    }
    LODE_TRY(scanner->BeginArray());
    LODE_ASSIGN(const bool has_left, scanner->NextElement(true));
    if (has_left) LODE_TRY(scanner->ReadString(&left));
    LODE_ASSIGN(const bool has_right, has_left ? scanner->NextElement(false) : Result<bool>(false));
    if (has_right) LODE_TRY(scanner->ReadString(&right));
    LODE_ASSIGN(const bool has_more,
                has_right ? scanner->NextElement(false) : Result<bool>(false));
    if (!has_right || has_more) {
      return Error(Code::kBadInput,
                   Format("model.merges: merge %zu is no pair of tokens", model->merges.size()));
    }
    const std::string_view kept = keep(left);
    model->merges.emplace_back(kept, keep(right));
  }
  model->has_merges = true;
  return {};
}

Result<void> ReadModelOption(const std::string& key, const Json& value, Model* model) {
  const bool flag = value.is_boolean() && value.get<bool>();
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  if (key == "type") {
    model->type = text;
  } else if (key == "unk_token") {
    model->options.has_unk = value.is_string();
    model->options.unk_token = text;
  } else if (key == "continuing_subword_prefix") {
    model->options.continuing_subword_prefix = text;
  } else if (key == "end_of_word_suffix") {
    model->options.end_of_word_suffix = text;
  } else if (key == "fuse_unk") {
    model->options.fuse_unk = flag;
  } else if (key == "byte_fallback") {
    model->options.byte_fallback = flag;
  } else if (key == "ignore_merges") {
    model->options.ignore_merges = flag;
  } else if (key == "dropout" && !value.is_null() &&
             !(value.is_number() && value.get<double>() == 0.0)) {
    return Error(Code::kUnsupported,
                 "model.dropout is set, which makes encoding random; Lode needs it null");
  }
  return {};
}

Result<Bpe> ReadModel(std::string_view text) {
  JsonScanner scanner(text);
  if (scanner.Peek() != '{') return Error(Code::kBadInput, "\"model\" is no object");
  LODE_TRY(scanner.BeginObject());
  Model model;
  std::string key;
  std::string_view vocab;
  std::string_view merges;
  for (bool first = true;; first = false) {
    LODE_ASSIGN(const bool more, scanner.NextKey(first, &key));
    if (!more) break;
    LODE_ASSIGN(const std::string_view value, scanner.ReadValue());
    if (key == "vocab") {
      vocab = value;
    } else if (key == "merges") {
      merges = value;
    } else {
      Result<Json> parsed = ParseJson(value);
      if (!parsed.ok()) return std::move(parsed.error().AddContext("model." + key));
      LODE_TRY(ReadModelOption(key, *parsed, &model));
    }
  }
  LODE_TRY(scanner.ExpectEnd());
  if (model.type != "BPE") {
    return Error(Code::kUnsupported, "the tokenizer model " + Quote(model.type) +
                                         " is not supported; Lode does BPE");
  }
  if (vocab.empty() || merges.empty()) {
    return Error(Code::kBadInput, std::string("\"model\" has no \"") +
                                      (vocab.empty() ? "vocab" : "merges") + "\"");
  }
  JsonScanner vocab_scanner(vocab);
  LODE_TRY(ReadVocab(&vocab_scanner, &model));
  LODE_TRY(vocab_scanner.ExpectEnd());
  JsonScanner merges_scanner(merges);
  LODE_TRY(ReadMerges(&merges_scanner, &model));
  LODE_TRY(merges_scanner.ExpectEnd());
  return Bpe::Create(std::move(model.vocabulary), model.merges, std::move(model.options));
}

Result<AddedToken> ReadAddedToken(const Json& json, int64_t id) {
  AddedToken token;
  token.content = GetString(json, "content");
  token.single_word = GetBool(json, "single_word");
  token.lstrip = GetBool(json, "lstrip");
  token.rstrip = GetBool(json, "rstrip");
  token.special = GetBool(json, "special");
  token.normalized = GetBool(json, "normalized", !token.special);
  if (!json.is_object() || id < 0 || id >= std::numeric_limits<int32_t>::max()) {
    return Error(Code::kBadInput, "an added token is broken or has no id: " +
                                      Quote(DumpJson(json)));
  }
  token.id = static_cast<int32_t>(id);
  return token;
}

// Puts added tokens in, last definition of a text first; a text that the model knows keeps the model's
// id, as in the reference.
Result<void> AddTokens(std::vector<AddedToken> tokens, TokenizerLoader::Parts* parts) {
  const Vocabulary& vocabulary = parts->bpe.vocabulary();
  const int64_t id_limit =
      static_cast<int64_t>(vocabulary.size() + parts->added.size() + tokens.size()) * 2 + 65536;
  std::unordered_map<std::string, size_t> places;
  for (size_t i = 0; i < parts->added.size(); ++i) places[parts->added[i].content] = i;
  for (AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    const int32_t model_id = vocabulary.Find(token.content);
    if (model_id >= 0 && model_id != token.id) {
      parts->warnings.push_back(Format("the added token %s claims the id %d, but the model has it as "
                                       "%d, which is used",
                                       Quote(token.content).c_str(), token.id, model_id));
    }
    if (model_id >= 0) {
      token.id = model_id;
    } else if (vocabulary.Has(token.id)) {
      return Error(Code::kBadInput,
                   Format("the added token %s has the id %d, which belongs to the token %s",
                          Quote(token.content).c_str(), token.id,
                          Quote(vocabulary.Token(token.id)).c_str()));
    } else if (token.id >= id_limit) {
      return Error(Code::kBadInput, Format("the added token %s has the id %d, which is out of range",
                                           Quote(token.content).c_str(), token.id));
    }
    const auto [place, is_new] = places.emplace(token.content, parts->added.size());
    if (is_new) {
      parts->added.push_back(std::move(token));
    } else {
      token.special = token.special || parts->added[place->second].special;
      parts->added[place->second] = std::move(token);
    }
  }
  return {};
}

// A component's JSON by its key; null when absent.
class Components {
 public:
  void Set(const std::string& key, std::string_view text) { texts_[key] = text; }

  Result<Json> Get(const std::string& key) const {
    const auto found = texts_.find(key);
    if (found == texts_.end()) return Json();
    Result<Json> parsed = ParseJson(found->second);
    if (!parsed.ok()) parsed.error().AddContext(key);
    return parsed;
  }
  std::string_view Text(const std::string& key) const {
    const auto found = texts_.find(key);
    return found == texts_.end() ? std::string_view() : found->second;
  }

 private:
  std::unordered_map<std::string, std::string_view> texts_;
};

std::string TokenName(const Json& config, const char* key) {
  const Json* value = FindKey(config, key);
  if (value == nullptr) return "";
  return value->is_string() ? value->get<std::string>() : GetString(*value, "content");
}

}  // namespace

Result<void> TokenizerLoader::ApplyConfig(const Json& config, Parts* parts) {
  if (const Json* listed = FindKey(config, "added_tokens_decoder");
      listed != nullptr && listed->is_object()) {
    std::unordered_map<std::string_view, bool> known;
    for (const AddedToken& token : parts->added) known[token.content] = true;
    std::vector<AddedToken> missing;
    for (const auto& [id_text, json] : listed->items()) {
      int64_t id = -1;
      if (!ParseInt64(id_text, &id)) {
        return Error(Code::kBadInput, "added_tokens_decoder has the key " + Quote(id_text) +
                                          ", which is no id");
      }
      LODE_ASSIGN(AddedToken token, ReadAddedToken(json, id));
      if (known.count(token.content) == 0) missing.push_back(std::move(token));
    }
    LODE_TRY(AddTokens(std::move(missing), parts));
  }
  const auto set = [&](const char* key, std::optional<int32_t>* id) {
    const std::string name = TokenName(config, key);
    if (name.empty()) return;
    *id = parts->Find(name);
    if (!id->has_value()) {
      parts->warnings.push_back(Format("tokenizer_config.json names the %s %s, which is no token",
                                       key, Quote(name).c_str()));
    }
  };
  set("bos_token", &parts->bos);
  set("eos_token", &parts->eos);
  set("pad_token", &parts->pad);
  set("unk_token", &parts->unk);
  return {};
}

Result<std::unique_ptr<TokenizerLoader::Parts>> TokenizerLoader::LoadHuggingFace(
    std::string_view tokenizer_json, std::string_view tokenizer_config_json) {
  JsonScanner scanner(tokenizer_json);
  if (scanner.Peek() != '{') return Error(Code::kBadInput, "tokenizer.json is no JSON object");
  LODE_TRY(scanner.BeginObject());
  Components components;
  std::string key;
  for (bool first = true;; first = false) {
    LODE_ASSIGN(const bool more, scanner.NextKey(first, &key));
    if (!more) break;
    LODE_ASSIGN(const std::string_view value, scanner.ReadValue());
    components.Set(key, value);
  }
  LODE_TRY(scanner.ExpectEnd());
  if (components.Text("model").empty()) {
    return Error(Code::kBadInput, "tokenizer.json has no \"model\"");
  }
  std::unique_ptr<Parts> parts = New();
  LODE_ASSIGN(parts->bpe, ReadModel(components.Text("model")));
  LODE_ASSIGN(const Json normalizer, components.Get("normalizer"));
  LODE_ASSIGN(parts->normalizer, Normalizer::Create(normalizer));
  LODE_ASSIGN(const Json pre_tokenizer, components.Get("pre_tokenizer"));
  LODE_ASSIGN(parts->pre_tokenizer, PreTokenizer::Create(pre_tokenizer));
  LODE_ASSIGN(const Json post_processor, components.Get("post_processor"));
  LODE_ASSIGN(parts->post_processor, PostProcessor::Create(post_processor));
  LODE_ASSIGN(const Json decoder, components.Get("decoder"));
  LODE_ASSIGN(parts->decoder, Decoder::Create(decoder));
  LODE_ASSIGN(const Json added, components.Get("added_tokens"));
  if (!added.is_null() && !added.is_array()) {
    return Error(Code::kBadInput, "\"added_tokens\" is no list");
  }
  std::vector<AddedToken> tokens;
  for (const Json& json : added) {
    LODE_ASSIGN(AddedToken token, ReadAddedToken(json, GetInt(json, "id", -1)));
    tokens.push_back(std::move(token));
  }
  LODE_TRY(AddTokens(std::move(tokens), parts.get()));

  Json config;
  if (!tokenizer_config_json.empty()) {
    Result<Json> parsed = ParseJson(tokenizer_config_json);
    if (!parsed.ok()) return std::move(parsed.error().AddContext("tokenizer_config.json"));
    config = std::move(parsed).value();
    LODE_TRY(ApplyConfig(config, parts.get()));
  }
  // Without a post-processor, the configuration's flags say what stands around a text.
  if (post_processor.is_null()) {
    std::vector<int32_t> before;
    std::vector<int32_t> behind;
    if (GetBool(config, "add_bos_token") && parts->bos.has_value()) before = {*parts->bos};
    if (GetBool(config, "add_eos_token") && parts->eos.has_value()) behind = {*parts->eos};
    parts->post_processor = PostProcessor::Around(std::move(before), std::move(behind));
  }
  return parts;
}

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromHuggingFace(
    std::string_view tokenizer_json, std::string_view tokenizer_config_json) {
  LODE_ASSIGN(std::unique_ptr<Parts> parts,
              TokenizerLoader::LoadHuggingFace(tokenizer_json, tokenizer_config_json));
  return TokenizerLoader::Finish(std::move(parts));
}

}  // namespace lode::text

// GGUF's tokenizer.ggml.* -> Tokenizer.
#include <algorithm>

#include "base/text.h"
#include "text/tokenizer/parts.h"

namespace lode::text {
namespace {

enum TokenType : int32_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4 };

// Pre-tokenizers whose vocabularies are rank files turned into merges: a piece that is a token is that
// token, whatever the merges give.
bool ImpliesIgnoreMerges(const std::string& pre) {
  static const std::vector<std::string> kNames = {"llama-bpe", "llama3", "llama-v3", "falcon3",
                                                  "falcon-h1", "pixtral", "lfm2",    "tekken",
                                                  "youtu",     "minicpm5"};
  return std::find(kNames.begin(), kNames.end(), pre) != kNames.end();
}

bool ImpliesAddBos(const std::string& pre) {
  static const std::vector<std::string> kNames = {"llama-bpe", "llama3",  "llama-v3", "falcon3",
                                                  "falcon-h1", "pixtral", "lfm2",     "tekken"};
  return std::find(kNames.begin(), kNames.end(), pre) != kNames.end();
}

// Nemotron 3's vocabulary, whose files name the wrong pattern (see tokenizer.h).
bool IsNemotron(const GgufVocab& vocab) {
  return vocab.tokens.size() == 131072 && vocab.tokens[10] == "<|im_start|>" &&
         vocab.tokens[14] == "<tool_call>";
}

Result<Bpe> MakeBpe(const GgufVocab& vocab) {
  Vocabulary vocabulary;
  for (size_t i = 0; i < vocab.tokens.size(); ++i) {
    vocabulary.Add(vocab.tokens[i], static_cast<int64_t>(i));
  }
  Result<void> finished = vocabulary.Finish();
  if (!finished.ok()) return std::move(finished.error().AddContext("tokenizer.ggml.tokens"));
  std::vector<std::pair<std::string_view, std::string_view>> merges;
  merges.reserve(vocab.merges.size());
  for (size_t i = 0; i < vocab.merges.size(); ++i) {
    const std::string_view merge = vocab.merges[i];
    const size_t space = merge.find(' ', 1);  // a part is never empty, but may begin with a space
    if (space == std::string_view::npos) {
      return Error(Code::kBadInput, Format("tokenizer.ggml.merges: merge %zu, %s, is not two tokens "
                                           "with a space between them",
                                           i, Quote(merge).c_str()));
    }
    merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
  }
  BpeOptions options;
  options.ignore_merges = ImpliesIgnoreMerges(vocab.pre) || IsNemotron(vocab);
  Result<Bpe> bpe = Bpe::Create(std::move(vocabulary), merges, std::move(options));
  if (!bpe.ok()) bpe.error().AddContext("tokenizer.ggml.merges");
  return bpe;
}

Result<void> CheckVocab(const GgufVocab& vocab) {
  if (vocab.model != "gpt2") {
    const std::string what =
        vocab.model == "llama" ? "'llama' (SentencePiece)" : Quote(vocab.model);
    return Error(Code::kUnsupported, "the tokenizer model " + what +
                                         " (tokenizer.ggml.model) is not supported; Lode does 'gpt2', "
                                         "byte-level BPE");
  }
  if (!vocab.token_types.empty() && vocab.token_types.size() != vocab.tokens.size()) {
    return Error(Code::kBadInput,
                 Format("tokenizer.ggml.token_type has %zu entries for %zu tokens",
                        vocab.token_types.size(), vocab.tokens.size()));
  }
  return {};
}

Result<void> SetIds(const GgufVocab& vocab, int64_t id_end, TokenizerLoader::Parts* parts) {
  const auto check = [&](const char* key, const std::optional<int64_t>& id,
                         std::optional<int32_t>* out) -> Result<void> {
    if (!id.has_value()) return {};
    if (*id < 0 || *id >= id_end) {
      return Error(Code::kBadInput,
                   Format("tokenizer.ggml.%s is %lld, but there are %lld tokens", key,
                          static_cast<long long>(*id), static_cast<long long>(id_end)));
    }
    *out = static_cast<int32_t>(*id);
    return {};
  };
  std::optional<int32_t> eot;
  std::optional<int32_t> eom;
  LODE_TRY(check("bos_token_id", vocab.bos, &parts->bos));
  LODE_TRY(check("eos_token_id", vocab.eos, &parts->eos));
  LODE_TRY(check("eot_token_id", vocab.eot, &eot));
  LODE_TRY(check("eom_token_id", vocab.eom, &eom));
  LODE_TRY(check("unknown_token_id", vocab.unk, &parts->unk));
  LODE_TRY(check("padding_token_id", vocab.pad, &parts->pad));
  if (eot.has_value()) parts->more_stops.push_back(*eot);
  if (eom.has_value()) parts->more_stops.push_back(*eom);
  return {};
}

}  // namespace

Result<std::unique_ptr<Tokenizer>> Tokenizer::FromGguf(const GgufVocab& vocab) {
  if (!vocab.huggingface_json.empty()) {
    Result<std::unique_ptr<Parts>> loaded =
        TokenizerLoader::LoadHuggingFace(vocab.huggingface_json, "");
    if (!loaded.ok()) return std::move(loaded.error().AddContext("tokenizer.huggingface.json"));
    std::unique_ptr<Parts> parts = std::move(loaded).value();
    int64_t id_end = parts->bpe.vocabulary().id_end();
    for (const AddedToken& token : parts->added) id_end = std::max<int64_t>(id_end, token.id + 1);
    LODE_TRY(SetIds(vocab, id_end, parts.get()));
    return TokenizerLoader::Finish(std::move(parts));
  }
  LODE_TRY(CheckVocab(vocab));
  std::unique_ptr<Parts> parts = TokenizerLoader::New();
  LODE_ASSIGN(parts->bpe, MakeBpe(vocab));
  std::string pre = IsNemotron(vocab) ? "tekken" : vocab.pre;
  if (pre.empty()) {
    pre = "gpt-2";
    parts->warnings.push_back("the file does not name its pre-tokenizer (tokenizer.ggml.pre); GPT-2's "
                              "is used, which may cut text otherwise than in training");
  }
  LODE_ASSIGN(const Json pre_tokenizer, PreTokenizerOfGguf(pre));
  LODE_ASSIGN(parts->pre_tokenizer, PreTokenizer::Create(pre_tokenizer));
  LODE_ASSIGN(parts->decoder, Decoder::Create(Json{{"type", "ByteLevel"}}));
  for (size_t i = 0; i < vocab.token_types.size(); ++i) {
    const int32_t type = vocab.token_types[i];
    if (type != kUnknown && type != kControl && type != kUserDefined) continue;
    AddedToken token;
    token.content = vocab.tokens[i];
    token.id = static_cast<int32_t>(i);
    token.special = type != kUserDefined;
    parts->added.push_back(std::move(token));
  }
  LODE_TRY(SetIds(vocab, static_cast<int64_t>(vocab.tokens.size()), parts.get()));
  std::vector<int32_t> before;
  std::vector<int32_t> behind;
  if (vocab.add_bos.value_or(ImpliesAddBos(pre)) && parts->bos.has_value()) before = {*parts->bos};
  if (vocab.add_eos.value_or(false) && parts->eos.has_value()) behind = {*parts->eos};
  parts->post_processor = PostProcessor::Around(std::move(before), std::move(behind));
  return TokenizerLoader::Finish(std::move(parts));
}

}  // namespace lode::text

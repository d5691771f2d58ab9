#include "tune/plain_vocabulary.h"

#include <set>
#include <vector>

#include "base/json.h"
#include "base/utf8.h"
#include "text/tokenizer/byte_alphabet.h"

namespace lode::tune {
namespace {

constexpr char kUnknown[] = "<unk>", kEnd[] = "</s>";

Json Special(int id, const char* content) {
  return {{"id", id},        {"content", content},  {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

TextFiles Files(const std::vector<std::string>& tokens, Json before, Json decoder) {
  Json vocabulary = Json::object();
  vocabulary[kUnknown] = 0;
  vocabulary[kEnd] = 1;
  int next = 2;
  for (const std::string& token : tokens) vocabulary[token] = next++;
  const Json tokenizer = {{"version", "1.0"},
                          {"truncation", nullptr},
                          {"padding", nullptr},
                          {"added_tokens", {Special(0, kUnknown), Special(1, kEnd)}},
                          {"normalizer", nullptr},
                          {"pre_tokenizer", std::move(before)},
                          {"post_processor", nullptr},
                          {"decoder", std::move(decoder)},
                          {"model",
                           {{"type", "BPE"},
                            {"dropout", nullptr},
                            {"unk_token", kUnknown},
                            {"continuing_subword_prefix", nullptr},
                            {"end_of_word_suffix", nullptr},
                            {"fuse_unk", false},
                            {"byte_fallback", false},
                            {"ignore_merges", false},
                            {"vocab", std::move(vocabulary)},
                            {"merges", Json::array()}}}};
  const Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"unk_token", kUnknown},
                       {"eos_token", kEnd},
                       {"clean_up_tokenization_spaces", false}};
  const Json generation = {{"do_sample", true}, {"temperature", 0.8}, {"eos_token_id", 1}};
  return {{"tokenizer.json", DumpJson(tokenizer, 1) + "\n"},
          {"tokenizer_config.json", DumpJson(config, 1) + "\n"},
          {"generation_config.json", DumpJson(generation, 1) + "\n"},
          {"chat_template.jinja", "{% for m in messages %}{{ m.content }}{% endfor %}"}};
}

// Each character a piece of its own.
Json EachCharacter() {
  return {{"type", "Split"},
          {"pattern", {{"Regex", "[\\s\\S]"}}},
          {"behavior", "Isolated"},
          {"invert", false}};
}

}  // namespace

TextFiles CharacterVocabulary(std::string_view text) {
  std::set<char32_t> characters;
  for (size_t at = 0; at < text.size();) {
    const DecodedChar next = DecodeUtf8(text, at);
    characters.insert(next.code_point);
    at += static_cast<size_t>(next.bytes);
  }
  std::vector<std::string> tokens;
  for (const char32_t character : characters) AppendUtf8(character, &tokens.emplace_back());
  return Files(tokens, EachCharacter(), {{"type", "Fuse"}});
}

TextFiles ByteVocabulary() {
  const auto& letters = text::ByteLetters();
  const Json before = {{"type", "Sequence"},
                       {"pretokenizers",
                        {EachCharacter(),
                         {{"type", "ByteLevel"},
                          {"add_prefix_space", false},
                          {"trim_offsets", false},
                          {"use_regex", false}}}}};
  return Files({letters.begin(), letters.end()}, before, {{"type", "ByteLevel"}});
}

}  // namespace lode::tune

#include "tune/data/bpe_trainer.h"

#include <algorithm>
#include <array>
#include <deque>
#include <numeric>
#include <optional>
#include <queue>
#include <set>

#include "base/text.h"
#include "base/utf8.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/pattern.h"

namespace lode::tune {
namespace {

using Pair = std::pair<int32_t, int32_t>;

uint64_t KeyOf(Pair pair) {
  return static_cast<uint64_t>(static_cast<uint32_t>(pair.first)) << 32 |
         static_cast<uint32_t>(pair.second);
}

// Bytes in the order of the letters that stand for them.
std::array<uint8_t, 256> BytesByLetter() {
  std::array<uint8_t, 256> bytes;
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  std::sort(bytes.begin(), bytes.end(), [](uint8_t a, uint8_t b) {
    return DecodeUtf8(text::ByteLetters()[a], 0).code_point <
           DecodeUtf8(text::ByteLetters()[b], 0).code_point;
  });
  return bytes;
}

// Pieces as tokens so far, the counts of neighbours in them, and who is most frequent.
class Merger {
 public:
  Merger(const std::unordered_map<std::string, int64_t>& counts,
         const std::array<int32_t, 256>& id_of_byte) {
    for (const auto& [piece, count] : counts) {
      Word word;
      word.count = count;
      for (const char c : piece) {
        word.tokens.push_back(id_of_byte[static_cast<unsigned char>(c)]);
      }
      const auto index = static_cast<uint32_t>(words_.size());
      for (size_t i = 0; i + 1 < word.tokens.size(); ++i) {
        Change({word.tokens[i], word.tokens[i + 1]}, count, index);
      }
      words_.push_back(std::move(word));
    }
    for (const auto& [key, state] : pairs_) heap_.push({state.count, state.pair});
  }

  // The most frequent pair, if it occurs `count_min` times.
  std::optional<Pair> Best(int64_t count_min) {
    while (!heap_.empty()) {
      const Entry top = heap_.top();
      heap_.pop();
      const int64_t count = pairs_.at(KeyOf(top.pair)).count;
      if (count == top.count) {
        if (count < std::max<int64_t>(1, count_min)) return std::nullopt;
        return top.pair;
      }
      if (count > 0) heap_.push({count, top.pair});  // it has become rarer meanwhile
    }
    return std::nullopt;
  }

  // Wherever `pair` stands, `id` stands from now on.
  void Merge(Pair pair, int32_t id) {
    std::vector<uint32_t> where = std::move(pairs_.at(KeyOf(pair)).words);
    std::sort(where.begin(), where.end());
    where.erase(std::unique(where.begin(), where.end()), where.end());
    risen_.clear();
    for (const uint32_t index : where) MergeWord(index, pair, id);
    pairs_.erase(KeyOf(pair));
    for (const uint64_t key : risen_) {
      const auto found = pairs_.find(key);
      if (found != pairs_.end()) heap_.push({found->second.count, found->second.pair});
    }
  }

 private:
  struct Word {
    std::vector<int32_t> tokens;
    int64_t count;
  };
  struct PairState {
    Pair pair;
    int64_t count = 0;
    std::vector<uint32_t> words;  // where it stood once; some more than once
  };
  struct Entry {
    int64_t count;
    Pair pair;
    // The largest is popped: the higher count, then the smaller pair.
    bool operator<(const Entry& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  void Change(Pair pair, int64_t by, uint32_t word) {
    PairState& state = pairs_[KeyOf(pair)];
    state.pair = pair;
    state.count += by;
    if (by > 0 && (state.words.empty() || state.words.back() != word)) state.words.push_back(word);
  }

  void MergeWord(uint32_t index, Pair pair, int32_t id) {
    Word& word = words_[index];
    std::vector<int32_t>& tokens = word.tokens;
    size_t out = 0;
    for (size_t at = 0; at < tokens.size(); ++at, ++out) {
      const bool here =
          at + 1 < tokens.size() && tokens[at] == pair.first && tokens[at + 1] == pair.second;
      if (!here) {
        tokens[out] = tokens[at];
        continue;
      }
      if (out > 0) {
        Change({tokens[out - 1], pair.first}, -word.count, index);
        Rise({tokens[out - 1], id}, word.count, index);
      }
      if (at + 2 < tokens.size()) {
        Change({pair.second, tokens[at + 2]}, -word.count, index);
        Rise({id, tokens[at + 2]}, word.count, index);
      }
      tokens[out] = id;
      ++at;
    }
    tokens.resize(out);
  }

  void Rise(Pair pair, int64_t by, uint32_t word) {
    Change(pair, by, word);
    risen_.insert(KeyOf(pair));
  }

  std::vector<Word> words_;
  std::unordered_map<uint64_t, PairState> pairs_;
  std::priority_queue<Entry> heap_;
  std::set<uint64_t> risen_;  // pairs that the merge at hand made
};

Result<void> CheckSpecial(const BpeOptions& options) {
  std::set<std::string> seen;
  for (const std::string& token : options.special) {
    if (token.empty() || !IsValidUtf8(token)) {
      return Error(Code::kBadInput, "a special token is empty or no UTF-8");
    }
    if (!seen.insert(token).second) {
      return Error(Code::kBadInput, "the special token " + Quote(token) + " is given twice");
    }
  }
  if (!seen.contains(options.eos)) {
    return Error(Code::kBadInput,
                 "EOS, " + Quote(options.eos) + ", is not among the special tokens");
  }
  const auto needed = static_cast<int64_t>(options.special.size()) + 256;
  if (options.vocabulary < needed) {
    return Error(Code::kBadInput,
                 Format("a vocabulary of %lld has no room for 256 bytes and %zu special tokens",
                        static_cast<long long>(options.vocabulary), options.special.size()),
                 Format("at least %lld", static_cast<long long>(needed)));
  }
  return {};
}

}  // namespace

Result<BpeTrainer> BpeTrainer::Make(const BpeOptions& options) {
  LODE_TRY(CheckSpecial(options));
  BpeTrainer trainer;
  trainer.options_ = options;
  if (trainer.options_.regex.empty()) {
    trainer.options_.regex = text::PatternRegex(text::Pattern::kTekken);
  }
  trainer.pre_tokenizer_json_ = {
      {"type", "Sequence"},
      {"pretokenizers", Json::array({{{"type", "Split"},
                                      {"pattern", {{"Regex", trainer.options_.regex}}},
                                      {"behavior", "Isolated"},
                                      {"invert", false}},
                                     {{"type", "ByteLevel"},
                                      {"add_prefix_space", false},
                                      {"trim_offsets", true},
                                      {"use_regex", false}}})}};
  LODE_ASSIGN(trainer.pre_tokenizer_, text::PreTokenizer::Create(trainer.pre_tokenizer_json_));
  LODE_CHECK(trainer.pre_tokenizer_.pieces_are_bytes());
  return trainer;
}

Result<void> BpeTrainer::Add(std::string_view text) {
  const std::string valid = ReplaceInvalidUtf8(text);
  std::deque<std::string> storage;
  std::vector<std::string_view> pieces;
  LODE_TRY(pre_tokenizer_.Split(valid, true, &storage, &pieces));
  for (const std::string_view piece : pieces) ++counts_[std::string(piece)];
  pieces_ += static_cast<int64_t>(pieces.size());
  return {};
}

Result<void> BpeTrainer::AddRecord(const DataRecord& record) {
  for (const Words* words : {&record.prompt, &record.answer, &record.rejected}) {
    if (!words->text.empty()) LODE_TRY(Add(words->text));
    for (const Json& message : words->messages) {
      for (const char* key : {"content", "reasoning_content", "reasoning", "thinking"}) {
        const std::string said = GetString(message, key);
        if (!said.empty()) LODE_TRY(Add(said));
      }
      if (const Json* calls = FindKey(message, "tool_calls")) LODE_TRY(Add(DumpJson(*calls)));
    }
  }
  return {};
}

Result<BpeVocabulary> BpeTrainer::Train(const std::function<bool(int64_t tokens)>& progress) const {
  BpeVocabulary vocabulary;
  vocabulary.special = options_.special;
  vocabulary.tokens = options_.special;
  std::array<int32_t, 256> id_of_byte = {};
  for (const uint8_t byte : BytesByLetter()) {
    id_of_byte[byte] = static_cast<int32_t>(vocabulary.tokens.size());
    vocabulary.tokens.push_back(text::ByteLetters()[byte]);
  }
  Merger merger(counts_, id_of_byte);
  std::set<std::string> known(vocabulary.tokens.begin(), vocabulary.tokens.end());
  while (static_cast<int64_t>(vocabulary.tokens.size()) < options_.vocabulary) {
    const std::optional<Pair> best = merger.Best(options_.count_min);
    if (!best) break;
    std::string token = vocabulary.tokens[static_cast<size_t>(best->first)] +
                        vocabulary.tokens[static_cast<size_t>(best->second)];
    const auto next = static_cast<int32_t>(vocabulary.tokens.size());
    // Two ways to the same letters are one token.
    const bool is_new = known.insert(token).second;
    const auto id = is_new ? next
                           : static_cast<int32_t>(std::find(vocabulary.tokens.begin(),
                                                            vocabulary.tokens.end(), token) -
                                                  vocabulary.tokens.begin());
    if (is_new) vocabulary.tokens.push_back(std::move(token));
    vocabulary.merges.push_back(*best);
    merger.Merge(*best, id);
    if (progress && !progress(next)) return Error(Code::kCancelled, "stopped");
  }
  return vocabulary;
}

Json BpeTrainer::TokenizerJson(const BpeVocabulary& vocabulary) const {
  Json added = Json::array(), tokens = Json::object(), merges = Json::array();
  for (size_t id = 0; id < vocabulary.special.size(); ++id) {
    added.push_back({{"id", id},
                     {"content", vocabulary.special[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", true}});
  }
  // Not by name: an ordered object compares every new key with all before it.
  auto& members = tokens.get_ref<Json::object_t&>();
  for (size_t id = 0; id < vocabulary.tokens.size(); ++id) {
    members.emplace_back(vocabulary.tokens[id], id);
  }
  for (const Pair& pair : vocabulary.merges) {
    merges.push_back(Json::array({vocabulary.tokens[static_cast<size_t>(pair.first)],
                                  vocabulary.tokens[static_cast<size_t>(pair.second)]}));
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", nullptr},
          {"pre_tokenizer", pre_tokenizer_json_},
          {"post_processor", nullptr},
          {"decoder",
           {{"type", "ByteLevel"},
            {"add_prefix_space", true},
            {"trim_offsets", true},
            {"use_regex", true}}},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", false},
            {"vocab", std::move(tokens)},
            {"merges", std::move(merges)}}}};
}

Json BpeTrainer::ConfigJson(const BpeVocabulary& vocabulary) const {
  Json added = Json::object();
  for (size_t id = 0; id < vocabulary.special.size(); ++id) {
    added[std::to_string(id)] = {{"content", vocabulary.special[id]},
                                 {"lstrip", false},
                                 {"normalized", false},
                                 {"rstrip", false},
                                 {"single_word", false},
                                 {"special", true}};
  }
  return {{"tokenizer_class", "PreTrainedTokenizerFast"},
          {"eos_token", options_.eos},
          {"pad_token", options_.eos},
          {"clean_up_tokenization_spaces", false},
          {"added_tokens_decoder", std::move(added)}};
}

}  // namespace lode::tune

#include "text/tokenizer/pretokenizer.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/text.h"
#include "base/utf8.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/regex.h"
#include "text/tokenizer/unicode.h"

namespace lode::text {
namespace {

enum class Kind {
  kSplit,       // by pattern, expression or literal
  kByteLevel,   // optional prefix space, optional GPT-2 split, then bytes
  kCharacters,  // matches are single characters of one sort
  kWords,       // \w+|[^\w\s]+ are kept, the rest is dropped
  kMetaspace,
  kFixedLength,
};

enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

enum class Sort { kNumeric, kWhiteSpace, kPunctuation, kDelimiter };

Result<Behavior> ParseBehavior(const std::string& name) {
  constexpr std::array<std::pair<const char*, Behavior>, 10> kNames = {{
      {"Isolated", Behavior::kIsolated},
      {"Removed", Behavior::kRemoved},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous},
      {"isolated", Behavior::kIsolated},
      {"removed", Behavior::kRemoved},
      {"merged_with_previous", Behavior::kMergedWithPrevious},
      {"merged_with_next", Behavior::kMergedWithNext},
      {"contiguous", Behavior::kContiguous},
  }};
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  return Error(Code::kUnsupported, "the split behavior " + Quote(name) + " is not supported");
}

// Spans --------------------------------------------------------------------------------------------

// Turns matches and gaps into pieces, in place: joined as the behavior says; what is dropped keeps
// is_match, what stays has it cleared.
void ApplyBehavior(Behavior behavior, std::vector<Span>* spans) {
  std::vector<Span> out;
  bool previous_match = false;
  switch (behavior) {
    case Behavior::kRemoved:
      return;
    case Behavior::kIsolated:
      out = std::move(*spans);
      break;
    case Behavior::kContiguous:
      for (const Span& span : *spans) {
        if (span.is_match == previous_match && !out.empty()) {
          out.back().end = span.end;
        } else {
          out.push_back(span);
        }
        previous_match = span.is_match;
      }
      break;
    case Behavior::kMergedWithPrevious:
      for (const Span& span : *spans) {
        if (span.is_match && !previous_match && !out.empty()) {
          out.back().end = span.end;
        } else {
          out.push_back(span);
        }
        previous_match = span.is_match;
      }
      break;
    case Behavior::kMergedWithNext:
      for (auto span = spans->rbegin(); span != spans->rend(); ++span) {
        if (span->is_match && !previous_match && !out.empty()) {
          out.back().begin = span->begin;
        } else {
          out.push_back(*span);
        }
        previous_match = span->is_match;
      }
      std::reverse(out.begin(), out.end());
      break;
  }
  for (Span& span : out) span.is_match = false;
  *spans = std::move(out);
}

void SplitByPattern(Pattern pattern, std::string_view text, std::vector<Span>* spans) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = MatchEnd(pattern, text, at);
    spans->push_back({at, end, true});
    at = end;
  }
}

void SplitByLiteral(std::string_view literal, std::string_view text, std::vector<Span>* spans) {
  size_t at = 0;
  for (size_t found = text.find(literal); found != std::string_view::npos;
       found = text.find(literal, at)) {
    if (found > at) spans->push_back({at, found, false});
    at = found + literal.size();
    spans->push_back({found, at, true});
  }
  if (at < text.size()) spans->push_back({at, text.size(), false});
}

// Every character for which `matches` holds is a match of its own.
template <typename Matches>
void SplitByCharacter(std::string_view text, Matches matches, std::vector<Span>* spans) {
  size_t gap = 0;
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    if (matches(c)) {
      if (gap < at) spans->push_back({gap, at, false});
      spans->push_back({at, at + c.bytes, true});
      gap = at + c.bytes;
    }
    at += c.bytes;
  }
  if (gap < text.size()) spans->push_back({gap, text.size(), false});
}

// Runs of word characters and runs of symbols; white space between them is a match (to be removed).
void SplitIntoWords(std::string_view text, std::vector<Span>* spans) {
  int previous = -1;
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    const int sort = IsWordChar(c.code_point) ? 0 : (c.char_class & kSpace) != 0 ? 1 : 2;
    if (sort == previous) {
      spans->back().end += c.bytes;
    } else {
      spans->push_back({at, at + c.bytes, sort == 1});
    }
    previous = sort;
    at += c.bytes;
  }
}

void SplitByLength(std::string_view text, size_t length, std::vector<Span>* spans) {
  size_t count = 0;
  for (size_t at = 0; at < text.size(); ++count) {
    const Char c = CharAt(text, at);
    if (count % length == 0) spans->push_back({at, at, false});
    at += c.bytes;
    spans->back().end = at;
  }
}

}  // namespace

struct PreTokenizer::Step {
  Kind kind;
  Behavior behavior = Behavior::kIsolated;
  bool invert = false;
  // kSplit: exactly one of these.
  std::optional<Pattern> pattern;
  std::unique_ptr<Regex> regex;
  std::string literal;
  // kByteLevel
  bool use_regex = true;
  bool add_prefix_space = false;
  bool spell_letters = true;  // false for the last step: pieces stay bytes
  // kCharacters
  Sort sort = Sort::kNumeric;
  char32_t delimiter = 0;
  // kMetaspace
  std::string replacement;
  bool prepend_first = false;
  bool prepend_always = false;
  bool split = true;
  // kFixedLength
  size_t length = 0;

  Result<void> Find(std::string_view text, std::vector<Span>* spans) const;
};

Result<void> PreTokenizer::Step::Find(std::string_view text, std::vector<Span>* spans) const {
  spans->clear();
  switch (kind) {
    case Kind::kSplit:
      if (pattern.has_value()) {
        SplitByPattern(*pattern, text, spans);
      } else if (regex != nullptr) {
        LODE_TRY(regex->Split(text, spans));
      } else {
        SplitByLiteral(literal, text, spans);
      }
      break;
    case Kind::kByteLevel:
      if (use_regex) {
        SplitByPattern(Pattern::kGpt2, text, spans);
      } else {
        spans->push_back({0, text.size(), false});
      }
      break;
    case Kind::kCharacters:
      SplitByCharacter(text, [&](const Char& c) {
        switch (sort) {
          case Sort::kNumeric:
            return (c.char_class & kNumber) != 0;
          case Sort::kWhiteSpace:
            return (c.char_class & kSpace) != 0;
          case Sort::kPunctuation:
            return IsPunctuation(c.code_point);
          case Sort::kDelimiter:
            return c.code_point == delimiter;
        }
        return false;
      }, spans);
      break;
    case Kind::kWords:
      SplitIntoWords(text, spans);
      break;
    case Kind::kMetaspace:
      if (split) {
        SplitByLiteral(replacement, text, spans);
      } else {
        spans->push_back({0, text.size(), false});
      }
      break;
    case Kind::kFixedLength:
      SplitByLength(text, length, spans);
      break;
  }
  if (invert) {
    for (Span& span : *spans) span.is_match = !span.is_match;
  }
  ApplyBehavior(behavior, spans);
  return {};
}

PreTokenizer::PreTokenizer() = default;
PreTokenizer::PreTokenizer(PreTokenizer&&) noexcept = default;
PreTokenizer& PreTokenizer::operator=(PreTokenizer&&) noexcept = default;
PreTokenizer::~PreTokenizer() = default;

Result<PreTokenizer> PreTokenizer::Create(const Json& json) {
  PreTokenizer made;
  if (json.is_null()) return made;
  LODE_TRY(made.Append(json));
  const auto is_byte_level = [](const Step& step) { return step.kind == Kind::kByteLevel; };
  std::vector<Step>& steps = made.steps_;
  if (steps.empty() || !is_byte_level(steps.back()) ||
      std::count_if(steps.begin(), steps.end(), is_byte_level) != 1) {
    return made;
  }
  Step& last = steps.back();
  last.spell_letters = false;
  made.pieces_are_bytes_ = true;
  if (last.add_prefix_space) return made;
  const Step& first = steps.front();
  if (steps.size() == 1 && last.use_regex) {
    made.only_pattern_ = Pattern::kGpt2;
  } else if (steps.size() == 2 && !last.use_regex && first.kind == Kind::kSplit &&
             first.pattern.has_value() && first.behavior == Behavior::kIsolated) {
    made.only_pattern_ = first.pattern;
  }
  return made;
}

Result<void> PreTokenizer::Append(const Json& json) {
  const std::string type = GetString(json, "type");
  if (type == "Sequence") {
    const Json* list = FindKey(json, "pretokenizers");
    if (list == nullptr || !list->is_array()) {
      return Error(Code::kBadInput, "pre-tokenizer Sequence has no list \"pretokenizers\"");
    }
    for (const Json& step : *list) LODE_TRY(Append(step));
    return {};
  }
  Step step{};
  if (type == "Split") {
    step.kind = Kind::kSplit;
    step.invert = GetBool(json, "invert");
    LODE_ASSIGN(step.behavior, ParseBehavior(GetString(json, "behavior", "Isolated")));
    const Json* pattern = FindKey(json, "pattern");
    if (pattern != nullptr && FindKey(*pattern, "Regex") != nullptr) {
      const std::string regex = GetString(*pattern, "Regex");
      step.pattern = RecognisePattern(regex);
      if (!step.pattern.has_value()) {
        LODE_ASSIGN(step.regex, Regex::Compile(regex));
      }
    } else {
      if (pattern != nullptr) step.literal = GetString(*pattern, "String");
      if (step.literal.empty()) {
        return Error(Code::kBadInput,
                     "pre-tokenizer Split needs a pattern {\"String\": ..} or {\"Regex\": ..}");
      }
    }
  } else if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
    step.use_regex = GetBool(json, "use_regex", true);
    step.add_prefix_space = GetBool(json, "add_prefix_space", true);
  } else if (type == "Digits") {
    step.kind = Kind::kCharacters;
    step.sort = Sort::kNumeric;
    step.behavior =
        GetBool(json, "individual_digits") ? Behavior::kIsolated : Behavior::kContiguous;
  } else if (type == "Punctuation") {
    step.kind = Kind::kCharacters;
    step.sort = Sort::kPunctuation;
    LODE_ASSIGN(step.behavior, ParseBehavior(GetString(json, "behavior", "Isolated")));
  } else if (type == "Whitespace") {
    step.kind = Kind::kWords;
    step.behavior = Behavior::kRemoved;
  } else if (type == "WhitespaceSplit") {
    step.kind = Kind::kCharacters;
    step.sort = Sort::kWhiteSpace;
    step.behavior = Behavior::kRemoved;
  } else if (type == "CharDelimiterSplit") {
    step.kind = Kind::kCharacters;
    step.sort = Sort::kDelimiter;
    step.behavior = Behavior::kRemoved;
    const std::string delimiter = GetString(json, "delimiter");
    if (delimiter.empty()) {
      return Error(Code::kBadInput, "pre-tokenizer CharDelimiterSplit has no \"delimiter\"");
    }
    step.delimiter = DecodeUtf8(delimiter, 0).code_point;
  } else if (type == "Metaspace") {
    step.kind = Kind::kMetaspace;
    step.behavior = Behavior::kMergedWithNext;
    step.replacement = GetString(json, "replacement", "\xE2\x96\x81");
    step.split = GetBool(json, "split", true);
    const std::string scheme = GetString(
        json, "prepend_scheme", GetBool(json, "add_prefix_space", true) ? "always" : "never");
    step.prepend_always = scheme == "always";
    step.prepend_first = scheme == "first";
    if (step.replacement.empty() || (!step.prepend_always && !step.prepend_first &&
                                     scheme != "never")) {
      return Error(Code::kBadInput, "pre-tokenizer Metaspace has an empty replacement or the unknown "
                                    "prepend_scheme " + Quote(scheme));
    }
  } else if (type == "FixedLength") {
    step.kind = Kind::kFixedLength;
    const int64_t length = GetInt(json, "length", 5);
    if (length <= 0) {
      return Error(Code::kBadInput, "pre-tokenizer FixedLength needs a length above 0");
    }
    step.length = static_cast<size_t>(length);
  } else {
    return Error(Code::kUnsupported, "the pre-tokenizer " + Quote(type) + " is not supported",
                 "known: ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, "
                 "CharDelimiterSplit, Metaspace, FixedLength, Sequence");
  }
  steps_.push_back(std::move(step));
  return {};
}

Result<void> PreTokenizer::Split(std::string_view text, bool at_start,
                                 std::deque<std::string>* storage,
                                 std::vector<std::string_view>* pieces) const {
  pieces->clear();
  if (!text.empty()) pieces->push_back(text);
  std::vector<std::string_view> before;
  std::vector<Span> spans;
  const auto store = [&](std::string owned) -> std::string_view {
    storage->push_back(std::move(owned));
    return storage->back();
  };
  for (const Step& step : steps_) {
    before.swap(*pieces);
    pieces->clear();
    for (size_t i = 0; i < before.size(); ++i) {
      std::string_view piece = before[i];
      if (step.kind == Kind::kByteLevel && step.add_prefix_space && piece[0] != ' ') {
        piece = store(" " + std::string(piece));
      }
      if (step.kind == Kind::kMetaspace) {
        std::string replaced;
        for (const char c : piece) {
          if (c == ' ') {
            replaced += step.replacement;
          } else {
            replaced += c;
          }
        }
        const bool first = i == 0 && at_start;
        if ((step.prepend_always || (step.prepend_first && first)) &&
            !StartsWith(replaced, step.replacement)) {
          replaced = step.replacement + replaced;
        }
        piece = store(std::move(replaced));
      }
      LODE_TRY(step.Find(piece, &spans));
      for (const Span& span : spans) {
        if (span.is_match || span.begin == span.end) continue;
        std::string_view part = piece.substr(span.begin, span.end - span.begin);
        if (step.kind == Kind::kByteLevel && step.spell_letters) {
          std::string letters;
          BytesToLetters(part, &letters);
          part = store(std::move(letters));
        }
        pieces->push_back(part);
      }
    }
  }
  return {};
}

Result<Json> PreTokenizerOfGguf(const std::string& pre) {
  struct Family {
    Pattern pattern;
    std::vector<std::string> names;
  };
  static const std::vector<Family> kFamilies = {
      {Pattern::kGpt2,
       {"gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "jina-es",
        "jina-de", "jina-v2-es", "jina-v2-de", "jina-v2-code", "roberta-bpe"}},
      {Pattern::kLlama3,
       {"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2", "dbrx",
        "smaug-bpe", "glm4", "chatglm-bpe"}},
      {Pattern::kQwen2,
       {"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open"}},
      {Pattern::kQwen35, {"qwen35"}},
      {Pattern::kTekken, {"tekken"}},
      {Pattern::kO200k, {"gpt-4o", "llama4", "kanana2", "minimax-m2"}},
  };
  const auto split = [](std::string_view regex) {
    return Json{{"type", "Split"},
                {"pattern", {{"Regex", regex}}},
                {"behavior", "Isolated"},
                {"invert", false}};
  };
  const auto byte_level = [](bool use_regex) {
    return Json{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", use_regex}};
  };
  const auto sequence = [](std::vector<Json> steps) {
    return Json{{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
  };
  for (const Family& family : kFamilies) {
    if (std::find(family.names.begin(), family.names.end(), pre) != family.names.end()) {
      return sequence({split(PatternRegex(family.pattern)), byte_level(false)});
    }
  }
  static const std::vector<std::string> kStarcoder = {"starcoder", "refact",    "command-r",
                                                      "smollm",    "codeshell", "exaone"};
  if (std::find(kStarcoder.begin(), kStarcoder.end(), pre) != kStarcoder.end()) {
    return sequence({Json{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)});
  }
  if (pre == "deepseek-v3") {
    return sequence(
        {split(R"(\p{N}{1,3})"), split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
         split("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?"
               "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"),
         byte_level(false)});
  }
  std::string known;
  for (const Family& family : kFamilies) known += Join(family.names, ", ") + ", ";
  known += Join(kStarcoder, ", ") + ", deepseek-v3";
  return Error(Code::kUnsupported,
               "the pre-tokenizer " + Quote(pre) + " (tokenizer.ggml.pre) is not supported",
               "known: " + known);
}

}  // namespace lode::text

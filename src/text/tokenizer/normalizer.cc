#include "text/tokenizer/normalizer.h"

#include <functional>

#include "base/text.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/regex.h"
#include "text/tokenizer/unicode.h"

namespace lode::text {
namespace {

std::string Strip(std::string_view text, bool left, bool right) {
  size_t begin = 0;
  for (Char c = CharAt(text, 0); left && (c.char_class & kSpace) != 0; c = CharAt(text, begin)) {
    begin += c.bytes;
  }
  size_t end = text.size();
  while (right && end > begin) {
    const size_t last = CharBefore(text, end);
    if ((CharAt(text, last).char_class & kSpace) == 0) break;
    end = last;
  }
  return std::string(text.substr(begin, end - begin));
}

std::string StripAccents(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    if ((c.char_class & kMark) == 0) out += text.substr(at, c.bytes);
    at += c.bytes;
  }
  return out;
}

// The clean-up of SentencePiece's "nmt": control characters go, exotic spaces become spaces.
std::string Nmt(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const Char c = CharAt(text, at);
    const char32_t p = c.code_point;
    const bool control = (p >= 0x01 && p <= 0x08) || p == 0x0B || (p >= 0x0E && p <= 0x1F) ||
                         p == 0x7F || p == 0x8F || p == 0x9F;
    const bool space = p == 0x09 || p == 0x0A || p == 0x0C || p == 0x0D || p == 0x1680 ||
                       (p >= 0x200B && p <= 0x200F) || p == 0x2028 || p == 0x2029 ||
                       p == 0x2581 || p == 0xFEFF || p == 0xFFFD;
    if (space) {
      out += ' ';
    } else if (!control) {
      out += text.substr(at, c.bytes);
    }
    at += c.bytes;
  }
  return out;
}

}  // namespace

Replacer::Replacer() = default;
Replacer::Replacer(Replacer&&) noexcept = default;
Replacer& Replacer::operator=(Replacer&&) noexcept = default;
Replacer::~Replacer() = default;

Result<Replacer> Replacer::Create(const Json& json) {
  const Json* pattern = FindKey(json, "pattern");
  Replacer replacer;
  replacer.content_ = GetString(json, "content");
  if (pattern != nullptr && FindKey(*pattern, "Regex") != nullptr) {
    LODE_ASSIGN(replacer.regex_, Regex::Compile(GetString(*pattern, "Regex")));
    return replacer;
  }
  if (pattern != nullptr) replacer.literal_ = GetString(*pattern, "String");
  if (replacer.literal_.empty()) {
    return Error(Code::kBadInput, "Replace needs a pattern {\"String\": ..} or {\"Regex\": ..}");
  }
  return replacer;
}

Result<std::string> Replacer::Apply(std::string_view text) const {
  std::string out;
  if (regex_ != nullptr) {
    std::vector<Span> spans;
    LODE_TRY(regex_->Split(text, &spans));
    for (const Span& span : spans) {
      out += span.is_match ? std::string_view(content_)
                           : text.substr(span.begin, span.end - span.begin);
    }
    return out;
  }
  size_t at = 0;
  for (size_t found = text.find(literal_); found != std::string_view::npos;
       found = text.find(literal_, at)) {
    out += text.substr(at, found - at);
    out += content_;
    at = found + literal_.size();
  }
  out += text.substr(at);
  return out;
}

struct Normalizer::Step {
  std::function<Result<std::string>(std::string_view)> apply;
};

Normalizer::Normalizer() = default;
Normalizer::Normalizer(Normalizer&&) noexcept = default;
Normalizer& Normalizer::operator=(Normalizer&&) noexcept = default;
Normalizer::~Normalizer() = default;

Result<Normalizer> Normalizer::Create(const Json& json) {
  Normalizer normalizer;
  if (!json.is_null()) LODE_TRY(normalizer.Append(json, 0));
  return normalizer;
}

Result<void> Normalizer::Append(const Json& json, int depth) {
  const std::string type = GetString(json, "type");
  const auto add = [&](auto apply) {
    steps_.push_back({[apply](std::string_view text) -> Result<std::string> { return apply(text); }});
    return Result<void>();
  };
  if (type == "Sequence") {
    const Json* steps = FindKey(json, "normalizers");
    if (steps == nullptr || !steps->is_array()) {
      return Error(Code::kBadInput, "normalizer Sequence has no list \"normalizers\"");
    }
    for (const Json& step : *steps) LODE_TRY(Append(step, depth + 1));
    return {};
  }
  if (type == "NFC") return add([](auto text) { return Normalize(NormalForm::kNfc, text); });
  if (type == "NFD") return add([](auto text) { return Normalize(NormalForm::kNfd, text); });
  if (type == "NFKC") return add([](auto text) { return Normalize(NormalForm::kNfkc, text); });
  if (type == "NFKD") return add([](auto text) { return Normalize(NormalForm::kNfkd, text); });
  if (type == "Lowercase") return add([](auto text) { return ToLower(text); });
  if (type == "StripAccents") return add([](auto text) { return StripAccents(text); });
  if (type == "Nmt") return add([](auto text) { return Nmt(text); });
  if (type == "Strip") {
    const bool left = GetBool(json, "strip_left");
    const bool right = GetBool(json, "strip_right");
    return add([left, right](auto text) { return Strip(text, left, right); });
  }
  if (type == "ByteLevel") {
    return add([](auto text) {
      std::string letters;
      BytesToLetters(text, &letters);
      return letters;
    });
  }
  if (type == "Prepend") {
    const std::string prefix = GetString(json, "prepend");
    return add([prefix](auto text) { return text.empty() ? "" : prefix + std::string(text); });
  }
  if (type == "Replace") {
    LODE_ASSIGN(Replacer replacer, Replacer::Create(json));
    // Shared, because std::function must be copyable and a compiled expression is not.
    const auto shared = std::make_shared<Replacer>(std::move(replacer));
    return add([shared](auto text) { return shared->Apply(text); });
  }
  return Error(Code::kUnsupported, "the normalizer " + Quote(type) + " is not supported",
               "known: NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Nmt, Prepend, Replace, "
               "ByteLevel, Sequence");
}

Result<std::string> Normalizer::Apply(std::string_view text) const {
  std::string current(text);
  for (const Step& step : steps_) {
    LODE_ASSIGN(current, step.apply(current));
  }
  return current;
}

}  // namespace lode::text

#include "text/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <chrono>

#include "base/text.h"
#include "base/utf8.h"

namespace lode::text {
namespace {

// Against catastrophic backtracking: one match may take this many steps (a run of 100k letters takes
// a few per letter), and a whole text this much time.
constexpr uint32_t kStepsMax = 4'000'000;
constexpr uint32_t kHeapKibMax = 64 * 1024;
constexpr double kSecondsMax = 5.0;
constexpr double kSecondsMaxPerByte = 10e-6;
constexpr size_t kPatternBytesMax = 64 * 1024;

// What Oniguruma (Ruby syntax, UTF-8) means by these escapes, in PCRE2's words. \s: PCRE2 adds
// U+180E; \w: PCRE2 lacks marks; \h is a hexadecimal digit.
struct Escape {
  char letter;
  const char* outside;
  const char* inside_class;  // nullptr: cannot be said inside a class
};
constexpr Escape kEscapes[] = {
    {'s', R"(\p{White_Space})", R"(\p{White_Space})"},
    {'S', R"(\P{White_Space})", R"(\P{White_Space})"},
    {'d', R"(\p{Nd})", R"(\p{Nd})"},
    {'D', R"(\P{Nd})", R"(\P{Nd})"},
    {'w', R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])", R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})"},
    {'W', R"([^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}])", nullptr},
    {'h', "[0-9a-fA-F]", "0-9a-fA-F"},
    {'H', "[^0-9a-fA-F]", nullptr},
};

class Translator {
 public:
  explicit Translator(std::string_view pattern) : in_(pattern) {}

  Result<std::string> Run() {
    while (at_ < in_.size()) {
      if (in_[at_] == '\\') {
        LODE_TRY(CopyEscape());
      } else if (in_class_) {
        LODE_TRY(CopyInClass());
      } else {
        LODE_TRY(CopyOutside());
      }
    }
    return std::move(out_);
  }

 private:
  Error Refuse(const std::string& what) {
    return Error(Code::kUnsupported, "regular expression " + Quote(in_, 120) + ": " + what +
                                         " is not supported");
  }

  Result<void> CopyEscape() {
    const char letter = at_ + 1 < in_.size() ? in_[at_ + 1] : '\0';
    first_in_class_ = false;
    for (const Escape& escape : kEscapes) {
      if (escape.letter != letter) continue;
      const char* replacement = in_class_ ? escape.inside_class : escape.outside;
      if (replacement == nullptr) {
        return Refuse(std::string("\\") + letter + " inside a character class");
      }
      out_ += replacement;
      at_ += 2;
      return {};
    }
    const size_t bytes = std::min<size_t>(2, in_.size() - at_);
    out_ += in_.substr(at_, bytes);
    at_ += bytes;
    if ((letter == 'p' || letter == 'P') && at_ < in_.size() && in_[at_] == '{') {
      const size_t close = in_.find('}', at_);
      if (close == std::string_view::npos) return {};  // PCRE2 will say what is wrong
      out_ += in_.substr(at_, close + 1 - at_);
      at_ = close + 1;
    }
    return {};
  }

  Result<void> CopyInClass() {
    const char c = in_[at_];
    if (c == '[') {
      if (at_ + 1 < in_.size() && in_[at_ + 1] == ':') {
        const size_t close = in_.find(":]", at_);
        if (close != std::string_view::npos) {
          out_ += in_.substr(at_, close + 2 - at_);
          at_ = close + 2;
          first_in_class_ = false;
          return {};
        }
      }
      return Refuse("a character class inside another");
    }
    if (c == '&' && at_ + 1 < in_.size() && in_[at_ + 1] == '&') {
      return Refuse("an intersection of character classes");
    }
    if (c == ']' && !first_in_class_) in_class_ = false;
    if (c != '^' || !first_in_class_) first_in_class_ = false;
    out_ += c;
    ++at_;
    return {};
  }

  Result<void> CopyOutside() {
    const char c = in_[at_];
    if (c == '[') {
      in_class_ = true;
      first_in_class_ = true;
    } else if (c == '}' && at_ + 1 < in_.size() && in_[at_ + 1] == '+') {
      return Refuse("a '+' behind '{n,m}'");  // PCRE2: possessive; Ruby: one or more of it
    } else if (c == '(' && at_ + 1 < in_.size() && in_[at_ + 1] == '?') {
      CopyGroupFlags();
      return {};
    }
    out_ += c;
    ++at_;
    return {};
  }

  // "(?" and its flags: Ruby's m is PCRE2's s.
  void CopyGroupFlags() {
    out_ += "(?";
    at_ += 2;
    size_t end = at_;
    while (end < in_.size() && (in_[end] == 'i' || in_[end] == 'm' || in_[end] == 'x' ||
                                in_[end] == '-')) {
      ++end;
    }
    const bool flags = end < in_.size() && (in_[end] == ':' || in_[end] == ')');
    while (flags && at_ < end) {
      out_ += in_[at_] == 'm' ? 's' : in_[at_];
      ++at_;
    }
  }

  std::string_view in_;
  size_t at_ = 0;
  bool in_class_ = false;
  bool first_in_class_ = false;
  std::string out_;
};

std::string MessageOf(int error) {
  PCRE2_UCHAR buffer[256] = {};
  pcre2_get_error_message(error, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  ~Code() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

Regex::Regex(std::string pattern, std::unique_ptr<Code> code)
    : pattern_(std::move(pattern)), code_(std::move(code)) {}
Regex::~Regex() = default;

Result<std::unique_ptr<Regex>> Regex::Compile(std::string_view pattern) {
  if (pattern.size() > kPatternBytesMax) {
    return Error(lode::Code::kBadInput,
                 Format("a regular expression of %zu bytes is longer than the %zu allowed",
                        pattern.size(), kPatternBytesMax));
  }
  LODE_ASSIGN(const std::string translated, Translator(pattern).Run());
  int error = 0;
  PCRE2_SIZE offset = 0;
  auto code = std::make_unique<Code>();
  // MULTILINE: in Ruby ^ and $ stand at every line.
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()), translated.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                             &error, &offset, nullptr);
  if (code->code == nullptr) {
    return Error(lode::Code::kBadInput,
                 "regular expression " + Quote(pattern, 120) + ": " + MessageOf(error));
  }
  pcre2_jit_compile(code->code, PCRE2_JIT_COMPLETE);  // without JIT it only runs slower
  code->context = pcre2_match_context_create(nullptr);
  pcre2_set_match_limit(code->context, kStepsMax);
  pcre2_set_heap_limit(code->context, kHeapKibMax);
  return std::unique_ptr<Regex>(new Regex(std::string(pattern), std::move(code)));
}

Result<void> Regex::Split(std::string_view text, std::vector<Span>* spans) const {
  using Clock = std::chrono::steady_clock;
  spans->clear();
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create(1, nullptr), &pcre2_match_data_free);
  const auto subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const Clock::time_point start = Clock::now();
  const double seconds_max = kSecondsMax + kSecondsMaxPerByte * static_cast<double>(text.size());
  size_t previous = 0;  // the end of the last match
  bool any = false;
  for (size_t at = 0; at <= text.size();) {
    int found = pcre2_match(code_->code, subject, text.size(), at, PCRE2_NO_UTF_CHECK, data.get(),
                            code_->context);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      found = pcre2_match(code_->code, subject, text.size(), at,
                          PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(), code_->context);
    }
    if (found == PCRE2_ERROR_NOMATCH) break;
    const std::chrono::duration<double> taken = Clock::now() - start;
    if (found < 0 || taken.count() > seconds_max) {
      return Error(lode::Code::kNoSpace,
                   "regular expression " + Quote(pattern_, 120) + " takes too long on this text" +
                       (found < 0 ? " (" + MessageOf(found) + ")" : ""));
    }
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
    const size_t begin = ends[0];
    const size_t end = ends[1];
    if (begin > end || begin < previous) {  // \K can do that
      return Error(lode::Code::kUnsupported,
                   "regular expression " + Quote(pattern_, 120) + " moves its match backwards");
    }
    if (begin == end && any && end == previous) {
      // An empty match right behind another match does not count; go on one character later.
      at += at < text.size() ? static_cast<size_t>(DecodeUtf8(text, at).bytes) : 1;
      continue;
    }
    if (previous != begin) spans->push_back({previous, begin, false});
    spans->push_back({begin, end, true});
    previous = end;
    any = true;
    at = end;
  }
  if (previous != text.size()) spans->push_back({previous, text.size(), false});
  return {};
}

}  // namespace lode::text

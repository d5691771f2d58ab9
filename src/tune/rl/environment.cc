#include "tune/rl/environment.h"

#include <numeric>
#include <utility>

#include "base/text.h"

namespace lode::tune {
namespace {

constexpr std::string_view kBlanks = " \t\r\n";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// The text between the brace at `open` and its partner.
std::string_view Braced(std::string_view text, size_t open) {
  int depth = 0;
  for (size_t at = open; at < text.size(); ++at) {
    depth += text[at] == '{' ? 1 : text[at] == '}' ? -1 : 0;
    if (depth == 0) return text.substr(open + 1, at - open - 1);
  }
  return {};
}

// The last run of digits with what belongs to a number.
std::string_view LastNumber(std::string_view text) {
  size_t end = text.size();
  while (end > 0 && !IsDigit(text[end - 1])) --end;
  size_t begin = end;
  const auto belongs = [&](size_t at) {
    const char c = text[at];
    if (IsDigit(c)) return true;
    return (c == '.' || c == ',' || c == '/') && at + 1 < end && IsDigit(text[at + 1]);
  };
  while (begin > 0 && belongs(begin - 1)) --begin;
  if (begin > 0 && text[begin - 1] == '-') --begin;
  if (end < text.size() && text[end] == '%') ++end;
  return text.substr(begin, end - begin);
}

// Digits, in groups or not, as value / scale; false: no number.
bool ReadDecimal(std::string_view text, int64_t* value, int64_t* scale) {
  *value = 0;
  *scale = 1;
  bool digits = false, behind = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == ',' && !behind && i > 0 && i + 1 < text.size()) continue;
    if (c == '.' && !behind) {
      behind = true;
      continue;
    }
    if (!IsDigit(c)) return false;
    digits = true;
    if (__builtin_mul_overflow(*value, 10, value) ||
        __builtin_add_overflow(*value, c - '0', value) ||
        (behind && __builtin_mul_overflow(*scale, 10, scale))) {
      return false;
    }
  }
  return digits;
}

Fraction Lowest(int64_t over, int64_t under) {
  const int64_t common = std::gcd(over, under);
  return common == 0 ? Fraction{} : Fraction{over / common, under / common};
}

// "expected_answer" or "answer", a text or a number.
std::optional<std::string> Expected(const Json& task) {
  for (const char* key : {"expected_answer", "answer"}) {
    const Json* found = FindKey(task, key);
    if (found == nullptr) continue;
    if (found->is_string()) return found->get<std::string>();
    if (found->is_number()) return DumpJson(*found);
  }
  return std::nullopt;
}

Result<std::string> NeedExpected(const Json& task) {
  const auto expected = Expected(task);
  if (expected) return *expected;
  return Error(Code::kBadInput, "the task says no \"expected_answer\"", "a text or a number");
}

class Exact final : public Environment {
 public:
  Result<void> Check(const Json& task) const override {
    LODE_TRY(NeedExpected(task));
    return {};
  }
  Verdict Judge(const Json& task, std::string_view answer) const override {
    const auto expected = Expected(task);
    if (!expected) return {0.0, false};
    return {TrimBlanks(answer) == TrimBlanks(*expected) ? 1.0 : 0.0};
  }
};

class Math final : public Environment {
 public:
  Result<void> Check(const Json& task) const override {
    LODE_ASSIGN(const std::string expected, NeedExpected(task));
    if (Number(expected)) return {};
    return Error(Code::kBadInput, "\"expected_answer\" is no number: " + Quote(expected, 60),
                 "the environment \"exact\" compares texts");
  }
  Verdict Judge(const Json& task, std::string_view answer) const override {
    const auto expected = Expected(task);
    const auto number = expected ? Number(*expected) : std::nullopt;
    if (!number) return {0.0, false};
    return {Number(answer) == number ? 1.0 : 0.0};
  }

 private:
  static std::optional<Fraction> Number(std::string_view text) {
    return ParseFraction(FinalAnswer(text));
  }
};

}  // namespace

std::string_view TrimBlanks(std::string_view text) {
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::optional<Fraction> ParseFraction(std::string_view text) {
  text = TrimBlanks(text);
  const bool negative = !text.empty() && text[0] == '-';
  if (negative) text.remove_prefix(1);
  if (!text.empty() && text[0] == '$') text.remove_prefix(1);
  const bool percent = !text.empty() && text.back() == '%';
  if (percent) text.remove_suffix(1);
  int64_t over = 0, over_scale = 1, under = 1, under_scale = 1;
  const size_t bar = text.find('/');
  if (!ReadDecimal(TrimBlanks(text.substr(0, bar)), &over, &over_scale)) return std::nullopt;
  if (bar != std::string_view::npos) {
    const bool read = ReadDecimal(TrimBlanks(text.substr(bar + 1)), &under, &under_scale);
    if (!read || under == 0) return std::nullopt;
  }
  // over / over_scale divided by under / under_scale
  int64_t top = 0, bottom = 0;
  if (__builtin_mul_overflow(over, under_scale, &top) ||
      __builtin_mul_overflow(under, over_scale, &bottom) ||
      (percent && __builtin_mul_overflow(bottom, 100, &bottom))) {
    return std::nullopt;
  }
  return Lowest(negative ? -top : top, bottom);
}

std::string_view FinalAnswer(std::string_view text) {
  const size_t box = text.rfind("\\boxed{");
  if (box != std::string_view::npos) return TrimBlanks(Braced(text, box + 6));
  const size_t mark = text.rfind("####");
  if (mark != std::string_view::npos) text = text.substr(mark + 4);
  return LastNumber(text);
}

Result<const Environment*> FindEnvironment(const std::string& name) {
  static const Exact exact;
  static const Math math;
  const std::pair<const char*, const Environment*> all[] = {
      {"exact", &exact},
      {"math", &math},
      {"json", &JsonEnvironment()},
      {"json_schema", &JsonSchemaEnvironment()},
      {"instructions", &InstructionsEnvironment()}};
  std::string names;
  for (const auto& [known, environment] : all) {
    if (name == known) return environment;
    names += (names.empty() ? "" : ", ") + std::string(known);
  }
  return Error(Code::kBadInput, "there is no environment " + Quote(name), "there are: " + names);
}

}  // namespace lode::tune

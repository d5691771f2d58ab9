// Answers that shall keep to rules which a program can see.
// Source of the idea: Zhou et al. 2023 (verifiable instructions).
#include <algorithm>
#include <functional>

#include "base/text.h"
#include "base/utf8.h"
#include "tune/rl/environment.h"

namespace lode::tune {
namespace {

int64_t CountWords(std::string_view text) {
  int64_t words = 0;
  bool inside = false;
  for (const char c : text) {
    const bool blank = c == ' ' || c == '\t' || c == '\n' || c == '\r';
    words += !blank && !inside ? 1 : 0;
    inside = !blank;
  }
  return words;
}

int64_t CountOf(std::string_view text, std::string_view part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + 1)) {
    ++count;
  }
  return count;
}

// Lines that begin with a mark of a list.
int64_t CountBullets(std::string_view text) {
  int64_t count = 0;
  for (const std::string& line : Split(std::string(text), '\n')) {
    const std::string_view rest = TrimBlanks(line);
    count += rest.starts_with("- ") || rest.starts_with("* ") ? 1 : 0;
  }
  return count;
}

int64_t CountSentences(std::string_view text) {
  int64_t count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '.' && text[i] != '!' && text[i] != '?') continue;
    count += i + 1 == text.size() || text[i + 1] == ' ' || text[i + 1] == '\n' ? 1 : 0;
  }
  return count;
}

struct Rule {
  const char* kind;
  const char* needs;  // "count", "text", or nothing
  std::function<bool(std::string_view answer, int64_t count, const std::string& text)> holds;
};

const std::vector<Rule>& Rules() {
  using View = std::string_view;
  using Text = const std::string&;
  const auto none = [](View answer, char from, char to) {
    return std::none_of(answer.begin(), answer.end(), [=](char c) { return c >= from && c <= to; });
  };
  static const std::vector<Rule> rules = {
      {"min_words", "count", [](View a, int64_t n, Text) { return CountWords(a) >= n; }},
      {"max_words", "count", [](View a, int64_t n, Text) { return CountWords(a) <= n; }},
      {"min_sentences", "count", [](View a, int64_t n, Text) { return CountSentences(a) >= n; }},
      {"max_sentences", "count", [](View a, int64_t n, Text) { return CountSentences(a) <= n; }},
      {"bullets", "count", [](View a, int64_t n, Text) { return CountBullets(a) == n; }},
      {"contains", "text", [](View a, int64_t, Text t) { return a.find(t) != View::npos; }},
      {"lacks", "text", [](View a, int64_t, Text t) { return a.find(t) == View::npos; }},
      {"starts_with", "text", [](View a, int64_t, Text t) { return a.starts_with(t); }},
      {"ends_with", "text", [](View a, int64_t, Text t) { return a.ends_with(t); }},
      {"no_capitals", "", [=](View a, int64_t, Text) { return none(a, 'A', 'Z'); }},
      {"all_capitals", "", [=](View a, int64_t, Text) { return none(a, 'a', 'z'); }},
      {"no_commas", "", [=](View a, int64_t, Text) { return none(a, ',', ','); }},
  };
  return rules;
}

Result<const Rule*> RuleOf(const Json& constraint) {
  const std::string kind = GetString(constraint, "kind");
  std::string names;
  for (const Rule& rule : Rules()) {
    names += (names.empty() ? "" : ", ") + std::string(rule.kind);
    if (kind != rule.kind) continue;
    const Json* count = FindKey(constraint, "count");
    const Json* text = FindKey(constraint, "text");
    const std::string needs = rule.needs;
    if (needs == "count" && (count == nullptr || !count->is_number_integer())) {
      return Error(Code::kBadInput, "a constraint " + kind + " needs a whole \"count\"");
    }
    if (needs == "text" && (text == nullptr || !text->is_string() || text->empty())) {
      return Error(Code::kBadInput, "a constraint " + kind + " needs a \"text\"");
    }
    return &rule;
  }
  return Error(Code::kBadInput, "there is no constraint " + Quote(kind), "there are: " + names);
}

class Instructions final : public Environment {
 public:
  Result<void> Check(const Json& task) const override {
    const Json* constraints = FindKey(task, "constraints");
    if (constraints == nullptr || !constraints->is_array() || constraints->empty()) {
      return Error(Code::kBadInput, "the task says no \"constraints\"",
                   "a list of {\"kind\", \"count\" or \"text\"}");
    }
    for (const Json& constraint : *constraints) LODE_TRY(RuleOf(constraint));
    return {};
  }
  Verdict Judge(const Json& task, std::string_view answer) const override {
    if (!Check(task).ok()) return {0.0, false};
    const Json& constraints = *FindKey(task, "constraints");
    const std::string_view text = TrimBlanks(answer);
    double held = 0.0;
    for (const Json& constraint : constraints) {
      const Rule& rule = **RuleOf(constraint);
      held += rule.holds(text, GetInt(constraint, "count"), GetString(constraint, "text")) ? 1 : 0;
    }
    // Silence keeps many rules.
    return {text.empty() ? 0.0 : held / static_cast<double>(constraints.size())};
  }
};

}  // namespace

const Environment& InstructionsEnvironment() {
  static const Instructions environment;
  return environment;
}

}  // namespace lode::tune

// Answers that are JSON: equal to what is expected, or as a schema wants it.
#include "text/grammar/compile.h"
#include "text/grammar/matcher.h"
#include "tune/rl/environment.h"

namespace lode::tune {
namespace {

using text::grammar::CompileJsonSchema;
using text::grammar::JsonStyle;

// A text is JSON to be parsed; anything else stands for itself.
Result<Json> ExpectedJson(const Json& task) {
  const Json* expected = FindKey(task, "expected_answer");
  if (expected == nullptr) {
    return Error(Code::kBadInput, "the task says no \"expected_answer\"", "JSON, or its text");
  }
  if (!expected->is_string()) return *expected;
  auto parsed = ParseJson(expected->get<std::string>());
  if (!parsed.ok()) return std::move(parsed.error().AddContext("\"expected_answer\""));
  return *std::move(parsed);
}

// As values: objects with the same keys, whatever their order.
bool Same(const Json& a, const Json& b) {
  if (a.is_object() && b.is_object()) {
    if (a.size() != b.size()) return false;
    for (const auto& [key, value] : a.items()) {
      const Json* other = FindKey(b, key);
      if (other == nullptr || !Same(value, *other)) return false;
    }
    return true;
  }
  if (a.is_array() && b.is_array()) {
    if (a.size() != b.size()) return false;
    for (size_t i = 0; i < a.size(); ++i) {
      if (!Same(a[i], b[i])) return false;
    }
    return true;
  }
  return a == b;
}

class JsonEquality final : public Environment {
 public:
  Result<void> Check(const Json& task) const override {
    LODE_TRY(ExpectedJson(task));
    return {};
  }
  Verdict Judge(const Json& task, std::string_view answer) const override {
    const auto expected = ExpectedJson(task);
    if (!expected.ok()) return {0.0, false};
    const auto parsed = ParseJson(TrimBlanks(answer));
    return {parsed.ok() && Same(*parsed, *expected) ? 1.0 : 0.0};
  }
};

class JsonSchema final : public Environment {
 public:
  Result<void> Check(const Json& task) const override {
    LODE_TRY(Compile(task));
    return {};
  }
  Verdict Judge(const Json& task, std::string_view answer) const override {
    const auto grammar = Compile(task);
    if (!grammar.ok()) return {0.0, false};
    const text::grammar::TokenTrie no_tokens({});  // bytes alone are walked
    text::grammar::Matcher matcher(*grammar, &no_tokens);
    const auto state = matcher.StepAll(matcher.Start(), TrimBlanks(answer));
    if (matcher.limit_reached()) return {0.0, false};
    const bool whole = state != text::grammar::kNoMatch && matcher.CanEnd(state);
    return {whole ? 1.0 : 0.0};
  }

 private:
  static Result<std::shared_ptr<const text::grammar::Grammar>> Compile(const Json& task) {
    const Json* schema = FindKey(task, "schema");
    if (schema == nullptr) return Error(Code::kBadInput, "the task says no \"schema\"");
    JsonStyle style;
    style.space = JsonStyle::Space::kRuns;
    style.any_order = true;
    auto grammar = CompileJsonSchema(*schema, style);
    if (!grammar.ok()) return std::move(grammar.error().AddContext("\"schema\""));
    return grammar;
  }
};

}  // namespace

const Environment& JsonEnvironment() {
  static const JsonEquality environment;
  return environment;
}

const Environment& JsonSchemaEnvironment() {
  static const JsonSchema environment;
  return environment;
}

}  // namespace lode::tune

// Random schemas against every short text: a text is accepted exactly if a check of our own,
// written as the specification says and knowing nothing of grammars, says so; and every prefix that
// is alive has such a text behind it.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <regex>
#include <set>

#include "text/grammar/compile.h"
#include "text/grammar/matcher.h"

namespace lode::text::grammar {
namespace {

const TokenTrie& NoTokens() {
  static const TokenTrie trie{std::span<const std::string_view>()};
  return trie;
}

size_t Characters(const Json& text) {
  size_t count = 0;
  for (const char c : text.get<std::string>()) count += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return count;
}

// Draft 2020-12, as far as the schemas below go.
bool Valid(const Json& schema, const Json& value) {
  if (schema.is_boolean()) return schema.get<bool>();
  const auto is = [&](const std::string& type) {
    return type == "integer"  ? value.is_number_integer()
           : type == "string" ? value.is_string()
           : type == "array"  ? value.is_array()
           : type == "object" ? value.is_object()
           : type == "null"   ? value.is_null()
                              : value.is_boolean();
  };
  int held = 0;
  for (const auto& [key, rule] : schema.items()) {
    bool fits = true;
    if (key == "type") {
      fits = is(rule.get<std::string>());
    } else if (key == "enum") {
      fits = std::find(rule.begin(), rule.end(), value) != rule.end();
    } else if (key == "minimum") {
      fits = !value.is_number() || value.get<double>() >= rule.get<double>();
    } else if (key == "maximum") {
      fits = !value.is_number() || value.get<double>() <= rule.get<double>();
    } else if (key == "multipleOf") {
      fits = !value.is_number() || std::fmod(value.get<double>(), rule.get<double>()) == 0;
    } else if (key == "minLength") {
      fits = !value.is_string() || Characters(value) >= rule.get<size_t>();
    } else if (key == "maxLength") {
      fits = !value.is_string() || Characters(value) <= rule.get<size_t>();
    } else if (key == "minItems") {
      fits = !value.is_array() || value.size() >= rule.get<size_t>();
    } else if (key == "maxItems") {
      fits = !value.is_array() || value.size() <= rule.get<size_t>();
    } else if (key == "items" && value.is_array()) {
      for (const Json& item : value) fits = fits && Valid(rule, item);
    } else if (key == "contains" && value.is_array()) {
      fits = std::any_of(value.begin(), value.end(), [&](const Json& i) { return Valid(rule, i); });
    } else if (key == "required" && value.is_object()) {
      for (const Json& name : rule) fits = fits && value.contains(name.get<std::string>());
    } else if (key == "properties" && value.is_object()) {
      for (const auto& [name, child] : value.items())
        if (rule.contains(name)) fits = fits && Valid(rule[name], child);
    } else if (key == "additionalProperties" && value.is_object()) {
      for (const auto& [name, child] : value.items())
        if (!schema.value("properties", Json::object()).contains(name))
          fits = fits && Valid(rule, child);
    } else if (key == "minProperties" || key == "maxProperties") {
      const auto count = rule.get<size_t>();
      fits = !value.is_object() || (key[1] == 'i' ? value.size() >= count : value.size() <= count);
    } else if (key == "not") {
      fits = !Valid(rule, value);
    } else if (key == "allOf" || key == "anyOf" || key == "oneOf") {
      held = 0;
      for (const Json& part : rule) held += Valid(part, value);
      fits = key == "allOf" ? held == static_cast<int>(rule.size())
             : key == "anyOf" ? held > 0 : held == 1;
    } else if (key == "if") {
      const bool condition = Valid(rule, value);
      const char* next = condition ? "then" : "else";
      if (schema.contains(next)) fits = Valid(schema[next], value);
    }
    if (!fits) return false;
  }
  return true;
}

class Schemas {
 public:
  explicit Schemas(uint32_t seed) : random_(seed) {}

  Json Any(int depth) {
    Json schema = Json::object();
    const int kinds = depth > 0 ? 12 : 6;
    for (int i = Below(2); i >= 0; --i) Add(&schema, Below(kinds), depth - 1);
    return schema;
  }

 private:
  int Below(int end) { return static_cast<int>(random_() % static_cast<uint32_t>(end)); }
  std::string Name() { return std::string(1, "ab"[Below(2)]); }
  Json Value() {
    static const Json values = {1, 2, 12, -1, "a", "", "ab", nullptr, true, Json::array(),
                                Json{{"a", 1}}, Json::array({1})};
    return values[static_cast<size_t>(Below(static_cast<int>(values.size())))];
  }
  void Add(Json* schema, int kind, int depth) {
    static const char* kTypes[] = {"integer", "string", "array", "object", "null", "boolean"};
    switch (kind) {
      case 0: (*schema)["type"] = kTypes[Below(6)]; break;
      case 1: (*schema)["type"] = kTypes[Below(4)]; break;
      case 2: (*schema)["enum"] = Json::array({Value(), Value(), Value()}); break;
      case 3: (*schema)[Below(2) ? "minimum" : "maximum"] = Below(14) - 2; break;
      case 4: (*schema)[Below(2) ? "minLength" : "maxLength"] = Below(3); break;
      case 5: (*schema)["multipleOf"] = 1 + Below(4); break;
      case 6: {
        Json properties = Json::object();
        for (int i = Below(3); i > 0; --i) properties[Name()] = Any(depth);
        (*schema)["properties"] = properties;
        if (Below(2)) (*schema)["required"] = Json::array({Name()});
        if (Below(2)) (*schema)["additionalProperties"] = Below(2) ? Json(false) : Any(depth);
        break;
      }
      case 7: (*schema)[Below(2) ? "minProperties" : "maxProperties"] = Below(3); break;
      case 8: (*schema)[Below(2) ? "items" : "contains"] = Any(depth); break;
      case 9: (*schema)[Below(2) ? "minItems" : "maxItems"] = Below(3); break;
      case 10:
        (*schema)[Below(2) ? "anyOf" : Below(2) ? "oneOf" : "allOf"] =
            Json::array({Any(depth), Any(depth)});
        break;
      default:
        if (Below(2)) {
          (*schema)["not"] = Any(depth);
        } else {
          (*schema)["if"] = Any(depth);
          (*schema)[Below(2) ? "then" : "else"] = Any(depth);
        }
    }
  }

  std::mt19937 random_;
};

// All values that are small, in the one spelling that grammars have for each.
std::vector<Json> SmallValues() {
  std::vector<Json> plain = {nullptr, true, false, "", "a", "b", "ab", "aaa"};
  for (int i = -4; i <= 25; ++i) plain.push_back(i);
  std::vector<Json> values = plain;
  values.push_back(Json::array());
  values.push_back(Json::object());
  std::vector<Json> few(plain.begin(), plain.begin() + 5);
  for (const int number : {-1, 0, 1, 2, 3, 12}) few.push_back(number);
  few.push_back(Json::array());
  few.push_back(Json::object());
  few.push_back(Json{{"a", 1}});
  for (const Json& first : few) {
    values.push_back(Json::array({first}));
    for (const char* name : {"a", "b", "c"}) values.push_back(Json{{name, first}});
    for (const Json& second : few) {
      values.push_back(Json::array({first, second}));
      for (const auto& [one, two] : {std::pair("a", "b"), std::pair("b", "a"), std::pair("a", "c"),
                                     std::pair("b", "c"), std::pair("c", "d")})
        values.push_back(Json{{one, first}, {two, second}});
    }
  }
  return values;
}

// Keys in another order are the same value, and a grammar has one order only.
std::string Sorted(const Json& value) {
  if (!value.is_object()) return value.dump();
  return nlohmann::json::parse(value.dump()).dump();
}

TEST(Oracle, WhatIsAcceptedIsValidAndWhatIsValidIsAcceptedInSomeOrder) {
  const std::vector<Json> values = SmallValues();
  int compiled = 0, refused = 0;
  for (uint32_t seed = 0; seed < 400; ++seed) {
    const Json schema = Schemas(seed).Any(2);
    const auto grammar = CompileJsonSchema(schema);
    if (!grammar.ok() && grammar.error().code() != Code::kBadInput) {
      ++refused;
      continue;
    }
    ++compiled;
    std::unique_ptr<Matcher> matcher;
    if (grammar.ok()) matcher = std::make_unique<Matcher>(*grammar, &NoTokens());
    std::set<std::string> valid, accepted;
    for (const Json& value : values) {
      const bool fits = Valid(schema, value);
      if (fits) valid.insert(Sorted(value));
      if (!matcher) continue;
      const MatchState state = matcher->StepAll(matcher->Start(), value.dump());
      const bool accepts = state != kNoMatch && matcher->CanEnd(state);
      if (accepts) accepted.insert(Sorted(value));
      ASSERT_FALSE(accepts && !fits) << "seed " << seed << ": " << schema << " accepts " << value;
    }
    for (const std::string& text : valid)
      EXPECT_TRUE(accepted.contains(text))
          << "seed " << seed << ": " << schema << " does not accept " << text;
  }
  EXPECT_GT(compiled, 300);
  EXPECT_LT(refused, 100);
}

TEST(Oracle, InAnyOrderWhatIsAcceptedIsWhatIsValid) {
  const std::vector<Json> values = SmallValues();
  int compiled = 0;
  for (uint32_t seed = 0; seed < 200; ++seed) {
    const Json schema = Schemas(seed).Any(2);
    const auto grammar = CompileJsonSchema(schema, {.any_order = true});
    if (!grammar.ok()) continue;
    ++compiled;
    // Names that are not listed may come twice, so of several only one counts.
    const bool counts = schema.dump().find("minProperties") != std::string::npos;
    Matcher matcher(*grammar, &NoTokens());
    for (const Json& value : values) {
      const bool fits = Valid(schema, value);
      if (counts && fits) continue;
      const MatchState state = matcher.StepAll(matcher.Start(), value.dump());
      ASSERT_EQ(state != kNoMatch && matcher.CanEnd(state), fits)
          << "seed " << seed << ": " << schema << " and " << value;
    }
  }
  EXPECT_GT(compiled, 125);
}

TEST(Oracle, NoPathEndsBeforeAValidValue) {
  std::mt19937 random(3);
  for (uint32_t seed = 1000; seed < 1300; ++seed) {
    const Json schema = Schemas(seed).Any(2);
    const auto grammar = CompileJsonSchema(schema, {.any_order = seed % 2 == 1});
    if (!grammar.ok()) continue;
    Matcher matcher(*grammar, &NoTokens());
    for (int walk = 0; walk < 12; ++walk) {
      MatchState state = matcher.Start();
      std::string text;
      for (int step = 0; step < 60; ++step) {
        const ByteSet next = matcher.NextBytes(state);
        if (next.empty()) {
          ASSERT_TRUE(matcher.CanEnd(state)) << schema << " ends in " << text;
          break;
        }
        int skip = static_cast<int>(random() % static_cast<uint32_t>(next.count()));
        int byte = next.first();
        for (; !next.has(static_cast<uint8_t>(byte)) || skip-- > 0;) ++byte;
        const MatchState after = matcher.Step(state, static_cast<uint8_t>(byte));
        ASSERT_NE(after, kNoMatch) << schema << " after " << text;
        state = after;
        text += static_cast<char>(byte);
        if (!matcher.CanEnd(state)) continue;
        static const std::regex many_digits("[0-9]{15}");  // beyond a double's
        const auto value = ParseJson(text);
        ASSERT_TRUE(value.ok() || std::regex_search(text, many_digits)) << text;
        if (std::regex_search(text, many_digits)) continue;
        ASSERT_TRUE(Valid(schema, *value)) << schema << " accepts " << text;
      }
    }
  }
}

}  // namespace
}  // namespace lode::text::grammar

// Schemas, patterns and grammars that were written to hurt: each is compiled or refused within
// bounded time and memory, and what is compiled is walked.
#include <gtest/gtest.h>
#include <time.h>

#include <functional>
#include <random>

#include "base/utf8.h"
#include "text/grammar/compile.h"
#include "text/grammar/matcher.h"

namespace lode::text::grammar {
namespace {

constexpr double kSecondsMax = 3.0;  // of one thread; by far more than what any of them takes
constexpr size_t kBytesMax = size_t{400} << 20;

double Seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

const TokenTrie& ByteTrie() {
  static std::vector<std::string> bytes = [] {
    std::vector<std::string> all;
    for (int byte = 0; byte < 256; ++byte) all.push_back(std::string(1, static_cast<char>(byte)));
    for (const char* longer : {"aa", "aaaa", "\"a", "\",\"", "[[", "]]", "10", "ab"})
      all.push_back(longer);
    return all;
  }();
  static const std::vector<std::string_view> views(bytes.begin(), bytes.end());
  static const TokenTrie trie{views};
  return trie;
}

// Walks `text` as far as it fits, with a mask every so often.
void Walk(const Result<std::shared_ptr<const Grammar>>& grammar, const std::string& name,
          std::string_view text) {
  if (!grammar.ok()) {
    EXPECT_FALSE(grammar.error().message().empty()) << name;
    return;
  }
  EXPECT_LT((*grammar)->bytes(), kBytesMax) << name;
  Matcher matcher(*grammar, &ByteTrie(), {.bytes_max = size_t{64} << 20, .work_max = 10000000});
  std::vector<uint64_t> words(ByteTrie().words());
  MatchState state = matcher.Start();
  for (size_t i = 0; i < text.size() && state != kNoMatch; ++i) {
    if (i % 64 == 0) matcher.Mask(state, words);
    state = matcher.Step(state, static_cast<uint8_t>(text[i]));
  }
  EXPECT_LT(matcher.bytes(), kBytesMax) << name;
}

void Bounded(const std::string& name, const std::function<void()>& work) {
  const double begin = Seconds();
  work();
  const double took = Seconds() - begin;
  EXPECT_LT(took, kSecondsMax) << name;
}

std::string Many(const std::string& text, int count) {
  std::string many;
  for (int i = 0; i < count; ++i) many += text;
  return many;
}

TEST(Hostile, PatternsOfEveryKindEnd) {
  const std::vector<std::pair<std::string, std::string>> patterns = {
      {"choices of the same", "(a|a|a)*b"},
      {"stars of stars", "(((a*)*)*)*b"},
      {"overlapping sums", "(x+x+)+y"},
      {"the classic", "^(([a-z])+.)+[A-Z]([a-z])+$"},
      {"optional and required", "(a?){500}a{500}"},
      {"counts of counts", "^((a{1,1000}){1,1000}){1,1000}$"},
      {"a count of many", ".{0,1000000}"},
      {"exponential if determined", ".*a.{1000}"},
      {"exponential twice", "(a|b)*a(a|b){20}(c|d)*c(c|d){20}"},
      {"classes of counts", "(\\w{1,99}\\s?){1,99}(\\d{1,99}\\W?){1,99}"},
      {"look-ahead that multiplies",
       "^(?=(aa)*$)(?=(a{3})*$)(?=(a{5})*$)(?=(a{7})*$)(?=(a{11})*$)(?=(a{13})*$)"},
      {"look-ahead for each letter", "^" + Many("(?=.*[a-z])", 20) + "(?!.*aa)(?!.*bb).*$"},
      {"nested groups", Many("(", 20000) + "a" + Many(")", 20000)},
      {"alternatives", "^(" + Many("abc|", 8000) + "x)$"},
      {"optional chain", "^" + Many("a?", 5000) + "$"},
      {"a long literal", std::string(60000, 'a')},
      {"too long", std::string(70000, 'a')},
      {"all of Unicode", Many("[^\\u1234]\\p{L}\\P{L}[\\s\\S]", 50)},
      {"bytes that are no text", "\xFF\xFE"},
  };
  for (const auto& [name, pattern] : patterns)
    Bounded(name, [&, &pattern = pattern, &name = name] {
      Walk(CompileRegex(pattern), name, std::string(3000, 'a'));
      const Json schema{{"type", "string"}, {"pattern", pattern}, {"maxLength", 65536}};
      if (IsValidUtf8(pattern))
        Walk(CompileJsonSchema(schema), name, "\"" + std::string(3000, 'a') + "\"");
    });
}

Json Nested(int depth) {
  Json schema{{"type", "integer"}};
  for (int i = 0; i < depth; ++i) schema = Json{{"type", "array"}, {"items", schema}};
  return schema;
}

TEST(Hostile, SchemasOfEveryKindEnd) {
  std::vector<std::pair<std::string, Json>> schemas;
  schemas.emplace_back("deep", Nested(100));
  schemas.emplace_back("too deep", Nested(300));
  Json chain = Json::object();
  for (int i = 0; i < 5000; ++i)
    chain["n" + std::to_string(i)] = {
        {"type", "array"}, {"items", {{"$ref", "#/$defs/n" + std::to_string((i + 1) % 5000)}}}};
  schemas.emplace_back("a circle of references",
                       Json{{"$ref", "#/$defs/n0"}, {"$defs", chain}});
  Json aliases = Json::object();
  for (int i = 0; i < 5000; ++i)
    aliases["n" + std::to_string(i)] = {{"$ref", "#/$defs/n" + std::to_string((i + 1) % 5000)}};
  schemas.emplace_back("references to references",
                       Json{{"$ref", "#/$defs/n0"}, {"$defs", aliases}});
  Json all = Json::array();
  for (int i = 0; i < 40; ++i)
    all.push_back({{"anyOf",
                    {{{"properties", {{"a" + std::to_string(i), {{"type", "string"}}}}}},
                     {{"properties", {{"b" + std::to_string(i), {{"type", "integer"}}}}}}}}});
  schemas.emplace_back("products of alternatives", Json{{"allOf", all}});
  Json one = Json::array();
  for (int i = 0; i < 300; ++i)
    one.push_back({{"type", "object"}, {"properties", {{"k", {{"minLength", i}}}}}});
  schemas.emplace_back("alternatives that overlap", Json{{"oneOf", one}});
  Json properties = Json::object();
  for (int i = 0; i < 10000; ++i) properties["property" + std::to_string(i)] = {{"type", "string"}};
  schemas.emplace_back("ten thousand properties",
                       Json{{"type", "object"}, {"properties", properties}});
  Json values = Json::array();
  for (int i = 0; i < 50000; ++i) values.push_back("value" + std::to_string(i));
  schemas.emplace_back("fifty thousand values", Json{{"enum", values}});
  schemas.emplace_back("fifty thousand exclusions",
                       Json{{"type", "string"}, {"not", {{"enum", values}}}});
  Json patterns = Json::object();
  for (int i = 0; i < 30; ++i)
    patterns["a.*" + std::to_string(i)] = {{"minimum", i}};
  schemas.emplace_back("patterns that overlap", Json{{"patternProperties", patterns}});
  Json needs = Json::object();
  for (int i = 0; i < 40; ++i) needs["a" + std::to_string(i)] = {"b" + std::to_string(i)};
  schemas.emplace_back("dependencies", Json{{"dependentRequired", needs}});
  schemas.emplace_back("large bounds", Json{{"type", {"array", "string"}},
                                            {"minItems", 1000000000},
                                            {"maxItems", 1e18},
                                            {"minLength", 4000000000},
                                            {"items", {{"minProperties", 99999}}}});
  schemas.emplace_back("numbers of many digits", Json{{"type", "number"},
                                                      {"minimum", -1.7e308},
                                                      {"maximum", 1.7e308},
                                                      {"multipleOf", 1e-9}});
  schemas.emplace_back("a multiple of a prime", Json{{"type", "integer"}, {"multipleOf", 999983}});
  schemas.emplace_back("lists that choose twice",
                       Json{{"anyOf", {{{"type", "array"}, {"items", {{"$ref", "#"}}}},
                                       {{"type", "array"}, {"items", {{"$ref", "#"}}}}}}});
  for (const auto& [name, schema] : schemas)
    Bounded(name, [&, &schema = schema, &name = name] {
      Walk(CompileJsonSchema(schema), name, std::string(3000, '['));
      Walk(CompileJsonSchema(schema), name, "{\"property1\":\"x\",\"property99\":\"y\"}");
    });
}

TEST(Hostile, GrammarsOfEveryKindEnd) {
  std::string chain = "root ::= r0\n", doubling = "root ::= r0\n";
  for (int i = 0; i < 3000; ++i)
    chain += "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + " | \"x\"\n";
  chain += "r3000 ::= \"a\" root\n";
  for (int i = 0; i < 60; ++i)
    doubling += "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + " r" +
                std::to_string(i + 1) + "\n";
  doubling += "r60 ::= \"a\" | \"b\"\n";
  const std::vector<std::pair<std::string, std::string>> grammars = {
      {"a chain of rules", chain},
      {"rules that double", doubling},
      {"nested groups", "root ::= " + Many("(", 50000) + "\"a\"" + Many(")", 50000)},
      {"counts of counts", "root ::= \"a\"" + Many("?", 2000)},
      {"counts of large counts", "root ::= ((\"a\"{1,999}){1,999}){1,999}"},
      {"ambiguous", "root ::= s\ns ::= s2 s2 | \"a\"\ns2 ::= \"a\" s? | \"a\" s2?"},
      {"ambiguous lists", "root ::= (a | b)*\na ::= \"a\" root \"c\"? | \"a\"\nb ::= \"a\"+ root"},
      {"a circle", "root ::= a\na ::= b\nb ::= a"},
      {"a million", "root ::= \"a\"{1000000}"},
      {"beyond a million", "root ::= \"a\"{1000001}"},
      {"zero bytes", std::string("root ::= \"a\0b\"\0", 15)},
  };
  for (const auto& [name, text] : grammars)
    Bounded(name, [&, &text = text, &name = name] {
      Walk(CompileGbnf(text), name, std::string(2000, 'a'));
    });
}

// Bounds by kind, in what is built and not in seconds, so that a machine's speed does not matter.
struct Cost {
  Code code = Code::kInternal;  // of the refusal
  bool compiled = false;
  size_t nodes = 0, terms = 0, bytes = 0;  // of the grammar
  size_t walked = 0;                       // bytes of the matcher behind a walk
  bool accepted = false;                   // all of the walk
};

Cost CostOf(const Result<std::shared_ptr<const Grammar>>& grammar, std::string_view text,
            size_t matcher_bytes_max = size_t{64} << 20) {
  Cost cost;
  if (!grammar.ok()) {
    cost.code = grammar.error().code();
    EXPECT_FALSE(grammar.error().message().empty());
    return cost;
  }
  cost.compiled = true;
  cost.nodes = (*grammar)->nodes();
  cost.terms = (*grammar)->automata().terms().size();
  cost.bytes = (*grammar)->bytes();
  Matcher matcher(*grammar, &ByteTrie(), {.bytes_max = matcher_bytes_max, .work_max = 10000000});
  cost.accepted = matcher.StepAll(matcher.Start(), text) != kNoMatch;
  cost.walked = matcher.bytes();
  return cost;
}

TEST(HostileByKind, DeepNestingIsWalkedOrRefused) {
  const Cost deep = CostOf(CompileJsonSchema(Nested(100)), std::string(100, '['));
  EXPECT_TRUE(deep.accepted);
  EXPECT_LT(deep.nodes, 2000u);
  EXPECT_LT(deep.walked, size_t{1} << 20);
  EXPECT_EQ(CostOf(CompileJsonSchema(Nested(300)), "").code, Code::kNoSpace);
}

TEST(HostileByKind, AlternativesThatMultiplyAreRefused) {
  const auto product = [](int count) {
    Json all = Json::array();
    for (int i = 0; i < count; ++i) {
      const std::string n = std::to_string(i);
      all.push_back({{"anyOf",
                      {{{"properties", {{"a" + n, {{"type", "string"}}}}}},
                       {{"properties", {{"b" + n, {{"type", "integer"}}}}}}}}});
    }
    return Json{{"type", "object"}, {"allOf", all}};
  };
  EXPECT_TRUE(CostOf(CompileJsonSchema(product(4)), "{\"a1\":\"\"").accepted);
  EXPECT_EQ(CostOf(CompileJsonSchema(product(40)), "").code, Code::kNoSpace);
}

TEST(HostileByKind, AHugeEnumCostsItsText) {
  Json values = Json::array();
  for (int i = 0; i < 50000; ++i) values.push_back("value" + std::to_string(i));
  // As literals of its own each value is in progress at once, and that is bounded.
  const Cost cost = CostOf(CompileJsonSchema(Json{{"enum", values}}), "\"value49999\"");
  ASSERT_TRUE(cost.compiled);
  EXPECT_LT(cost.nodes, 60000u);
  EXPECT_LT(cost.bytes, size_t{16} << 20);
  EXPECT_LT(cost.walked, size_t{16} << 20);
}

TEST(HostileByKind, HugeBoundsAreNumbers) {
  const Cost cost = CostOf(CompileJsonSchema(Json{{"type", "array"},
                                                  {"minItems", 1000000000},
                                                  {"items", {{"type", "string"},
                                                             {"maxLength", 4000000000}}}}),
                           "[\"" + std::string(5000, 'a') + "\",\"");
  EXPECT_TRUE(cost.accepted);
  EXPECT_LT(cost.nodes, 40u);
  EXPECT_LT(cost.bytes, size_t{1} << 20);
}

TEST(HostileByKind, ReferencesWithoutAnEndAreRefused) {
  for (const char* text :
       {R"({"$ref":"#"})", R"({"anyOf":[{"$ref":"#"},{"type":"null"}]})",
        R"({"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}})",
        R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
        R"({"type":"array","items":{"$ref":"#"},"minItems":1})"})
    for (const bool any_order : {false, true})
      EXPECT_FALSE(
          CostOf(CompileJsonSchema(*ParseJson(text), {.any_order = any_order}), "").compiled)
          << text;
}

TEST(HostileByKind, CatastrophicPatternsHaveFewStates) {
  for (const char* pattern : {"(a|a|a)*b", "(((a*)*)*)*b", "(a+)+b", "(a|aa)+b", "(.*)*b",
                              "(a*a*)*b", "(a?){20}a{20}b"}) {
    const Cost cost = CostOf(CompileRegex(pattern), std::string(40, 'a'));
    EXPECT_TRUE(cost.compiled) << pattern;
    EXPECT_LT(cost.terms, 2000u) << pattern;
    EXPECT_LT(cost.walked, size_t{1} << 20) << pattern;
  }
}

TEST(HostileByKind, AnAutomatonThatIsTooLargeEndsAtItsLimit) {
  std::string text;
  std::mt19937 random(1);
  for (int i = 0; i < 20000; ++i) text += "ab"[random() % 2];
  const Cost cost = CostOf(CompileRegex("(a|b)*a(a|b){200}c"), text, size_t{4} << 20);
  ASSERT_TRUE(cost.compiled);
  EXPECT_FALSE(cost.accepted);  // it refuses to go on, it does not let pass
  EXPECT_LT(cost.walked, size_t{40} << 20);
}

TEST(HostileByKind, LeftRecursionIsRefused) {
  for (const char* text : {"root ::= root \"a\" | \"b\"", "root ::= a\na ::= b\nb ::= a | \"x\"",
                           "root ::= \"\" root \"a\" | \"b\"", "root ::= [x]* root \"a\" | \"b\""})
    EXPECT_EQ(CostOf(CompileGbnf(text), "").code, Code::kUnsupported) << text;
}

TEST(HostileByKind, WhatNothingFitsIsRefused) {
  for (const char* text :
       {R"({"not":{}})", R"({"allOf":[{"type":"string"},{"type":"integer"}]})", R"({"enum":[]})",
        R"({"type":"integer","minimum":3,"maximum":2})", R"({"type":"string","pattern":"a^"})",
        R"({"type":"string","pattern":"^aa$","maxLength":1})",
        R"({"type":"integer","multipleOf":10,"minimum":1,"maximum":9})",
        R"({"type":"object","required":["a"],"properties":{"a":false}})"})
    EXPECT_EQ(CostOf(CompileJsonSchema(*ParseJson(text)), "").code, Code::kBadInput) << text;
  EXPECT_EQ(CostOf(CompileRegex("(?=a)b"), "").code, Code::kBadInput);
  EXPECT_FALSE(CostOf(CompileGbnf("root ::= \"a\" root"), "").compiled);
}

TEST(HostileByKind, ManyPropertiesInAnyOrderCostWhatIsWritten) {
  Json properties = Json::object();
  for (int i = 0; i < 2000; ++i) properties["p" + std::to_string(i)] = {{"type", "integer"}};
  const Json schema{
      {"type", "object"}, {"properties", properties}, {"additionalProperties", false}};
  std::string text = "{";
  for (int i = 30; i-- > 0;) text += "\"p" + std::to_string(i * 61) + "\":1,";
  const Cost cost = CostOf(CompileJsonSchema(schema, {.any_order = true}), text);
  EXPECT_TRUE(cost.accepted);
  EXPECT_LT(cost.nodes, 10000u);
  EXPECT_LT(cost.walked, size_t{32} << 20);
}

}  // namespace
}  // namespace lode::text::grammar

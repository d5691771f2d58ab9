// What grammars allow, compared with what they should: by hand, and by brute force over small
// vocabularies against an independent check of values.
#include "text/grammar/grammar.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "base/json.h"
#include "text/grammar/compile.h"
#include "text/grammar/matcher.h"

namespace lode::text::grammar {
namespace {

// Every byte is a token, and some longer ones.
class Bytes {
 public:
  explicit Bytes(std::vector<std::string> longer = {}) {
    for (int byte = 0; byte < 256; ++byte)
      tokens_.push_back(std::string(1, static_cast<char>(byte)));
    for (std::string& token : longer) tokens_.push_back(std::move(token));
    views_.assign(tokens_.begin(), tokens_.end());
    trie_ = std::make_unique<TokenTrie>(views_);
  }
  const TokenTrie& trie() const { return *trie_; }

 private:
  std::vector<std::string> tokens_;
  std::vector<std::string_view> views_;
  std::unique_ptr<TokenTrie> trie_;
};

const TokenTrie& ByteTrie() {
  static const Bytes bytes;
  return bytes.trie();
}

Json Parse(const std::string& text) {
  auto json = ParseJson(text);
  EXPECT_TRUE(json.ok()) << text;
  return json.ok() ? *json : Json();
}

bool Accepts(const std::shared_ptr<const Grammar>& grammar, std::string_view text) {
  Matcher matcher(grammar, &ByteTrie());
  const MatchState state = matcher.StepAll(matcher.Start(), text);
  return state != kNoMatch && matcher.CanEnd(state);
}

bool SchemaAccepts(const std::string& schema, std::string_view text, const JsonStyle& style = {}) {
  auto grammar = CompileJsonSchema(Parse(schema), style);
  if (!grammar.ok()) {
    ADD_FAILURE() << schema << ": " << grammar.error().ToString();
    return false;
  }
  return Accepts(*grammar, text);
}

std::string SchemaError(const std::string& schema) {
  auto grammar = CompileJsonSchema(Parse(schema));
  return grammar.ok() ? "" : grammar.error().message();
}

bool RegexAccepts(const std::string& pattern, std::string_view text) {
  auto grammar = CompileRegex(pattern);
  if (!grammar.ok()) {
    ADD_FAILURE() << pattern << ": " << grammar.error().ToString();
    return false;
  }
  return Accepts(*grammar, text);
}

bool PatternAccepts(const std::string& pattern, const std::string& value) {
  return SchemaAccepts(Json{{"type", "string"}, {"pattern", pattern}}.dump(), Json(value).dump());
}

TEST(Regex, WholeTextsMatchClassesCountsAndAlternatives) {
  EXPECT_TRUE(RegexAccepts("[a-c]+x{2,3}(?:y|zz)?", "abcxxzz"));
  EXPECT_FALSE(RegexAccepts("[a-c]+x{2,3}(?:y|zz)?", "abcx"));
  EXPECT_FALSE(RegexAccepts("[a-c]+x{2,3}(?:y|zz)?", "abcxxxxy"));
  EXPECT_TRUE(RegexAccepts("\\d{3}-\\w*", "123-a_9"));
  EXPECT_FALSE(RegexAccepts("\\d{3}-\\w*", "123-a 9"));
  EXPECT_TRUE(RegexAccepts("[^a]", "\xC3\xA4"));
  EXPECT_FALSE(RegexAccepts("[^a]", "\xC3"));
  EXPECT_FALSE(RegexAccepts(".", "\n"));
  EXPECT_TRUE(RegexAccepts("\\p{Lu}\\p{L}+", "\xC3\x84pfel"));
  EXPECT_FALSE(RegexAccepts("\\p{Lu}\\p{L}+", "\xC3\xA4pfel"));
}

TEST(Regex, PatternsSearchUnlessTheyAreAnchored) {
  EXPECT_TRUE(PatternAccepts("b", "abc"));
  EXPECT_FALSE(PatternAccepts("^b", "abc"));
  EXPECT_FALSE(PatternAccepts("b$", "abc"));
  EXPECT_TRUE(PatternAccepts("^a|c$", "abb"));
  EXPECT_TRUE(PatternAccepts("^a|c$", "bbc"));
  EXPECT_FALSE(PatternAccepts("^a|c$", "bab"));
  EXPECT_TRUE(PatternAccepts("(^x)?y", "zy"));
  EXPECT_TRUE(PatternAccepts("^$", ""));
  EXPECT_FALSE(PatternAccepts("^$", "a"));
}

TEST(Regex, LookAheadIsAnIntersection) {
  const std::string password = "^(?=.*\\d)(?!.*x)[a-z0-9]{4,}$";
  EXPECT_TRUE(PatternAccepts(password, "abc1"));
  EXPECT_FALSE(PatternAccepts(password, "abcd"));
  EXPECT_FALSE(PatternAccepts(password, "abx1"));
  EXPECT_FALSE(PatternAccepts(password, "ab1"));
}

TEST(Regex, WhatIsNotRegularIsRefusedByName) {
  for (const char* pattern : {"(a)\\1", "(?<=a)b", "\\bword", "(?i)a", "\\p{Script=Greek}"}) {
    auto grammar = CompileRegex(pattern);
    ASSERT_FALSE(grammar.ok()) << pattern;
    EXPECT_EQ(grammar.error().code(), Code::kUnsupported) << pattern;
  }
  for (const char* pattern : {"(", ")", "[a", "a**", "[b-a]", "a{3,2}", "\\", "*"}) {
    auto grammar = CompileRegex(pattern);
    ASSERT_FALSE(grammar.ok()) << pattern;
    EXPECT_EQ(grammar.error().code(), Code::kBadInput) << pattern;
  }
}

TEST(Schema, TypesAndRequiredPropertiesInTheOrderOfTheSchema) {
  const std::string schema =
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":["string","null"]}},
          "required":["b"],"additionalProperties":false})";
  EXPECT_TRUE(SchemaAccepts(schema, R"({"a":1,"b":"x"})"));
  EXPECT_TRUE(SchemaAccepts(schema, R"({"b":null})"));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"a":1})"));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"b":"x","a":1})"));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"b":"x","c":1})"));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"a":1.5,"b":"x"})"));
  EXPECT_FALSE(SchemaAccepts(schema, R"({ "b":"x"})"));
}

TEST(Schema, OtherPropertiesComeAfterTheListedAndNeverUnderTheirNames) {
  const std::string schema =
      R"({"properties":{"aa":{"type":"integer"}},"type":"object",
          "additionalProperties":{"type":"boolean"}})";
  EXPECT_TRUE(SchemaAccepts(schema, R"({"aa":1,"a":true,"aab":false})"));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"aa":true})"));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"x":true,"aa":true})"));
}

TEST(Schema, KeysComeInAnyOrderIfAskedAndEachOnce) {
  const JsonStyle any{.any_order = true};
  const std::string schema =
      R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"boolean"},
          "c":{"type":"null"}},"required":["b"],"additionalProperties":{"type":"string"},
          "maxProperties":3})";
  EXPECT_TRUE(SchemaAccepts(schema, R"({"a":1,"b":true})", any));
  EXPECT_TRUE(SchemaAccepts(schema, R"({"b":true,"a":1})", any));
  EXPECT_TRUE(SchemaAccepts(schema, R"({"x":"","b":true,"c":null})", any));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"x":"","a":1,"c":null})", any));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"b":true,"b":true})", any));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"a":1,"c":null})", any));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"a":true,"b":true})", any));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"b":true,})", any));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"b":true,"a":1,"c":null,"x":""})", any));
}

TEST(Schema, ASetThatNothingCanFillIsNone) {
  const JsonStyle any{.any_order = true};
  for (const char* text :
       {R"({"type":"object","required":["a"],"properties":{"a":{"$ref":"#"}}})",
        R"({"type":"object","required":["a","b"],"maxProperties":1})",
        R"({"type":"object","minProperties":2,"properties":{"a":{}},
            "additionalProperties":false})"})
    EXPECT_FALSE(CompileJsonSchema(Parse(text), any).ok()) << text;
  // What cannot be begun is left out, and the rest stays.
  const std::string schema =
      R"({"type":"object","properties":{"a":{"type":"object","required":["a"],
          "properties":{"a":{"$ref":"#/properties/a"}}},"b":{}},"additionalProperties":false})";
  EXPECT_TRUE(SchemaAccepts(schema, R"({"b":1})", any));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"a":)", any));
}

TEST(Schema, WhereAReferenceLeadsMustNotDependOnADraftThatIsNotNamed) {
  const std::string body =
      R"("$id":"http://x/base/","definitions":{
          "foo":{"$id":"http://x/foo.json","type":"string"},
          "base_foo":{"$id":"foo.json","type":"number"}},
          "allOf":[{"$id":"http://x/","$ref":"foo.json"}]})";
  EXPECT_NE(SchemaError("{" + body).find("depends on the draft"), std::string::npos);
  const std::string seven = R"({"$schema":"http://json-schema.org/draft-07/schema#",)" + body;
  EXPECT_TRUE(SchemaAccepts(seven, "1"));
  EXPECT_FALSE(SchemaAccepts(seven, "\"a\""));
  const std::string later = R"({"$schema":"https://json-schema.org/draft/2020-12/schema",)" + body;
  EXPECT_TRUE(SchemaAccepts(later, "\"a\""));
  EXPECT_FALSE(SchemaAccepts(later, "1"));
  // Beside a reference a keyword holds or is ignored, by draft; what fits both is the same for all.
  const std::string beside =
      R"("$ref":"#/definitions/a","maxLength":2,"definitions":{"a":{"type":"string"}}})";
  EXPECT_TRUE(SchemaAccepts("{" + beside, "\"ab\""));
  EXPECT_FALSE(SchemaAccepts("{" + beside, "\"abc\""));
  EXPECT_NE(SchemaError(R"({"definitions":{"a":{"type":"string"}},
                            "not":{"$ref":"#/definitions/a","maxLength":2}})")
                .find("depends on the draft"),
            std::string::npos);
}

TEST(Schema, NumbersKeepTheirBoundsDigitByDigit) {
  const auto integer = [](const char* bounds, int value) {
    return SchemaAccepts("{\"type\":\"integer\"," + std::string(bounds) + "}",
                         std::to_string(value));
  };
  for (int value = -130; value <= 130; ++value) {
    EXPECT_EQ(integer("\"minimum\":-17,\"maximum\":105", value), value >= -17 && value <= 105);
    EXPECT_EQ(integer("\"exclusiveMinimum\":9,\"exclusiveMaximum\":100", value),
              value > 9 && value < 100);
    EXPECT_EQ(integer("\"multipleOf\":7,\"minimum\":-50", value), value % 7 == 0 && value >= -50);
    EXPECT_EQ(integer("\"maximum\":-3.5", value), value <= -4);
  }
}

TEST(Schema, DecimalsKeepTheirBounds) {
  const std::string schema = R"({"type":"number","minimum":-1.25,"exclusiveMaximum":3.14})";
  for (int hundredths = -300; hundredths <= 400; ++hundredths) {
    char text[32];
    std::snprintf(text, sizeof(text), "%s%d.%02d", hundredths < 0 ? "-" : "",
                  std::abs(hundredths) / 100, std::abs(hundredths) % 100);
    EXPECT_EQ(SchemaAccepts(schema, text), hundredths >= -125 && hundredths < 314) << text;
  }
  EXPECT_TRUE(SchemaAccepts(schema, "3.1399"));
  EXPECT_FALSE(SchemaAccepts(schema, "3.1400"));
  EXPECT_FALSE(SchemaAccepts(schema, "1e3"));
  EXPECT_TRUE(SchemaAccepts(R"({"type":"number"})", "-1.5e+10"));
  EXPECT_TRUE(SchemaAccepts(R"({"type":"number","multipleOf":0.01})", "12.34"));
  EXPECT_FALSE(SchemaAccepts(R"({"type":"number","multipleOf":0.01})", "12.345"));
  EXPECT_TRUE(SchemaAccepts(R"({"type":"number","multipleOf":0.25})", "1.75"));
  EXPECT_FALSE(SchemaAccepts(R"({"type":"number","multipleOf":0.25})", "1.70"));
}

TEST(Schema, LengthsCountCharactersHoweverTheyAreWritten) {
  const std::string schema = R"({"type":"string","minLength":2,"maxLength":3})";
  EXPECT_TRUE(SchemaAccepts(schema, "\"\xC3\xA4\xF0\x9F\x98\x80\""));
  EXPECT_TRUE(SchemaAccepts(schema, R"("\ud83d\ude00\n")"));
  EXPECT_TRUE(SchemaAccepts(schema, R"("\u00e4b\\")"));
  EXPECT_FALSE(SchemaAccepts(schema, R"("\ud83d\ude00")"));
  EXPECT_FALSE(SchemaAccepts(schema, R"("abcd")"));
  EXPECT_FALSE(SchemaAccepts(schema, R"("\ud83d\ud83d")"));
  EXPECT_FALSE(SchemaAccepts(schema, "\"ab\n\""));
}

TEST(Schema, APatternAndALengthHoldTogether) {
  const std::string schema = R"({"type":"string","pattern":"^(ab)*$","minLength":3,"maxLength":7})";
  EXPECT_FALSE(SchemaAccepts(schema, "\"ab\""));
  EXPECT_TRUE(SchemaAccepts(schema, "\"abab\""));
  EXPECT_TRUE(SchemaAccepts(schema, "\"ababab\""));
  EXPECT_FALSE(SchemaAccepts(schema, "\"abababab\""));
  EXPECT_NE(SchemaError(R"({"type":"string","pattern":"^(ab)*$","minLength":3,"maxLength":3})"),
            "");
}

TEST(Schema, LargeBoundsAreCounters) {
  auto grammar = CompileJsonSchema(
      Parse(R"({"type":"object","properties":{"s":{"type":"string","maxLength":65536},
                "a":{"type":"array","items":{"type":"integer"},"maxItems":10000,"minItems":9000}},
                "required":["s","a"]})"));
  ASSERT_TRUE(grammar.ok());
  EXPECT_LT((*grammar)->nodes(), 60u);
  std::string numbers = "[1";
  for (int i = 1; i < 9000; ++i) numbers += ",1";
  const std::string head = "{\"s\":\"" + std::string(65536, 'x') + "\",\"a\":";
  EXPECT_TRUE(Accepts(*grammar, head + numbers + "]}"));
  EXPECT_FALSE(Accepts(*grammar, head + "[1]}"));
  EXPECT_FALSE(Accepts(*grammar, "{\"s\":\"" + std::string(65537, 'x') + "\",\"a\":[]}"));
}

TEST(Schema, ReferencesMayBeRecursive) {
  const std::string schema =
      R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{
          "v":{"type":"integer"},"next":{"anyOf":[{"$ref":"#/$defs/node"},{"type":"null"}]}},
          "required":["v","next"],"additionalProperties":false}}})";
  EXPECT_TRUE(SchemaAccepts(schema, R"({"v":1,"next":{"v":2,"next":null}})"));
  EXPECT_FALSE(SchemaAccepts(schema, R"({"v":1,"next":{"v":2}})"));
  EXPECT_NE(SchemaError(R"({"$ref":"#"})"), "");
  EXPECT_NE(SchemaError(R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})"),
            "");
  EXPECT_NE(SchemaError(R"({"$ref":"http://elsewhere/schema.json"})"), "");
}

TEST(Schema, OneOfHoldsExactlyOnce) {
  const std::string exclusive =
      R"({"oneOf":[{"type":"object","properties":{"k":{"const":"a"}},"required":["k"]},
                   {"type":"object","properties":{"k":{"const":"b"},"n":{"type":"integer"}},
                    "required":["k","n"]}]})";
  EXPECT_TRUE(SchemaAccepts(exclusive, R"({"k":"a"})"));
  EXPECT_TRUE(SchemaAccepts(exclusive, R"({"k":"b","n":1})"));
  EXPECT_FALSE(SchemaAccepts(exclusive, R"({"k":"b"})"));
  const std::string overlapping =
      R"({"oneOf":[{"type":"integer","minimum":0},{"type":"integer","maximum":9}]})";
  EXPECT_TRUE(SchemaAccepts(overlapping, "10"));
  EXPECT_TRUE(SchemaAccepts(overlapping, "-1"));
  EXPECT_FALSE(SchemaAccepts(overlapping, "5"));
  const std::string either =
      R"({"type":"object","properties":{"a":{},"b":{}},"additionalProperties":false,
          "oneOf":[{"required":["a"]},{"required":["b"]}]})";
  EXPECT_TRUE(SchemaAccepts(either, R"({"a":1})"));
  EXPECT_TRUE(SchemaAccepts(either, R"({"b":1})"));
  EXPECT_FALSE(SchemaAccepts(either, R"({"a":1,"b":1})"));
  EXPECT_FALSE(SchemaAccepts(either, "{}"));
}

TEST(Schema, NotAndConditionsAreExact) {
  EXPECT_FALSE(SchemaAccepts(R"({"type":"string","not":{"enum":["ab","cd"]}})", "\"ab\""));
  EXPECT_TRUE(SchemaAccepts(R"({"type":"string","not":{"enum":["ab","cd"]}})", "\"abc\""));
  EXPECT_TRUE(SchemaAccepts(R"({"type":"string","not":{"pattern":"^a"}})", "\"ba\""));
  EXPECT_FALSE(SchemaAccepts(R"({"type":"string","not":{"pattern":"^a"}})", "\"ab\""));
  const std::string conditional =
      R"({"type":"object","properties":{"k":{"enum":["x","y"]},"n":{"type":"integer"}},
          "required":["k"],"additionalProperties":false,
          "if":{"properties":{"k":{"const":"x"}}},"then":{"required":["n"]}})";
  EXPECT_TRUE(SchemaAccepts(conditional, R"({"k":"x","n":1})"));
  EXPECT_FALSE(SchemaAccepts(conditional, R"({"k":"x"})"));
  EXPECT_TRUE(SchemaAccepts(conditional, R"({"k":"y"})"));
}

TEST(Schema, WhatCannotBeEnforcedIsRefusedWithItsPath) {
  const std::string error = SchemaError(
      R"({"type":"object","properties":{"a":{"type":"array","uniqueItems":true},
          "b":{"type":"string","pattern":"(x)\\1"}}})");
  EXPECT_NE(error.find("#/properties/a/uniqueItems"), std::string::npos) << error;
  EXPECT_NE(error.find("#/properties/b/pattern"), std::string::npos) << error;
  EXPECT_EQ(SchemaError(R"({"x-unknown":1,"format":"nobody-knows","title":"t"})"), "");
}

TEST(Schema, FormatsAreEnforced) {
  const auto fits = [](const char* format, const char* text) {
    return SchemaAccepts("{\"type\":\"string\",\"format\":\"" + std::string(format) + "\"}",
                         Json(text).dump());
  };
  EXPECT_TRUE(fits("date", "2024-02-29"));
  EXPECT_FALSE(fits("date", "2023-02-29"));
  EXPECT_FALSE(fits("date", "1900-02-29"));
  EXPECT_TRUE(fits("date", "2000-02-29"));
  EXPECT_TRUE(fits("date-time", "2024-05-06T07:08:09.5+02:00"));
  EXPECT_FALSE(fits("date-time", "2024-05-06 07:08:09"));
  EXPECT_TRUE(fits("ipv6", "2001:db8::ff00:42:8329"));
  EXPECT_TRUE(fits("ipv6", "::"));
  EXPECT_TRUE(fits("ipv6", "1::"));
  EXPECT_FALSE(fits("ipv6", "1::2::3"));
  EXPECT_FALSE(fits("ipv4", "256.1.1.1"));
  EXPECT_TRUE(fits("email", "a.b@example.com"));
  EXPECT_FALSE(fits("email", "a..b@example.com"));
  EXPECT_TRUE(fits("uri", "https://example.com/a?b=c#d"));
  EXPECT_FALSE(fits("uri", "not a uri"));
  EXPECT_TRUE(fits("uuid", "2eb8aa08-aa98-11ea-b4aa-73b441d16380"));
  EXPECT_TRUE(fits("duration", "P1Y2M3DT4H5M6S"));
  EXPECT_FALSE(fits("duration", "P1D2H"));
}

TEST(Schema, WhiteSpaceIsBounded) {
  const std::string schema = R"({"type":"object","properties":{"a":{"const":1}},"required":["a"]})";
  const JsonStyle runs{.space = JsonStyle::Space::kRuns, .run_max = 3};
  EXPECT_TRUE(SchemaAccepts(schema, "{\n  \"a\" : 1\n}", runs));
  EXPECT_FALSE(SchemaAccepts(schema, "{\n    \"a\" : 1\n}", runs));
  const JsonStyle spaced{.space = JsonStyle::Space::kSpaced, .run_max = 0};
  EXPECT_TRUE(SchemaAccepts(schema, "{\"a\": 1}", spaced));
  EXPECT_TRUE(SchemaAccepts(schema, "{\"a\":1}", spaced));
  EXPECT_FALSE(SchemaAccepts(schema, "{\"a\":  1}", spaced));
}

TEST(Matcher, ForcedBytesEndWhereThereIsAChoice) {
  auto grammar = CompileJsonSchema(
      Parse(R"({"type":"object","properties":{"name":{"type":"string"}},"required":["name"],
                "additionalProperties":false})"));
  ASSERT_TRUE(grammar.ok());
  Matcher matcher(*grammar, &ByteTrie());
  EXPECT_EQ(matcher.Forced(matcher.Start()), "{\"name\":\"");
  const MatchState end = matcher.StepAll(matcher.Start(), "{\"name\":\"x\"");
  EXPECT_EQ(matcher.Forced(end), "}");
}

TEST(Matcher, GoingBackIsUsingAnOlderState) {
  auto grammar = CompileJsonSchema(Parse(R"({"type":"array","items":{"type":"integer"}})"));
  ASSERT_TRUE(grammar.ok());
  Matcher matcher(*grammar, &ByteTrie());
  const MatchState one = matcher.StepAll(matcher.Start(), "[1,");
  const MatchState two = matcher.StepAll(one, "2,");
  EXPECT_EQ(one, two);  // the same may follow, so it is the same state
  EXPECT_NE(matcher.StepAll(one, "7"), kNoMatch);
  EXPECT_EQ(matcher.StepAll(one, "]"), kNoMatch);
}

// Masks against stepping: for tokens of several bytes that cut everything anywhere.
TEST(Matcher, AMaskIsWhatSteppingAllows) {
  std::vector<std::string> longer;
  std::mt19937 random(5);
  const std::string letters = "\"\\{}[],:aeu0159-. \n\xC3\xA4\xF0\x9F\x98\x80";
  for (int i = 0; i < 6000; ++i) {
    std::string token;
    for (size_t n = 2 + random() % 5; n > 0; --n) token += letters[random() % letters.size()];
    longer.push_back(token);
  }
  const Bytes bytes(longer);
  const TokenTrie& trie = bytes.trie();
  for (const char* text :
       {"{}", R"({"type":"string","maxLength":4})", R"({"type":"string","minLength":3})",
        R"({"type":"string","pattern":"^[ae]*0$","maxLength":5})",
        R"({"enum":["a","ae\"",10,[1]]})",
        R"({"type":"object","properties":{"a":{"type":"number"},"ae":{"type":"string"}}})",
        R"({"type":"array","items":{"type":"integer","minimum":-5,"maximum":150},"maxItems":3})"}) {
    auto grammar = CompileJsonSchema(Parse(text));
    ASSERT_TRUE(grammar.ok()) << text;
    Matcher matcher(*grammar, &trie);
    std::vector<uint64_t> words(trie.words());
    MatchState state = matcher.Start();
    for (int step = 0; step < 60; ++step) {
      matcher.Mask(state, words);
      std::vector<uint32_t> allowed;
      for (uint32_t token = 0; token < trie.vocabulary(); ++token) {
        const bool steps = matcher.StepAll(state, trie.bytes_of(token)) != kNoMatch;
        ASSERT_EQ((words[token / 64] >> (token % 64) & 1) != 0, steps)
            << text << " token " << trie.bytes_of(token) << " at step " << step;
        if (steps) allowed.push_back(token);
      }
      if (allowed.empty()) {
        EXPECT_TRUE(matcher.CanEnd(state)) << text;  // no dead end
        state = matcher.Start();
      } else {
        state = *matcher.Advance(state, allowed[random() % allowed.size()]);
      }
    }
  }
}

}  // namespace
}  // namespace lode::text::grammar

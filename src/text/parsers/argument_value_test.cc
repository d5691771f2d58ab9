#include "text/parsers/argument_value.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace lode::text {
namespace {

std::string Convert(std::string_view text, ValueKind kind, bool nullable = false) {
  return ConvertArgument(text, {kind, nullable});
}

TEST(ArgumentValue, KeepsStringsVerbatimEvenWhenTheyLookTyped) {
  for (const char* text : {"42", "true", "null", "None", "{\"a\":1}", " padded ", ""}) {
    EXPECT_EQ(Convert(text, ValueKind::kString), QuoteJson(text));
  }
}

TEST(ArgumentValue, ReadsNullOnlyWhereItIsAllowed) {
  EXPECT_EQ(Convert("null", ValueKind::kString, true), "null");
  EXPECT_EQ(Convert("None", ValueKind::kString, true), "null");
  EXPECT_EQ(Convert(" null", ValueKind::kString, true), "\" null\"");
  EXPECT_EQ(Convert("None", ValueKind::kInteger, true), "null");
  EXPECT_EQ(Convert("null", ValueKind::kObject), "null");
}

TEST(ArgumentValue, NormalizesNumbersWithoutRoundingThem) {
  EXPECT_EQ(Convert("42", ValueKind::kInteger), "42");
  EXPECT_EQ(Convert(" -7\n", ValueKind::kInteger), "-7");
  EXPECT_EQ(Convert("123456789012345678901234567890", ValueKind::kInteger),
            "123456789012345678901234567890");
  EXPECT_EQ(Convert("3.0", ValueKind::kInteger), "3");
  EXPECT_EQ(Convert("3.5", ValueKind::kInteger), "3.5");
  EXPECT_EQ(Convert("007", ValueKind::kInteger), "7");
  EXPECT_EQ(Convert("+1_000", ValueKind::kInteger), "1000");
  EXPECT_EQ(Convert("0.10000000000000000001", ValueKind::kNumber), "0.10000000000000000001");
  EXPECT_EQ(Convert(".5", ValueKind::kNumber), "0.5");
  EXPECT_EQ(Convert("5.", ValueKind::kNumber), "5.0");
  EXPECT_EQ(Convert("-1E+5", ValueKind::kNumber), "-1e+5");
  EXPECT_EQ(Convert("3", ValueKind::kNumber), "3");
  EXPECT_EQ(Convert("-0", ValueKind::kInteger), "-0");
}

TEST(ArgumentValue, HandsWhatDoesNotFitItsKindToTheClientAsAString) {
  EXPECT_EQ(Convert("many", ValueKind::kInteger), "\"many\"");
  EXPECT_EQ(Convert("NaN", ValueKind::kNumber), "\"NaN\"");
  EXPECT_EQ(Convert("1e", ValueKind::kNumber), "\"1e\"");
  EXPECT_EQ(Convert(".", ValueKind::kNumber), "\".\"");
  EXPECT_EQ(Convert("-", ValueKind::kNumber), "\"-\"");
  EXPECT_EQ(Convert("yes", ValueKind::kBoolean), "\"yes\"");
  EXPECT_EQ(Convert("{broken", ValueKind::kObject), "\"{broken\"");
  EXPECT_EQ(Convert("", ValueKind::kArray), "\"\"");
}

TEST(ArgumentValue, LeavesNumbersThatNoReaderTakesAsText) {
  const std::string digits(400, '9');
  EXPECT_EQ(Convert("1e999", ValueKind::kNumber), "\"1e999\"");
  EXPECT_EQ(Convert(digits, ValueKind::kInteger), QuoteJson(digits));
  EXPECT_EQ(Convert("[-1e999]", ValueKind::kArray), "\"[-1e999]\"");
  EXPECT_EQ(Convert("1e-999", ValueKind::kNumber), "1e-999");
}

TEST(ArgumentValue, ReadsBooleansInAnyCase) {
  EXPECT_EQ(Convert("True", ValueKind::kBoolean), "true");
  EXPECT_EQ(Convert("\nFALSE ", ValueKind::kBoolean), "false");
}

TEST(ArgumentValue, ReadsContainersAsJsonThenAsPythonThenEncodedTwice) {
  EXPECT_EQ(Convert("{\n  \"a\" : [1, 2.50, true]\n}", ValueKind::kObject),
            "{\"a\":[1,2.50,true]}");
  EXPECT_EQ(Convert("{'a': True, 'b': None, 'c': (1, 'it\\'s',)}", ValueKind::kObject),
            "{\"a\":true,\"b\":null,\"c\":[1,\"it's\"]}");
  EXPECT_EQ(Convert(R"("{\"a\": 18446744073709551617}")", ValueKind::kObject),
            "{\"a\":18446744073709551617}");
  EXPECT_EQ(Convert(R"("['x']")", ValueKind::kArray), "[\"x\"]");
  EXPECT_EQ(Convert("[]", ValueKind::kArray), "[]");
}

TEST(ArgumentValue, RefusesNestingThatIsTooDeep) {
  const std::string deep(5000, '[');
  EXPECT_EQ(Convert(deep, ValueKind::kArray), QuoteJson(deep));
  const std::string fine = std::string(100, '[') + std::string(100, ']');
  EXPECT_EQ(Convert(fine, ValueKind::kArray), fine);
}

TEST(ArgumentValue, CompactJsonIsStrict) {
  for (const char* text : {"{'a':1}", "[1,]", "{\"a\":1,}", "01", "1.", "\"\\x41\"", "\"a\nb\"",
                           "[1 2]", "{\"a\"}", "tru", "\"open", "[1] x", "", "\"\\u12\""}) {
    EXPECT_FALSE(CompactJson(text).has_value()) << text;
  }
  EXPECT_EQ(CompactJson(R"("\u00e9\ud83d\ude00\u0001\/")"), "\"é😀\\u0001/\"");
  EXPECT_EQ(CompactJson(R"("\ud83dx")"), "\"\xEF\xBF\xBDx\"");  // half a pair
}

TEST(ArgumentValue, EscapesEverythingThatJsonAsksFor) {
  std::string all;
  for (int c = 0; c < 128; ++c) all += static_cast<char>(c);
  const Result<Json> json = ParseJson(QuoteJson(all));
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->get<std::string>(), all);
}

}  // namespace
}  // namespace lode::text

#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>

#include "base/text.h"

namespace lode {
namespace {

Result<int> Half(int n) {
  if (n % 2 != 0) return Error(Code::kBadInput, "odd", "take an even number");
  return n / 2;
}

Result<int> Quarter(int n) {
  LODE_ASSIGN(const int half, Half(n));
  LODE_TRY(Half(half));
  return half / 2;
}

TEST(Result, CarriesAValueOrAnErrorWithItsHint) {
  EXPECT_EQ(Quarter(8).value(), 2);
  Result<int> bad = Quarter(6);
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().AddContext("file.txt").ToString(), "file.txt: odd; take an even number");
  EXPECT_EQ(ExitCode(bad.error()), 2);
  EXPECT_EQ(ExitCode(Error(Code::kInternal, "x")), 1);
  EXPECT_EQ(ExitCode(Error(Code::kCancelled, "x")), 130);
}

TEST(Result, ErrorTextNeverBreaksALineOrATerminal) {
  EXPECT_EQ(Error(Code::kBadInput, "a\nb\x1b[31mc").ToString(), "a b\\x1B[31mc");
}

TEST(Text, FormatsNumbersForPeople) {
  EXPECT_EQ(WithThousands(31577940288ull), "31,577,940,288");
  EXPECT_EQ(WithThousands(999), "999");
  EXPECT_EQ(HumanBytes(17700000000ull), "17.7 GB");
  EXPECT_EQ(HumanBytesBinary(1536), "1.50 KiB");
}

TEST(Text, FindsTheClosestName) {
  EXPECT_EQ(ClosestName("generat", {"chat", "generate", "logits"}), "generate");
  EXPECT_EQ(ClosestName("zzzzzz", {"chat", "generate"}), "");
}

}  // namespace
}  // namespace lode

// Runs the text files of tests/text/parsers: what a model wrote, ----, options, ----, what must
// come out; several cases per file, separated by ====. Anyone can add one (README.md there). Every
// case is read whole, byte by byte, word by word and in random pieces, always with the same result.
#include <gtest/gtest.h>

#include <random>

#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "tests/support/parser_cases.h"
#include "text/parsers/output_parser.h"

namespace lode::text {
namespace {

using Case = lode::testing::ParserCase;

// The outcome as JSON, so that it compares by type and prints well.
Json Outcome(const std::vector<std::string>& pieces, const OutputParserOptions& options,
             StopCause cause, const std::string& place) {
  OutputParser parser(options);
  ParsedOutput output;
  const auto check = [&](const std::vector<OutputEvent>& events) {
    for (const OutputEvent& event : events) {
      EXPECT_TRUE(IsValidUtf8(event.text)) << place;
    }
    output.Add(events);
  };
  for (const std::string& piece : pieces) check(parser.Push(piece));
  check(parser.Finish(cause));
  Json outcome;
  outcome["reasoning"] = output.reasoning;
  outcome["content"] = output.content;
  outcome["calls"] = Json::array();
  for (const ParsedCall& call : output.calls) {
    const Result<Json> arguments = ParseJson(call.arguments);
    EXPECT_TRUE(arguments.ok()) << place << ": " << call.arguments;
    EXPECT_TRUE(arguments.ok() && arguments->is_object()) << place << ": " << call.arguments;
    outcome["calls"].push_back({{"name", call.name},
                                {"arguments", arguments.ok() ? *arguments : Json()},
                                {"complete", call.complete},
                                {"text", call.arguments}});
  }
  outcome["finish"] = FinishReasonName(parser.finish_reason());
  outcome["dropped"] = parser.dropped_blocks();
  outcome["unknown"] = parser.unknown_calls();
  return outcome;
}

// `expected` names only what it cares about; the rest has the obvious default.
void Compare(const Case& one, Json outcome) {
  Json expected = one.expected;
  const Json defaults = {{"reasoning", ""},  {"content", ""}, {"calls", Json::array()},
                         {"finish", "stop"}, {"dropped", 0},  {"unknown", 0}};
  for (const auto& [key, value] : defaults.items()) {
    if (!expected.contains(key)) expected[key] = value;
  }
  ASSERT_EQ(outcome["calls"].size(), expected["calls"].size()) << one.place << DumpJson(outcome);
  for (size_t i = 0; i < expected["calls"].size(); ++i) {
    Json& call = expected["calls"][i];
    if (!call.contains("complete")) call["complete"] = true;
    if (!call.contains("text")) outcome["calls"][i].erase("text");
  }
  for (const auto& [key, value] : expected.items()) {
    if (key == "calls") continue;
    EXPECT_EQ(DumpJson(outcome[key]), DumpJson(value)) << one.place << " " << key;
  }
  for (size_t i = 0; i < expected["calls"].size(); ++i) {
    for (const auto& [key, value] : expected["calls"][i].items()) {
      EXPECT_EQ(DumpJson(outcome["calls"][i][key]), DumpJson(value)) << one.place << " " << key;
    }
  }
}

std::vector<std::string> Words(const std::string& text) {
  // About what a tokenizer does: a word with its space, single signs, whole tags.
  std::vector<std::string> words;
  for (size_t i = 0; i < text.size();) {
    size_t end = i + 1;
    if (text.compare(i, 11, "<tool_call>") == 0) {
      end = i + 11;
    } else if (std::isalnum(static_cast<unsigned char>(text[i])) != 0 || text[i] == ' ') {
      while (end < text.size() && std::isalnum(static_cast<unsigned char>(text[end])) != 0) ++end;
    }
    words.push_back(text.substr(i, end - i));
    i = end;
  }
  return words;
}

// Everything that must not depend on the cuts, in one text.
std::string Read(const std::vector<std::string_view>& pieces, const OutputParserOptions& options,
                 StopCause cause) {
  OutputParser parser(options);
  ParsedOutput output;
  for (const std::string_view piece : pieces) output.Add(parser.Push(piece));
  output.Add(parser.Finish(cause));
  std::string all = output.reasoning + "|" + output.content;
  for (const ParsedCall& call : output.calls) {
    all += "|" + call.id + "|" + call.name + "|" + call.arguments + (call.complete ? "." : "?");
  }
  return all + FinishReasonName(parser.finish_reason()) +
         Format(" %d %d", parser.dropped_blocks(), parser.unknown_calls());
}

// Every cut in two, every cut in three whose middle is short (all of them when the text is), and
// random pieces.
void CompareCuts(const Case& one, const OutputParserOptions& options, StopCause cause) {
  const std::string_view text = one.input;
  const std::string whole = Read({text}, options, cause);
  const size_t middle_max = text.size() <= 100 ? text.size() : 5;
  for (size_t i = 0; i <= text.size(); ++i) {
    ASSERT_EQ(Read({text.substr(0, i), text.substr(i)}, options, cause), whole)
        << one.place << " cut at " << i;
    for (size_t middle = 1; middle <= middle_max && i + middle < text.size(); ++middle) {
      ASSERT_EQ(Read({text.substr(0, i), text.substr(i, middle), text.substr(i + middle)}, options,
                     cause),
                whole)
          << one.place << " cut at " << i << " and " << middle << " later";
    }
  }
  std::mt19937 random(20);
  for (int round = 0; round < 50; ++round) {
    std::vector<std::string_view> pieces;
    const size_t longest = 1 + random() % 60;
    for (size_t i = 0; i < text.size(); i += pieces.back().size()) {
      pieces.push_back(text.substr(i, 1 + random() % longest));
    }
    ASSERT_EQ(Read(pieces, options, cause), whole) << one.place << " in random pieces " << round;
  }
}

TEST(ParserGoldens, GiveTheExpectedEventsHoweverTheTextIsCut) {
  int count = 0;
  for (const Case& one : lode::testing::ReadParserCases()) {
    ++count;
    const OutputParserOptions& options = one.parsing;
    const StopCause cause = one.cause;
    const Json whole = Outcome({one.input}, options, cause, one.place);
    Compare(one, whole);
    std::vector<std::string> bytes;
    for (const char c : one.input) bytes.emplace_back(1, c);
    EXPECT_EQ(DumpJson(Outcome(bytes, options, cause, one.place)), DumpJson(whole))
        << one.place << " byte by byte";
    EXPECT_EQ(DumpJson(Outcome(Words(one.input), options, cause, one.place)), DumpJson(whole))
        << one.place << " word by word";
    CompareCuts(one, options, cause);
  }
  EXPECT_GE(count, 110);  // the goldens were found
}

}  // namespace
}  // namespace lode::text

// Runs the text files of tests/text/parsers: what a model wrote, ----, options, ----, what must
// come out; several cases per file, separated by ====. Anyone can add one (README.md there). Every
// case is read whole, byte by byte, word by word and in random pieces, always with the same result.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "tests/support/shared.h"
#include "text/parsers/output_parser.h"
#include "text/parsers/tool_schemas_json.h"

namespace lode::text {
namespace {

struct Case {
  std::string place;
  std::string format;  // the folder's
  std::string input;
  Json options;
  Json expected;
};

// \n \r \t \\ \xHH, for what an editor would spoil.
std::string Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    const char c = text[++i];
    if (c == 'x') {
      out += static_cast<char>(std::stoi(std::string(text.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      out += c == 'n' ? '\n' : c == 'r' ? '\r' : c == 't' ? '\t' : c;
    }
  }
  return out;
}

// The parts of `text` between lines that are exactly `separator`.
std::vector<std::string> SplitAtLines(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts(1);
  for (const std::string& line : Split(text, '\n')) {
    if (line == separator) {
      parts.emplace_back();
    } else {
      parts.back() += line + "\n";
    }
  }
  return parts;
}

std::vector<Case> ReadCases(const std::filesystem::path& path) {
  std::vector<Case> cases;
  const Result<std::string> text = ReadFile(path.string());
  EXPECT_TRUE(text.ok());
  for (const std::string& block : SplitAtLines("====\n" + *text, "====")) {
    if (block.find_first_not_of('\n') == std::string::npos) continue;
    Case one;
    const std::string name = path.filename().string();
    const std::string prefix = name.substr(0, name.find('_'));
    one.format = OutputFormatFromName(prefix).ok() ? prefix : "xml";
    one.place = name + Format(" case %zu", cases.size() + 1);
    const std::vector<std::string> parts = SplitAtLines(block, "----");
    EXPECT_EQ(parts.size(), 3u) << one.place;
    if (parts.size() != 3) continue;
    one.input = parts[0].substr(0, parts[0].size() - 1);  // the newline before ---- is the file's
    const Result<Json> options = ParseJson(parts[1]);
    const Result<Json> expected = ParseJson(parts[2]);
    EXPECT_TRUE(options.ok()) << one.place << options.error().ToString();
    EXPECT_TRUE(expected.ok()) << one.place << expected.error().ToString();
    if (!options.ok() || !expected.ok()) continue;
    one.options = *options;
    one.expected = *expected;
    if (GetBool(one.options, "escapes")) one.input = Unescape(one.input);
    cases.push_back(std::move(one));
  }
  return cases;
}

OutputParserOptions MakeOptions(const Case& one, const Json& default_tools) {
  OutputParserOptions options;
  const Result<OutputFormat> format =
      OutputFormatFromName(GetString(one.options, "format", one.format));
  EXPECT_TRUE(format.ok()) << one.place;
  if (format.ok()) options.format = *format;
  options.thinking = GetBool(one.options, "thinking", false);
  options.force_nonempty_content = GetBool(one.options, "force_nonempty_content");
  options.tool_calls = GetBool(one.options, "tool_calls", true);
  const Json* tools = FindKey(one.options, "tools");
  options.tools =
      std::make_shared<ToolSchemas>(ToolSchemasFromJson(tools != nullptr ? *tools : default_tools));
  return options;
}

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
  const std::string folder = lode::testing::TestFile("text/parsers");
  const Result<Json> tools = ReadJsonFile(folder + "/tools.json");
  ASSERT_TRUE(tools.ok()) << tools.error().ToString();
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".txt") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  int count = 0;
  for (const auto& path : paths) {
    for (const Case& one : ReadCases(path)) {
      ++count;
      const OutputParserOptions options = MakeOptions(one, *tools);
      const std::string cause_name = GetString(one.options, "cause", "stop");
      const StopCause cause = cause_name == "length"      ? StopCause::kLength
                              : cause_name == "cancelled" ? StopCause::kCancelled
                                                          : StopCause::kStop;
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
  }
  EXPECT_GE(count, 110);  // the goldens were found
}

}  // namespace
}  // namespace lode::text

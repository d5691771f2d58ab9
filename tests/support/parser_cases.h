// The golden cases of tests/text/parsers (README.md there): what a model wrote, ----, options,
// ----, what must come out; several cases per file, separated by ====.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "tests/support/shared.h"
#include "text/parsers/output_parser.h"
#include "text/parsers/tool_schemas_json.h"

namespace lode::testing {

struct ParserCase {
  std::string place;
  std::string format;  // the folder's
  std::string input;
  Json options;
  Json expected;
  text::OutputParserOptions parsing = {};
  text::StopCause cause = text::StopCause::kStop;
};

// \n \r \t \\ \xHH, for what an editor would spoil.
inline std::string Unescape(std::string_view text) {
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
inline std::vector<std::string> SplitAtLines(const std::string& text,
                                             const std::string& separator) {
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

inline std::vector<ParserCase> ReadCases(const std::filesystem::path& path) {
  std::vector<ParserCase> cases;
  const Result<std::string> text = ReadFile(path.string());
  EXPECT_TRUE(text.ok());
  for (const std::string& block : SplitAtLines("====\n" + *text, "====")) {
    if (block.find_first_not_of('\n') == std::string::npos) continue;
    ParserCase one;
    const std::string name = path.filename().string();
    const std::string prefix = name.substr(0, name.find('_'));
    one.format = text::OutputFormatFromName(prefix).ok() ? prefix : "xml";
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

inline text::OutputParserOptions MakeOptions(const ParserCase& one, const Json& default_tools) {
  text::OutputParserOptions options;
  const Result<text::OutputFormat> format =
      text::OutputFormatFromName(GetString(one.options, "format", one.format));
  EXPECT_TRUE(format.ok()) << one.place;
  if (format.ok()) options.format = *format;
  options.thinking = GetBool(one.options, "thinking", false);
  options.force_nonempty_content = GetBool(one.options, "force_nonempty_content");
  options.tool_calls = GetBool(one.options, "tool_calls", true);
  const Json* tools = FindKey(one.options, "tools");
  options.tools = std::make_shared<text::ToolSchemas>(
      text::ToolSchemasFromJson(tools != nullptr ? *tools : default_tools));
  return options;
}

// All of them, with their options read.
inline std::vector<ParserCase> ReadParserCases() {
  const std::string folder = TestFile("text/parsers");
  const Result<Json> tools = ReadJsonFile(folder + "/tools.json");
  EXPECT_TRUE(tools.ok());
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".txt") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<ParserCase> all;
  for (const auto& path : paths) {
    for (ParserCase& one : ReadCases(path)) {
      one.parsing = MakeOptions(one, tools.ok() ? *tools : Json::array());
      const std::string cause = GetString(one.options, "cause", "stop");
      if (cause == "length") one.cause = text::StopCause::kLength;
      if (cause == "cancelled") one.cause = text::StopCause::kCancelled;
      all.push_back(std::move(one));
    }
  }
  return all;
}

}  // namespace lode::testing

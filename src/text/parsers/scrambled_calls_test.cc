// Answers put together at random from the pieces of all forms, and real calls damaged at random: a
// fuzzer of a second that runs with every test, and thousands of calls cut at every byte.
#include <gtest/gtest.h>

#include <random>

#include "base/json.h"
#include "base/text.h"
#include "base/utf8.h"
#include "text/parsers/argument_value.h"
#include "text/parsers/output_parser.h"
#include "text/parsers/tool_schemas_json.h"

namespace lode::text {
namespace {

constexpr OutputFormat kFormats[] = {OutputFormat::kXml, OutputFormat::kHermes,
                                     OutputFormat::kToolList, OutputFormat::kBareJson,
                                     OutputFormat::kHarmony};

OutputParserOptions Options(OutputFormat format) {
  OutputParserOptions options;
  options.format = format;
  options.thinking = false;
  options.tools = std::make_shared<ToolSchemas>(ToolSchemasFromJson(*ParseJson(R"([
    {"name":"f","parameters":{"properties":{"s":{"type":"string"},"o":{"type":"object"}}}},
    {"name":"g","parameters":{"properties":{"t":{"type":"string"}}}}])")));
  return options;
}

std::string Read(const std::vector<std::string_view>& pieces, const OutputParserOptions& options,
                 ParsedOutput* output) {
  OutputParser parser(options);
  *output = {};
  for (const std::string_view piece : pieces) output->Add(parser.Push(piece));
  output->Add(parser.Finish(StopCause::kStop));
  std::string all = output->reasoning + "|" + output->content;
  for (const ParsedCall& call : output->calls) {
    all += "|" + call.id + "|" + call.name + "|" + call.arguments + (call.complete ? "." : "?");
  }
  EXPECT_EQ(parser.pending_bytes(), 0u) << OutputFormatName(options.format) << " " << all;
  return all;
}

std::vector<std::string_view> Cut(std::string_view text, std::mt19937* random, size_t longest) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    pieces.push_back(text.substr(0, 1 + (*random)() % longest));
    text.remove_prefix(pieces.back().size());
  }
  return pieces;
}

// One call as a model of this form writes it.
std::string Write(OutputFormat format, const std::string& name, const Json& arguments) {
  const std::string json = DumpJson(arguments);
  const std::string quoted = QuoteJson(name);
  std::string text;
  switch (format) {
    case OutputFormat::kXml:
      text = "<tool_call>\n<function=" + name + ">\n";
      for (const auto& [key, value] : arguments.items()) {
        text += "<parameter=" + key + ">\n" +
                (value.is_string() ? value.get<std::string>() : DumpJson(value)) +
                "\n</parameter>\n";
      }
      return text + "</function>\n</tool_call>\n";
    case OutputFormat::kHermes:
      return "<tool_call>\n{\"name\": " + quoted + ", \"arguments\": " + json + "}\n</tool_call>\n";
    case OutputFormat::kToolList:
      return "<TOOLCALL>[{\"name\": " + quoted + ", \"arguments\": " + json + "}]</TOOLCALL>\n";
    case OutputFormat::kBareJson:
      return "{\"name\": " + quoted + ", \"parameters\": " + json + "}\n";
    case OutputFormat::kHarmony:
      return "<|start|>assistant<|channel|>commentary to=functions." + name +
             " <|constrain|>json<|message|>" + json + "<|call|>";
  }
  return text;
}

TEST(ScrambledCalls, WrittenWellComeBackExactlyHoweverTheyAreCut) {
  const std::vector<std::string> words = {"a",  "\"", "\\",  "\n",  "é", "😀",    "{",   "}",
                                          "[",  ",",  ":",   "\t",  " ", "</b>",  "null", "42",
                                          "\\u", "'", "\x01", "end", "<", "\\n\"", "//"};
  std::mt19937 random(7);
  const auto string = [&] {
    std::string text;
    for (size_t i = random() % 12; i > 0; --i) text += words[random() % words.size()];
    return text;
  };
  for (int round = 0; round < 2500; ++round) {
    const OutputFormat format = kFormats[round % 5];
    Json arguments = {{"s", "x" + string() + "y"},
                      {"o", {{"k", string()}, {"n", static_cast<int>(random() % 1000)}}}};
    const std::string text = Write(format, "f", arguments) + Write(format, "g", Json::object());
    const OutputParserOptions options = Options(format);
    ParsedOutput output;
    const std::string whole = Read({text}, options, &output);
    ASSERT_EQ(output.calls.size(), 2u) << text;
    EXPECT_EQ(DumpJson(*ParseJson(output.calls[0].arguments)), DumpJson(arguments)) << text;
    EXPECT_EQ(output.calls[1].arguments, "{}");
    EXPECT_TRUE(output.calls[0].complete && output.calls[1].complete) << text;
    EXPECT_EQ(output.content.find_first_not_of('\n'), std::string::npos) << text;
    const size_t step = 1 + random() % 5;
    for (size_t cut = random() % step; cut < text.size(); cut += step) {
      const std::string_view view = text;
      ASSERT_EQ(Read({view.substr(0, cut), view.substr(cut)}, options, &output), whole) << text;
    }
  }
}

TEST(ScrambledCalls, OfAnyKindReadTheSameHoweverTheyAreCut) {
  const std::vector<std::string> scraps = {
      "<tool_call>", "</tool_call>", "<TOOLCALL>", "</TOOLCALL>", "<function=f>", "</function>",
      "<parameter=s>", "</parameter>", "<|python_tag|>", "<|start|>", "assistant", "<|channel|>",
      "analysis", "final", "commentary to=functions.f", " <|constrain|>json", "<|message|>",
      "<|end|>", "<|call|>", "{\"name\": \"f\", \"arguments\": {", "\"name\"", "\"f\"",
      "\"arguments\"", "\"parameters\"", "\"function\"", ": ", ", ", "{", "}", "[", "]", "\"", "'",
      "\\", "\\u12", "\\ud83d", "\\ude00", "\n", " ", "é", "😀", "12", "1e999", "true", "nul", ";",
      "g.call(t=\"x\"", ")", "text", "<", "</", "<think>", "</think>", "{\"s\": \"v\"}"};
  std::mt19937 random(11);
  for (int round = 0; round < 20'000; ++round) {
    OutputParserOptions options = Options(kFormats[random() % 5]);
    options.thinking = random() % 3 == 0;
    options.tool_calls = random() % 8 != 0;
    std::string text;
    if (random() % 2 == 0) {
      text = Write(options.format, "f", {{"s", "a b"}, {"o", {{"k", "é"}}}});
      for (size_t i = random() % 4; i > 0; --i) {  // damage
        const size_t at = random() % text.size();
        text.replace(at, random() % 4, scraps[random() % scraps.size()]);
      }
    }
    for (size_t i = random() % 12; i > 0; --i) text += scraps[random() % scraps.size()];
    ParsedOutput output;
    const std::string whole = Read({text}, options, &output);
    for (const ParsedCall& call : output.calls) {
      const Result<Json> arguments = ParseJson(call.arguments);
      ASSERT_TRUE(arguments.ok() && arguments->is_object()) << text << "\n" << call.arguments;
    }
    ASSERT_TRUE(IsValidUtf8(whole)) << text;
    for (const size_t longest : {1, 3, 20}) {
      ASSERT_EQ(Read(Cut(text, &random, longest), options, &output), whole)
          << OutputFormatName(options.format) << " " << text;
    }
  }
}

}  // namespace
}  // namespace lode::text

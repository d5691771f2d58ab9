#include "text/parsers/output_parser.h"

#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <set>

#include "base/json.h"
#include "text/parsers/tool_calls.h"
#include "text/parsers/tool_schemas_json.h"

namespace lode::text {
namespace {

OutputParserOptions Options(bool thinking = false) {
  OutputParserOptions options;
  options.thinking = thinking;
  options.tools = std::make_shared<ToolSchemas>(ToolSchemasFromJson(*ParseJson(R"([
    {"name":"write","parameters":{"properties":{"path":{"type":"string"},"content":{"type":"string"},
     "lines":{"type":"array"}}}}])")));
  return options;
}

constexpr char kHead[] = "<tool_call>\n<function=write>\n<parameter=content>\n";
constexpr char kTail[] = "\n</parameter>\n</function>\n</tool_call>\n";

TEST(OutputParser, NamesAndIdsEachCallExactlyOnce) {
  OutputParserOptions options = Options();
  options.id_seed = 7;
  OutputParser parser(options);
  std::string text;
  for (int i = 0; i < 5; ++i) text += std::string(kHead) + "x" + kTail;
  std::vector<OutputEvent> events;
  for (const char c : text) {
    for (OutputEvent& event : parser.Push(std::string_view(&c, 1))) events.push_back(event);
  }
  for (OutputEvent& event : parser.Finish(StopCause::kStop)) events.push_back(event);
  std::set<std::string> ids;
  int open = -1;
  int begun = 0;
  for (const OutputEvent& event : events) {
    if (event.kind == OutputEvent::Kind::kCallBegin) {
      EXPECT_EQ(open, -1);
      EXPECT_EQ(event.index, begun++);
      open = event.index;
      EXPECT_TRUE(ids.insert(event.id).second);
      EXPECT_EQ(event.name, "write");
    } else {
      EXPECT_TRUE(event.id.empty() && event.name.empty());
      EXPECT_EQ(event.index, open);
      if (event.kind == OutputEvent::Kind::kCallEnd) open = -1;
    }
  }
  EXPECT_EQ(begun, 5);
  EXPECT_EQ(open, -1);
  EXPECT_EQ(parser.finish_reason(), FinishReason::kToolCalls);

  options.id_seed = 8;
  EXPECT_FALSE(ids.contains(ParseOutput(text, options, StopCause::kStop).calls[0].id));
}

TEST(OutputParser, ReleasesTextThatOnlyLooksLikeATagAsSoonAsItCannotBeOne) {
  OutputParser parser(Options());
  ParsedOutput seen;
  const auto push = [&](std::string_view text) {
    seen.Add(parser.Push(text));
    return seen.content;
  };
  EXPECT_EQ(push("a <"), "a");
  EXPECT_EQ(push(" "), "a <");
  EXPECT_EQ(push("b <tool_"), "a < b");
  EXPECT_EQ(push("x"), "a < b <tool_x");
  EXPECT_EQ(push(" <tool_call> "), "a < b <tool_x");
  EXPECT_EQ(push("is"), "a < b <tool_x <tool_call> is");
  EXPECT_EQ(push(" <function"), "a < b <tool_x <tool_call> is");
  EXPECT_EQ(push("s"), "a < b <tool_x <tool_call> is <functions");
}

TEST(OutputParser, StreamsReasoningAndStringArgumentsAsTheyCome) {
  OutputParser parser(Options(true));
  ParsedOutput seen;
  seen.Add(parser.Push("Let me"));
  EXPECT_EQ(seen.reasoning, "Let me");
  seen.Add(parser.Push(" see.\n</think>\n"));
  EXPECT_EQ(seen.reasoning, "Let me see.");
  seen.Add(parser.Push(std::string(kHead) + "int a"));
  ASSERT_EQ(seen.calls.size(), 1u);
  EXPECT_EQ(seen.calls[0].arguments, "{\"content\":\"int a");
  seen.Add(parser.Push(" = \"1\";</p"));
  EXPECT_EQ(seen.calls[0].arguments, "{\"content\":\"int a = \\\"1\\\";");
  seen.Add(parser.Push(">"));
  EXPECT_EQ(seen.calls[0].arguments, "{\"content\":\"int a = \\\"1\\\";</p>");
  seen.Add(parser.Push("\n</parameter>\n</function>\n"));
  EXPECT_EQ(seen.calls[0].arguments, "{\"content\":\"int a = \\\"1\\\";</p>");
  seen.Add(parser.Push("</tool_call>"));
  EXPECT_EQ(seen.calls[0].arguments, "{\"content\":\"int a = \\\"1\\\";</p>\"}");
}

// Pushes text in pieces and returns the most that was ever withheld.
size_t PendingMax(const std::string& text, size_t piece, const OutputParserOptions& options,
                  ParsedOutput* output) {
  OutputParser parser(options);
  size_t most = 0;
  for (size_t i = 0; i < text.size(); i += piece) {
    output->Add(parser.Push(std::string_view(text).substr(i, piece)));
    most = std::max(most, parser.pending_bytes());
  }
  output->Add(parser.Finish(StopCause::kStop));
  return most;
}

TEST(OutputParser, StreamsA200KilobyteStringInBoundedMemory) {
  std::string value;
  while (value.size() < 200'000)
    value += "  if (a < b) { puts(\"</parameter> \\n\"); }\n<tool_call>\n";
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{4096}}) {
    ParsedOutput output;
    const size_t most = PendingMax(kHead + value + kTail, piece, Options(), &output);
    EXPECT_LT(most, 1024u);
    ASSERT_EQ(output.calls.size(), 1u);
    EXPECT_EQ((*ParseJson(output.calls[0].arguments))["content"], value);
    EXPECT_TRUE(output.calls[0].complete);
  }
}

TEST(OutputParser, WithholdsLittleWhateverTheText) {
  const std::string spaces(100'000, ' ');
  const std::string names(100'000, 'n');
  for (const std::string& text :
       {spaces, "<tool_call>" + spaces, "<tool_call><function=" + names, "<function=" + names + ">",
        kHead + spaces, kHead + ("</parameter>" + spaces),
        kHead + ("<tool_call><function=" + names), kHead + ("</parameter><parameter=" + names),
        "</think>" + spaces, spaces + "<think>"}) {
    for (const bool thinking : {false, true}) {
      ParsedOutput output;
      EXPECT_LT(PendingMax(text, 1, Options(thinking), &output), 1024u) << text.substr(0, 60);
    }
  }
}

// Of this thread's processor time: the machine may be busy with other things.
double Seconds(const std::string& text, size_t piece) {
  const auto now = [] {
    timespec time;
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double start = now();
  ParsedOutput output;
  PendingMax(text, piece, Options(), &output);
  return now() - start;
}

TEST(OutputParser, TakesTimeInProportionToTheText) {
  // Eight times the text may take eight times the time; a quadratic reader would need 64 times, and
  // half of that is the line between the two.
  const std::vector<std::string> units = {"plain words\n",
                                          "</parameter>\n",
                                          "</parameter>" + std::string(60, ' '),
                                          "<tool_call>\n<function=",
                                          "</parameter>\n</function>\n",
                                          "\n\n\n\n",
                                          "<<<<<<<<"};
  for (const std::string& unit : units) {
    std::string small = kHead;
    while (small.size() < 100'000) small += unit;
    std::string large = kHead;
    while (large.size() < 800'000) large += unit;
    for (const size_t piece : {size_t{1}, size_t{100'000'000}}) {
      double fast = 1e9;
      double slow = 1e9;
      for (int round = 0; round < 3; ++round) {
        fast = std::min(fast, Seconds(small, piece));
        slow = std::min(slow, Seconds(large, piece));
      }
      EXPECT_LT(slow, 32 * std::max(fast, 0.001)) << unit << " in pieces of " << piece;
    }
  }
}

TEST(OutputParser, GivesOutATypedValueThatIsTooLongAsAString) {
  const std::string value = "[" + std::string(kTypedValueBytesMax + 100, ' ') + "]";
  ParsedOutput output;
  PendingMax("<tool_call>\n<function=write>\n<parameter=lines>\n" + value + kTail, 65536, Options(),
             &output);
  ASSERT_EQ(output.calls.size(), 1u);
  EXPECT_EQ((*ParseJson(output.calls[0].arguments))["lines"], value);
}

TEST(OutputParser, RepairsInvalidUtf8TheSameWayHoweverItIsCut) {
  const std::string text = "a\xF0\x9F\x98\x80 \xC3( \xFF\xED\xA0\x80 \xE2\x82";
  ParsedOutput whole = ParseOutput(text, Options(), StopCause::kStop);
  ParsedOutput cut;
  PendingMax(text, 1, Options(), &cut);
  EXPECT_EQ(whole.content, cut.content);
  EXPECT_EQ(whole.content.substr(0, 5), "a😀");
}

TEST(OutputParser, IsReadyForAnEmptyAnswer) {
  for (const bool thinking : {false, true}) {
    const ParsedOutput output = ParseOutput("", Options(thinking), StopCause::kStop);
    EXPECT_TRUE(output.content.empty() && output.reasoning.empty() && output.calls.empty());
  }
}

}  // namespace
}  // namespace lode::text

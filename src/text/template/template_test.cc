// The template engine against what jinja2 writes: tests/text/template/*.txt (made by
// tools/fixtures/make_template_fixtures.py) and the published templates of ../shared; then limits,
// the origin of bytes, requests.
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "tests/support/shared.h"
#include "text/template/chat_template.h"
#include "text/template/request.h"

namespace lode::text {
namespace {

RenderOptions FixedTime() {
  RenderOptions options;
  options.now = CivilTime{2025, 6, 28, 12, 0, 0, 0};
  return options;
}

Result<std::string> RenderText(const std::string& source, const Json& variables = Json::object(),
                               const RenderOptions& options = FixedTime()) {
  LODE_ASSIGN(const std::unique_ptr<ChatTemplate> parsed, ChatTemplate::Parse(source));
  return parsed->Render(variables, options);
}

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string((std::istreambuf_iterator<char>(file)), {});
}

struct Case {
  std::string name;
  std::string source;
  std::string variables;
  std::string expected;
};

// "==== name\n" template "\n----\n" variables "\n----\n" expected "\n", again and again.
std::vector<Case> ReadCases(const std::string& path) {
  std::vector<Case> cases;
  std::istringstream file(ReadAll(path));
  std::string line;
  int part = 0;
  std::string* into = nullptr;
  bool first = true;
  while (std::getline(file, line)) {
    if (line.rfind("==== ", 0) == 0) {
      cases.emplace_back();
      cases.back().name = line.substr(5);
      part = 0;
      into = &cases.back().source;
      first = true;
    } else if (line == "----" && !cases.empty() && part < 2) {
      into = ++part == 1 ? &cases.back().variables : &cases.back().expected;
      first = true;
    } else if (into != nullptr) {
      if (!first) *into += '\n';
      first = false;
      *into += line;
    }
  }
  return cases;
}

TEST(Template, RendersEveryFixtureAsJinjaDoes) {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(testing::TestFile("text/template"))) {
    if (entry.path().extension() != ".txt") continue;
    for (const Case& c : ReadCases(entry.path().string())) {
      SCOPED_TRACE(entry.path().filename().string() + ": " + c.name);
      ++count;
      const Result<Json> variables = ParseJson(c.variables);
      ASSERT_TRUE(variables.ok()) << variables.error().message();
      const Result<std::string> text = RenderText(c.source, *variables);
      if (c.expected.rfind("error: ", 0) == 0 || c.expected == "error:") {
        ASSERT_FALSE(text.ok()) << *text;
        const std::string part = c.expected.size() > 7 ? c.expected.substr(7) : "";
        EXPECT_NE(text.error().message().find(part), std::string::npos) << text.error().message();
        continue;
      }
      ASSERT_TRUE(text.ok()) << text.error().message();
      EXPECT_EQ(*text, c.expected);
    }
  }
  EXPECT_GE(count, 400);
}

TEST(Template, RendersPublishedTemplatesAsHuggingFaceDoes) {
  LODE_NEEDS_SHARED(path, "templates/expected.json");
  const Result<Json> expected = ReadJsonFile(path);
  ASSERT_TRUE(expected.ok());
  const std::string folder = std::filesystem::path(path).parent_path().string();
  int count = 0;
  for (const auto& [file, cases] : (*expected)["expected"].items()) {
    const auto parsed = ChatTemplate::Parse(ReadAll(folder + "/" + file));
    ASSERT_TRUE(parsed.ok()) << parsed.error().message();
    for (const auto& [name, outcome] : cases.items()) {
      SCOPED_TRACE(file + ": " + name);
      RequestOptions options;
      options.bos_token = (*expected)["settings"]["bos_token"].get<std::string>();
      options.eos_token = (*expected)["settings"]["eos_token"].get<std::string>();
      const auto variables = MakeTemplateVariables((*expected)["cases"][name], options);
      ASSERT_TRUE(variables.ok());
      const auto text = (*parsed)->Render(*variables, FixedTime());
      ++count;
      if (outcome.contains("ok")) {
        ASSERT_TRUE(text.ok()) << text.error().message();
        EXPECT_EQ(*text, outcome["ok"].get<std::string>());
      } else {
        EXPECT_FALSE(text.ok());
      }
    }
  }
  EXPECT_GT(count, 0);
}

TEST(Template, NamesTheLineOfASyntaxError) {
  const auto parsed = ChatTemplate::Parse("a\nb\n{% if x %}\n{{ 1 + }}\n{% endif %}");
  ASSERT_FALSE(parsed.ok());
  EXPECT_NE(parsed.error().message().find("line 4"), std::string::npos);
  EXPECT_EQ(parsed.error().code(), Code::kBadInput);
}

TEST(Template, NamesTheLineOfARuntimeError) {
  const auto text = RenderText("a\n{% macro m() %}\n{{ none + 1 }}{% endmacro %}\n{{ m() }}");
  ASSERT_FALSE(text.ok());
  EXPECT_NE(text.error().message().find("line 3"), std::string::npos) << text.error().message();
}

// Each of these would run for ever, or eat the memory, in an engine without limits.
TEST(Template, EndsWithinItsLimits) {
  std::string deep_parens(5000, '(');
  std::string deep_lists = "{{ " + std::string(3000, '[') + std::string(3000, ']') + " }}";
  std::string nots = "{{ ";
  for (int i = 0; i < 5000; ++i) nots += "not ";
  std::string sum = "{{ 1";
  for (int i = 0; i < 5000; ++i) sum += " + 1";
  std::string ifs;
  for (int i = 0; i < 3000; ++i) ifs += "{% if x %}";
  const std::string hostile[] = {
      "{% for i in range(10**12) %}{% endfor %}",
      "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
      "{{ 'x' * 10**12 }}",
      "{{ [1] * 10**12 }}",
      "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}"
      "{% endfor %}",
      "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}"
      "{% endfor %}",
      "{% set ns = namespace(l=[]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}"
      "{% endfor %}{{ ns.l }}",
      "{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}{% endfor %}",
      "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}",
      "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
      "{{ 'x' | center(10**15) }}",
      "{{ '%*d' % (10**15, 1) }}",
      "{{ '{:999999999999}'.format(1) }}",
      "{{ [1] | tojson(indent=10**15) }}",
      "{{ 10 ** 10 ** 10 }}",
      "{{ " + deep_parens,
      deep_lists,
      nots,
      sum + " }}",
      ifs,
      "{% for i in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
      "{{ (['x' * 999999] * 9999) | join }}",
      "{{ ('a' * 99999 ~ 'b') in ('a' * 9999999) }}{% for i in range(99999) %}"
      "{{ ('a' * 99999 ~ 'b') in ('a' * 9999999) }}{% endfor %}",
  };
  for (const auto& source : hostile) {
    const std::clock_t start = std::clock();  // of this process: a busy machine is no failure
    const auto text = RenderText(source);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    EXPECT_FALSE(text.ok()) << source.substr(0, 80);
    EXPECT_LT(seconds, 30) << source.substr(0, 80);
  }
}

TEST(Template, CutsGarbageShort) {
  for (const char* source : {"{{", "{%", "{#", "{{ x", "{% if", "{% for x", "{{ 'a", "{% raw %}",
                             "{{ x | }}", "{% endfor %}", "{{ x is }}", "{% set %}", "{{ }}",
                             "{{ a.}}", "{{ [1, }}", "\xff\xfe"}) {
    EXPECT_FALSE(ChatTemplate::Parse(source).ok()) << source;
  }
}

std::string InputParts(const RenderedPrompt& prompt) {
  std::string parts;
  for (const auto& span : prompt.input_spans) {
    parts += "[" + prompt.text.substr(span.begin, span.end - span.begin) + "]";
  }
  return parts;
}

std::string Origin(const std::string& source, const std::string& variables) {
  const auto parsed = ChatTemplate::Parse(source);
  if (!parsed.ok()) return parsed.error().message();
  const auto prompt = (*parsed)->RenderWithOrigin(*ParseJson(variables), FixedTime());
  return prompt.ok() ? InputParts(*prompt) : prompt.error().message();
}

TEST(Template, KnowsWhichBytesCameFromTheRequest) {
  const std::string v = R"({"x": "<|im_end|> Tail", "n": 7, "l": ["a", "b"], "bos_token": "<s>"})";
  EXPECT_EQ(Origin("<|im_start|>{{ x }}<|im_end|>", v), "[<|im_end|> Tail]");
  EXPECT_EQ(Origin("{{ '<' + x + '>' }}", v), "[<|im_end|> Tail]");
  EXPECT_EQ(Origin("{{ ('  ' ~ x ~ '  ') | trim }}", v), "[<|im_end|> Tail]");
  EXPECT_EQ(Origin("{{ x.split('|')[1] ~ '!' }}", v), "[im_end]");
  EXPECT_EQ(Origin("{{ x | upper }}{{ x[:3] }}{{ x[::-1][:2] }}", v), "[<|IM_END|> TAIL<|ili]");
  EXPECT_EQ(Origin("{{ x | replace('im', '-') }}", v), "[<|][_end|> Tail]");
  EXPECT_EQ(Origin("{{ l | join(', ') }} {{ l }} {{ l | tojson }}", v), "[a][b][a][b][a][b]");
  EXPECT_EQ(Origin("{{ n }} {{ n + 1 }} {{ 'k%d' % n }}", v), "[7][8][7]");
  EXPECT_EQ(Origin("{{ bos_token }}{% set y %}({{ x }}){% endset %}{{ y }}", v),
            "[<|im_end|> Tail]");
  EXPECT_EQ(Origin("{% macro m(t) %}<{{ t }}>{% endmacro %}{{ m(x) | lower }}", v),
            "[<|im_end|> tail]");
  EXPECT_EQ(Origin("{{ '%s|%5s' % (l[0], l[1]) }}|{{ '{}-{}'.format(l[0], 'z') }}", v),
            "[a][b][a]");
  EXPECT_EQ(Origin("{{ x | e }}", v), "[&lt;|im_end|&gt; Tail]");
}

TEST(Template, ListsWhatGenerationBlocksEnclose) {
  const auto parsed = ChatTemplate::Parse("a{% generation %}bc{% endgeneration %}d");
  ASSERT_TRUE(parsed.ok());
  const auto prompt = (*parsed)->RenderWithOrigin(Json::object());
  ASSERT_TRUE(prompt.ok());
  EXPECT_EQ(prompt->text, "abcd");
  EXPECT_EQ(prompt->generated_spans, (std::vector<ByteSpan>{{1, 3}}));
}

TEST(Template, ListsTheVariablesItReads) {
  const auto parsed = ChatTemplate::Parse(
      "{% set a = b %}{% for m in messages %}{{ m.x }}{{ a }}{{ loop.index }}{% endfor %}"
      "{% macro f(p, q=r) %}{{ p }}{{ range(s) }}{% endmacro %}"
      "{% if c %}{% set d = 1 %}{% endif %}{{ d }}{% set e = 1 %}{{ e }}");
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ((*parsed)->ReferencedVariables(),
            (std::vector<std::string>{"b", "c", "d", "messages", "r", "s"}));
  const auto unused = UnusedVariables(
      **parsed, *ParseJson(R"({"messages": [], "tools": null, "b": 1, "enable_thinkin": true})"));
  EXPECT_EQ(unused, std::vector<std::string>{"enable_thinkin"});
}

TEST(Request, ParsesToolCallArgumentsAndFillsDefaults) {
  const auto variables = MakeTemplateVariables(*ParseJson(R"({"messages": [
      {"role": "assistant", "tool_calls": [
        {"function": {"name": "f", "arguments": "{\"b\": 1, \"a\": [2]}"}},
        {"function": {"name": "g", "arguments": "{broken"}}]}],
      "chat_template_kwargs": {"enable_thinking": false}})"));
  ASSERT_TRUE(variables.ok());
  const Json& calls = (*variables)["messages"][0]["tool_calls"];
  EXPECT_EQ(DumpJson(calls[0]["function"]["arguments"]), R"({"b":1,"a":[2]})");
  EXPECT_EQ(calls[1]["function"]["arguments"], "{broken");
  EXPECT_TRUE((*variables)["tools"].is_null());
  EXPECT_FALSE((*variables)["add_generation_prompt"].get<bool>());
  EXPECT_FALSE((*variables)["enable_thinking"].get<bool>());
}

TEST(Request, RefusesTheWrongShape) {
  for (const char* text : {"[]", "{}", R"({"messages": 1})", R"({"messages": ["a"]})",
                           R"({"messages": [], "tools": "x"})"}) {
    EXPECT_FALSE(MakeTemplateVariables(*ParseJson(text)).ok()) << text;
  }
}

TEST(CivilTime, ReadsAndWritesTimes) {
  const auto time = ParseCivilTime("2024-02-29T23:05:09.25Z");
  ASSERT_TRUE(time.ok());
  EXPECT_EQ(FormatCivilTime(*time, "%a %d %b %Y %H:%M:%S.%f %j%z"),
            "Thu 29 Feb 2024 23:05:09.250000 060");
  for (const char* bad : {"", "2025", "2025-02-29", "2025-13-01", "2025-01-01T25:00", "now"}) {
    EXPECT_FALSE(ParseCivilTime(bad).ok()) << bad;
  }
}

TEST(Template, RendersFromManyThreadsAtOnce) {
  const auto parsed = ChatTemplate::Parse(
      "{% macro m(x) %}<{{ x }}>{% endmacro %}{% for i in range(50) %}{{ m(i) }}{% endfor %}");
  ASSERT_TRUE(parsed.ok());
  const auto alone = (*parsed)->Render(Json::object());
  ASSERT_TRUE(alone.ok());
  std::vector<std::thread> threads;
  std::vector<std::string> texts(4);
  for (auto& text : texts) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20; ++i) text = *(*parsed)->Render(Json::object());
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& text : texts) EXPECT_EQ(text, *alone);
}

TEST(Template, RendersALongChatFast) {
  const auto parsed = ChatTemplate::Parse(
      "{% for m in messages %}{% if m.role == 'user' or m['role'] == 'assistant' %}"
      "{{- '<|im_start|>' ~ m.role ~ '\\n' ~ (m.content | trim) ~ '<|im_end|>\\n' }}"
      "{% elif m.tool_calls is defined and m.tool_calls | length > 0 %}{{ m.tool_calls | tojson }}"
      "{% endif %}{% endfor %}");
  ASSERT_TRUE(parsed.ok());
  Json variables;
  for (int i = 0; i < 200; ++i) {
    variables["messages"].push_back({{"role", i % 2 ? "assistant" : "user"},
                                     {"content", std::string(500, 'x')}});
  }
  double best = 1;
  for (int i = 0; i < 10; ++i) {
    const auto start = std::chrono::steady_clock::now();
    ASSERT_TRUE((*parsed)->Render(variables).ok());
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::min(best, seconds.count());
  }
  RecordProperty("milliseconds", std::to_string(best * 1e3));
  EXPECT_LT(best, 0.1);  // well under 0.01 on an idle machine; sanitizers and load are slower
}

}  // namespace
}  // namespace lode::text

#include "tune/data/encode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/text.h"
#include "tests/support/shared.h"
#include "tests/support/training_text.h"
#include "text/template/request.h"
#include "tune/data/dataset.h"
#include "tune/data/script.h"

namespace lode::tune {
namespace {

using testing::DemoTokenizer;
using testing::MakeEncoder;
using testing::MarkedAll;
using testing::RecordFrom;
using testing::SourceFile;
using testing::Template;

// Opens the trace in the prompt, drops earlier traces when a new question comes, keeps them within
// a loop of tools: all that makes masks hard.
constexpr char kRewriting[] = R"({%- set ns = namespace(users=0, seen=0) -%}
{%- for m in messages if m.role == 'user' -%}{%- set ns.users = ns.users + 1 -%}{%- endfor -%}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{%- set ns.seen = ns.seen + 1 -%}{%- endif -%}
<|im_start|>{{ m.role }}{{ '\n' }}
{%- if m.role == 'assistant' -%}
  {%- if m.reasoning_content and ns.seen == ns.users -%}
    {{- '<think>\n' ~ m.reasoning_content ~ '\n</think>\n' -}}
  {%- else -%}
    {{- '<think></think>' -}}
  {%- endif -%}
  {{- m.content or '' -}}
  {%- for call in m.tool_calls or [] -%}
    {{- '<tool_call>' ~ call.function.name ~ call.function.arguments | tojson ~ '</tool_call>' -}}
  {%- endfor -%}
{%- else -%}
  {{- m.content -}}
{%- endif -%}
<|im_end|>{{ '\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {%- set off = enable_thinking is defined and not enable_thinking -%}
  {{- '<|im_start|>assistant\n' ~ ('<think></think>' if off else '<think>\n') -}}
{%- endif -%})";

constexpr char kLongChat[] = R"({"messages": [
  {"role": "system", "content": "Be brief."},
  {"role": "user", "content": "What is 2+2?"},
  {"role": "assistant", "reasoning_content": "A tool knows.", "content": "", "tool_calls": [
    {"type": "function", "id": "c1",
     "function": {"name": "add", "arguments": "{\"a\": 2, \"b\": 2}"}}]},
  {"role": "tool", "tool_call_id": "c1", "content": "4"},
  {"role": "assistant", "reasoning_content": "It is four.", "content": "Four."},
  {"role": "user", "content": "And 3+3?"},
  {"role": "assistant", "content": "Six."},
  {"role": "user", "content": "Sure?"},
  {"role": "assistant", "reasoning_content": "Yes.", "content": "Yes, six."}],
  "tools": [{"type": "function", "function": {"name": "add", "description": "adds",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"},
    "b": {"type": "integer"}}, "required": ["a", "b"]}}}]})";

TEST(Encode, EachAnswerIsTaughtOnceBehindWhatStandsThereWhenAnswering) {
  const auto chat_template = Template(kRewriting);
  const Encoder encoder = MakeEncoder(chat_template.get());
  const std::vector<std::string> all = MarkedAll(encoder, RecordFrom(kLongChat));
  const std::string head =
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat is 2+2?<|im_end|>\n";
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0],
            head +
                "<|im_start|>assistant\n<think>\n[A tool knows.\n</think>\n<tool_call>add"
                "{\"a\": 2, \"b\": 2}</tool_call><|im_end|>]\n<|im_start|>tool\n4<|im_end|>\n"
                "<|im_start|>assistant\n<think>\n[It is four.\n</think>\nFour.<|im_end|>]");
  // The traces before the last question are gone; the answer without one stands as it was written.
  EXPECT_EQ(all[1], head +
                        "<|im_start|>assistant\n<think></think><tool_call>add{\"a\": 2, \"b\": 2}"
                        "</tool_call><|im_end|>\n<|im_start|>tool\n4<|im_end|>\n"
                        "<|im_start|>assistant\n<think></think>Four.<|im_end|>\n"
                        "<|im_start|>user\nAnd 3+3?<|im_end|>\n"
                        "<|im_start|>assistant\n<think></think>[Six.<|im_end|>]\n"
                        "<|im_start|>user\nSure?<|im_end|>\n"
                        "<|im_start|>assistant\n<think>\n[Yes.\n</think>\nYes, six.<|im_end|>]");
}

// Drops the trace in front of a call once the final words are there, as some templates do.
constexpr char kForgetting[] = R"({%- for m in messages -%}
{%- if m.role == 'assistant' -%}
  {%- set ns = namespace(final=false) -%}
  {%- for later in messages[loop.index:] if later.role == 'assistant' and not later.tool_calls -%}
    {%- set ns.final = true -%}
  {%- endfor -%}
  {{- '<|im_start|>assistant' -}}
  {%- if m.thinking and not ns.final -%}
    {{- '<think>' ~ m.thinking ~ '</think>' -}}
  {%- endif -%}
  {{- '\n' ~ (m.content or '') -}}
  {%- for call in m.tool_calls or [] -%}
    {{- '<tool_call>' ~ call.function.name ~ '</tool_call>' -}}
  {%- endfor -%}
{%- else -%}
  {{- '<|im_start|>' ~ m.role ~ '\n' ~ m.content -}}
{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant' -}}{%- endif -%})";

TEST(Encode, AnAnswerIsTaughtBehindItsPromptEvenIfItChangesWhatStandsBefore) {
  const auto chat_template = Template(kForgetting);
  const auto all = MarkedAll(MakeEncoder(chat_template.get()), RecordFrom(R"({"messages": [
      {"role": "user", "content": "2+2?"},
      {"role": "assistant", "thinking": "A tool.", "tool_calls": [{"function": {"name": "add"}}]},
      {"role": "tool", "content": "4"},
      {"role": "assistant", "thinking": "Easy.", "content": "Four."}]})"));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0],
            "<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant[<think>A tool.</think>\n"
            "<tool_call>add</tool_call><|im_end|>]\n<|im_start|>tool\n4<|im_end|>\n"
            "<|im_start|>assistant[<think>Easy.</think>\nFour.<|im_end|>]");
}

TEST(Encode, OptionsChooseWhatIsTaught) {
  const auto chat_template = Template(kRewriting);
  const DataRecord record = RecordFrom(kLongChat);
  const auto last =
      MarkedAll(MakeEncoder(chat_template.get(), {.supervise = Supervise::kLastAssistant}), record);
  ASSERT_EQ(last.size(), 1u);
  EXPECT_EQ(last[0].substr(last[0].find('[')), "[Yes.\n</think>\nYes, six.<|im_end|>]");
  const auto whole =
      MarkedAll(MakeEncoder(chat_template.get(), {.supervise = Supervise::kAll}), record);
  ASSERT_EQ(whole.size(), 1u);
  EXPECT_EQ(whole[0].find('['), std::string("<|im_start|>").size());
  EXPECT_TRUE(whole[0].ends_with("<|im_end|>\n]"));
  const auto masked = MarkedAll(MakeEncoder(chat_template.get(), {.mask_thinking = true}), record);
  ASSERT_EQ(masked.size(), 2u);
  EXPECT_NE(masked[0].find("<think>\nIt is four.\n[</think>\nFour.<|im_end|>]"), std::string::npos)
      << masked[0];
}

TEST(Encode, TurnsOfWeightZeroAreReadAndNotTaught) {
  const auto chat_template = Template(kRewriting);
  const auto all = MarkedAll(MakeEncoder(chat_template.get()), RecordFrom(R"({"messages": [
      {"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0},
      {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"},
      {"role": "user", "content": "e"}]})"));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0],
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think></think>b<|im_end|>\n"
            "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n<think></think>[d<|im_end|>]");
}

TEST(Encode, ATemplateThatWritesAnswersBehindAnotherPromptIsRefusedInOneSentence) {
  const auto chat_template = Template(
      "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>\n{% endfor %}"
      "{% if add_generation_prompt %}<|im_start|>model{% endif %}");
  const Encoder encoder = MakeEncoder(chat_template.get());
  Remarks remarks;
  const auto examples = encoder.Encode(RecordFrom(R"({"messages": [{"role": "user", "content": "a"},
                                  {"role": "assistant", "content": "b"}]})"),
                                       &remarks);
  ASSERT_FALSE(examples.ok());
  const std::string why = examples.error().ToString();
  EXPECT_NE(why.find("messages[1]"), std::string::npos) << why;
  EXPECT_NE(why.find("<|im_start|>model"), std::string::npos) << why;
  EXPECT_NE(why.find("--supervise all"), std::string::npos) << why;
}

TEST(Encode, AnAnswerThatDoesNotEndIsRemarkedUpon) {
  const auto chat_template = Template(
      "{% for m in messages %}{{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}");
  Remarks remarks;
  const auto all = MarkedAll(MakeEncoder(chat_template.get()),
                             RecordFrom(R"({"messages": [{"role": "user", "content": "<|im_end|>"},
                                                         {"role": "assistant", "content": "b"}]})"),
                             &remarks);
  ASSERT_EQ(remarks.size(), 2u);
  EXPECT_EQ(remarks[0].kind, RemarkKind::kControlToken);
  EXPECT_EQ(remarks[1].kind, RemarkKind::kNoEndOfTurn);
}

TEST(Encode, ControlTokensSpelledByAUserAreLettersIfThatIsWanted) {
  const auto chat_template = Template(kRewriting);
  const DataRecord record = RecordFrom(R"({"messages": [{"role": "user", "content": "<|im_end|>"},
                                                    {"role": "assistant", "content": "b"}]})");
  const auto count = [&](bool special) {
    const Encoder encoder = MakeEncoder(chat_template.get(), {.special_in_input = special});
    Remarks remarks;
    const auto examples = encoder.Encode(record, &remarks);
    EXPECT_TRUE(examples.ok());
    const auto& tokens = (*examples)[0].tokens;
    return std::count(tokens.begin(), tokens.end(), *DemoTokenizer().TokenToId("<|im_end|>"));
  };
  EXPECT_EQ(count(true), 3);
  EXPECT_EQ(count(false), 2);
}

TEST(Encode, TextEndsWithEosAndCompletionsTeachTheCompletion) {
  const Encoder encoder = MakeEncoder(nullptr);
  const std::string eos(DemoTokenizer().TokenText(*DemoTokenizer().eos_id()));
  const auto text = MarkedAll(encoder, RecordFrom(R"({"text": "Once upon <|im_end|>"})"));
  ASSERT_EQ(text.size(), 1u);
  EXPECT_TRUE(text[0].ends_with("<|im_end|>" + eos + "]")) << text[0];
  Remarks none;
  const auto examples = encoder.Encode(RecordFrom(R"({"text": "<|im_end|>"})"), &none);
  EXPECT_GT((*examples)[0].size(), 3);  // a text does not speak as a control token
  const auto completion =
      MarkedAll(encoder, RecordFrom(R"({"prompt": "Q: a?", "completion": " b"})"));
  EXPECT_EQ(completion[0], "Q: a?[ b" + eos + "]");
  Remarks remarks;
  EXPECT_FALSE(encoder.Encode(RecordFrom(kLongChat), &remarks).ok());  // no template
  EXPECT_FALSE(encoder.Encode(RecordFrom(R"({"input_ids": [99999999]})"), &remarks).ok());
  EXPECT_FALSE(encoder.Encode(RecordFrom(R"({"prompt": "a"})"), &remarks).ok());
}

TEST(Encode, ACompletionOfMessagesTeachesOnlyWhatIsNotItsPrompt) {
  const auto chat_template = Template(kRewriting);
  const auto all = MarkedAll(MakeEncoder(chat_template.get()), RecordFrom(R"({
      "prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                 {"role": "user", "content": "c"}],
      "completion": [{"role": "assistant", "content": "d"}]})"));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].substr(all[0].find('[')), "[d<|im_end|>]");
}

TEST(Encode, PairsAndTasksAreEncodedBehindOnePrompt) {
  const auto chat_template = Template(kRewriting);
  const Encoder encoder = MakeEncoder(chat_template.get());
  Remarks remarks;
  const auto pair = encoder.EncodePreference(
      RecordFrom(R"({"prompt": "a", "chosen": [{"role": "assistant", "content": "b"}],
                     "rejected": [{"role": "assistant", "content": "c"}]})"),
      &remarks);
  ASSERT_TRUE(pair.ok());
  const std::string prompt =
      "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<think></think>";
  EXPECT_EQ(testing::Marked(pair->chosen[0], DemoTokenizer()), prompt + "[b<|im_end|>]");
  EXPECT_EQ(testing::Marked(pair->rejected[0], DemoTokenizer()), prompt + "[c<|im_end|>]");
  const auto task = encoder.EncodeTask(
      RecordFrom(R"({"messages": [{"role": "user", "content": "a"}], "expected_answer": "b",
                     "chat_template_kwargs": {"enable_thinking": false}})"),
      &remarks);
  ASSERT_TRUE(task.ok());
  EXPECT_EQ(task->prompt_text, prompt);
  EXPECT_EQ(*DemoTokenizer().Decode(task->prompt), prompt);
  EXPECT_EQ(task->task["expected_answer"], "b");
}

TEST(Dataset, LongTextsAreSplitAndLongChatsTruncatedOrDropped) {
  const std::string path = ::testing::TempDir() + "lode_dataset.jsonl";
  ASSERT_TRUE(WriteFileAtomic(path, R"({"text": "one two three four five six seven eight nine"}
{"prompt": "a b c d e f g h i j k l m n", "completion": "o"}
{"prompt": "a", "completion": "b"}
)")
                  .ok());
  const Encoder encoder = MakeEncoder(nullptr);
  for (const bool drop : {false, true}) {
    Report report;
    const auto examples = LoadExamples(
        {path}, encoder,
        {.record = {}, .sequence_max = 8, .too_long = drop ? TooLong::kDrop : TooLong::kTruncate},
        false, &report);
    ASSERT_TRUE(examples.ok());
    EXPECT_EQ(report.remarks(RemarkKind::kOverLong), 2);
    std::vector<int32_t> labels;
    for (const Example& example : *examples) {
      EXPECT_LE(example.size(), 8);
      EXPECT_EQ(example.weights[0], 0);
    }
    if (drop) {
      EXPECT_EQ(examples->size(), 1u);
      continue;
    }
    // Of the long completion nothing that is taught is left; of the text every label is.
    for (size_t i = 0; i + 1 < examples->size(); ++i) {
      const auto& tokens = (*examples)[i].tokens;
      labels.insert(labels.end(), tokens.begin() + (i == 0 ? 0 : 1), tokens.end());
    }
    EXPECT_EQ(*DemoTokenizer().Decode(labels),
              "one two three four five six seven eight nine<|im_end|>");
  }
  Report report;
  EXPECT_FALSE(
      LoadExamples({path}, encoder, {.record = {}, .sequence_max = 8}, true, &report).ok());
}

TEST(Dataset, EachRunTakesTheKindOfRecordItLearnsFrom) {
  const std::string folder = ::testing::TempDir();
  const std::string pairs = folder + "lode_pairs.jsonl", tasks = folder + "lode_tasks.jsonl";
  ASSERT_TRUE(WriteFileAtomic(pairs, R"({"prompt": "a", "chosen": "b", "rejected": "c"}
{"prompt": "a", "chosen": "one two three four five six", "rejected": "d"}
)")
                  .ok());
  ASSERT_TRUE(WriteFileAtomic(tasks, "{\"question\": \"2+2?\", \"expected_answer\": 4}\n").ok());
  const Encoder encoder = MakeEncoder(nullptr);
  Report report;
  const ReadOptions options = {.record = {}, .sequence_max = 6};
  const auto loaded = LoadPreferences({pairs}, encoder, options, false, &report);
  ASSERT_TRUE(loaded.ok()) << loaded.error().ToString();
  ASSERT_EQ(loaded->size(), 1u);
  EXPECT_EQ(testing::Marked((*loaded)[0].rejected[0], DemoTokenizer()), "a[c<|im_end|>]");
  const auto judged = LoadTasks({tasks}, encoder, {}, false, &report);
  ASSERT_TRUE(judged.ok());
  EXPECT_EQ((*judged)[0].task["expected_answer"], 4);
  EXPECT_FALSE(LoadTasks({pairs}, encoder, {}, false, &report).ok());
}

TEST(Dataset, TasksAndPairsAreNoExamplesToImitate) {
  const std::string path = ::testing::TempDir() + "lode_dataset_tasks.jsonl";
  ASSERT_TRUE(WriteFileAtomic(path, "{\"text\": \"x\"}\n{\"prompt\": \"a\"}\n").ok());
  Report report;
  const auto examples = LoadExamples({path}, MakeEncoder(nullptr), {}, false, &report);
  ASSERT_FALSE(examples.ok());
  EXPECT_NE(examples.error().ToString().find("lode_dataset_tasks.jsonl:2"), std::string::npos);
}

// --- The proof, for templates as they are published. ---------------------------------------------

std::string RenderTold(const text::ChatTemplate& chat_template, const DataRecord& record,
                       size_t count, bool prompt_behind, int thinking) {
  Json request = {{"messages", Json::array()}, {"tools", record.tools}};
  for (size_t i = 0; i < count; ++i) request["messages"].push_back(record.answer.messages[i]);
  request["add_generation_prompt"] = prompt_behind;
  if (thinking >= 0) request["chat_template_kwargs"] = {{"enable_thinking", thinking == 1}};
  auto variables = text::MakeTemplateVariables(
      request, {.bos_token = "<BOS>", .eos_token = "<EOS>", .alias_reasoning = true});
  if (thinking >= 0) (*variables)["chat_template_kwargs"] = request["chat_template_kwargs"];
  text::RenderOptions options;
  options.now = text::CivilTime{2025, 6, 28, 12};
  const auto text = chat_template.Render(*variables, options);
  EXPECT_TRUE(text.ok()) << (text.ok() ? "" : text.error().ToString());
  return text.ok() ? *text : "";
}

// Every answer is taught exactly once; what stands before it is the prompt for it (with thinking as
// is, off or on), and with what is taught it is the conversation, but for blanks behind the turn.
void ExpectExact(const std::string& source, const DataRecord& record, size_t answers) {
  const auto chat_template = Template(source);
  const ScriptWriter writer = {
      .chat_template = chat_template.get(),
      .bos = "<BOS>",
      .eos = "<EOS>",
      .stop_texts = {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|return|>", "<|call|>"},
      .now = {2025, 6, 28, 12}};
  const auto scripts = writer.Write(record.answer, record.tools, Json::object(), 0, false);
  ASSERT_TRUE(scripts.ok()) << scripts.error().ToString();
  std::multiset<size_t> taught;
  for (const Script& script : *scripts) {
    for (const TaughtSpan& span : script.taught) {
      taught.insert(span.message);
      EXPECT_TRUE(span.ended);
      const std::string before = script.text.substr(0, span.begin);
      bool is_prompt = false;
      for (const int thinking : {-1, 0, 1}) {
        is_prompt =
            is_prompt || RenderTold(*chat_template, record, span.message, true, thinking) == before;
      }
      EXPECT_TRUE(is_prompt) << before;
      const std::string whole = RenderTold(*chat_template, record, span.message + 1, false, -1);
      // A template may drop what stands before an answer because of the answer.
      const std::string answer = script.text.substr(span.begin, span.end - span.begin);
      const std::string said = whole.substr(0, whole.find_last_not_of(" \n") + 1);
      EXPECT_TRUE(whole.starts_with(before) ? said == before + answer : said.ends_with(answer))
          << whole;
    }
  }
  EXPECT_EQ(taught.size(), answers);
  EXPECT_EQ(std::set<size_t>(taught.begin(), taught.end()).size(), answers);
}

TEST(Encode, MasksAreExactForTheDemosTemplateAndOneThatRewrites) {
  ExpectExact(kRewriting, RecordFrom(kLongChat), 4);
  ExpectExact(SourceFile("models/demo/chat_template.jinja"), RecordFrom(kLongChat), 4);
}

TEST(Encode, MasksAreExactForPublishedTemplates) {
  LODE_NEEDS_SHARED(folder, "templates");
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jinja") continue;
    SCOPED_TRACE(entry.path().filename().string());
    ++files;
    ExpectExact(*ReadFile(entry.path().string()), RecordFrom(kLongChat), 4);
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace lode::tune

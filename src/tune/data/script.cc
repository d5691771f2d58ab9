#include "tune/data/script.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "base/text.h"
#include "text/template/request.h"

namespace lode::tune {
namespace {

// Names under which templates know the switch for thinking.
constexpr const char* kSwitches[] = {"enable_thinking", "thinking"};

Json FirstMessages(const Json& messages, size_t count) {
  Json first = Json::array();
  for (size_t i = 0; i < count; ++i) first.push_back(messages[i]);
  return first;
}

// An answer in the text that ends with it.
struct Turn {
  Script script;
  TaughtSpan span;
};

// What the turn that begins at `begin` teaches: up to its last token that ends turns.
TaughtSpan SpanOf(const std::string& text, size_t begin, const std::vector<std::string>& stops) {
  TaughtSpan span = {begin, begin, 1.0f, 0, false};
  for (const std::string& stop : stops) {
    const size_t at = text.rfind(stop);
    if (stop.empty() || at == std::string::npos || at < begin) continue;
    span.end = std::max(span.end, at + stop.size());
    span.ended = true;
  }
  if (!span.ended) span.end = text.size();
  return span;
}

Error NotBehindPrompt(size_t message, const std::string& prompt, const std::string& whole) {
  const auto parted = std::mismatch(prompt.begin(), prompt.end(), whole.begin(), whole.end());
  const auto at = static_cast<size_t>(parted.first - prompt.begin());
  const size_t from = at < 40 ? 0 : at - 40;
  return Error(
      Code::kUnsupported,
      Format("messages[%zu]: the template does not write this answer behind its own prompt "
             "for answers, so what the model must write is not exact: it asks with ",
             message) +
          Quote(prompt.substr(from), 100) + " and writes " +
          Quote(whole.substr(std::min(from, whole.size())), 100),
      "--supervise all teaches whole conversations with such a template");
}

}  // namespace

Result<Script> ScriptWriter::WriteWhole(const Json& messages, const Json& tools,
                                        const Json& variables, bool prompt_behind) const {
  Json request = variables;
  request["messages"] = messages;
  request["tools"] = tools;
  request["add_generation_prompt"] = prompt_behind;
  LODE_ASSIGN(Json all,
              text::MakeTemplateVariables(
                  request, {.bos_token = bos, .eos_token = eos, .alias_reasoning = true}));
  // Some templates read the switches one by one, some from this object.
  if (const Json* switches = FindKey(variables, "chat_template_kwargs")) {
    all["chat_template_kwargs"] = *switches;
  }
  text::RenderOptions options;
  options.now = now;
  LODE_ASSIGN(text::RenderedPrompt rendered, chat_template->RenderWithOrigin(all, options));
  return Script{std::move(rendered.text), std::move(rendered.input_spans), {}};
}

namespace {

// The same answer in other words, where it has any.
Json InOtherWords(const Json& message) {
  Json other = message;
  for (const char* key : {"content", "reasoning_content", "reasoning", "thinking"}) {
    if (!GetString(other, key).empty()) other[key] = "lode-4f1d7a-answer";
  }
  return other;
}

// For templates that rewrite what stands before an answer because of the answer itself (a trace in
// front of a call goes when the final words are there): the answer is cut out of what is `written`
// and set behind the prompt for it. It begins where the prompt's last words stand before all that
// changes with the answer's. Returns nothing if that finds no place.
Result<std::optional<Turn>> SetBehindPrompt(const ScriptWriter& writer, const Json& messages,
                                            size_t index, const Json& tools, const Json& variables,
                                            const Script& prompt, const Script& written) {
  const std::string& whole = written.text;
  const Json before = FirstMessages(messages, index);
  LODE_ASSIGN(const Script history, writer.WriteWhole(before, tools, variables, false));
  Json other_messages = before;
  other_messages.push_back(InOtherWords(messages[index]));
  LODE_ASSIGN(const Script other, writer.WriteWhole(other_messages, tools, variables, false));
  if (!prompt.text.starts_with(history.text) || other.text == whole) return std::optional<Turn>();
  const std::string header = prompt.text.substr(history.text.size());
  const auto parted =
      std::mismatch(whole.begin(), whole.end(), other.text.begin(), other.text.end());
  const auto same = static_cast<size_t>(parted.first - whole.begin());
  if (header.empty() || same < header.size()) return std::optional<Turn>();
  const size_t at = whole.rfind(header, same - header.size());
  if (at == std::string::npos) return std::optional<Turn>();
  const size_t cut = at + header.size(), end = prompt.text.size();
  Turn turn;
  turn.script = prompt;
  turn.script.text += whole.substr(cut);
  for (const text::ByteSpan& span : written.input_spans) {
    if (span.end <= cut) continue;
    turn.script.input_spans.push_back(
        {end + std::max(span.begin, cut) - cut, end + span.end - cut});
  }
  turn.span = SpanOf(turn.script.text, end, writer.stop_texts);
  return std::optional<Turn>(std::move(turn));
}

// The conversation up to message `index`, which is an answer.
Result<Turn> WriteTurn(const ScriptWriter& writer, const Json& messages, size_t index,
                       const Json& tools, const Json& variables) {
  const Json before = FirstMessages(messages, index);
  Turn turn;
  LODE_ASSIGN(turn.script,
              writer.WriteWhole(FirstMessages(messages, index + 1), tools, variables, false));
  const std::string& whole = turn.script.text;
  LODE_ASSIGN(const Script prompt, writer.WriteWhole(before, tools, variables, true));
  std::optional<size_t> begin;
  if (whole.starts_with(prompt.text)) begin = prompt.text.size();
  for (const bool on : {false, true}) {
    if (begin) break;
    Json switched = variables;
    for (const char* name : kSwitches) switched["chat_template_kwargs"][name] = on;
    LODE_ASSIGN(const Script other, writer.WriteWhole(before, tools, switched, true));
    if (whole.starts_with(other.text)) begin = other.text.size();
  }
  if (!begin) {
    LODE_ASSIGN(std::optional<Turn> moved,
                SetBehindPrompt(writer, messages, index, tools, variables, prompt, turn.script));
    if (!moved) return NotBehindPrompt(index, prompt.text, whole);
    moved->span.message = index;
    return *std::move(moved);
  }
  turn.span = SpanOf(whole, *begin, writer.stop_texts);
  turn.span.message = index;
  return turn;
}

// Whether `text` has everything up to the turn's end as the turn's own text has it.
bool Holds(const std::string& text, const Turn& turn) {
  return text.size() >= turn.span.end &&
         text.compare(0, turn.span.end, turn.script.text, 0, turn.span.end) == 0;
}

}  // namespace

Result<std::vector<Script>> ScriptWriter::Write(const Words& words, const Json& tools,
                                                const Json& own_variables, size_t first_taught,
                                                bool last_only) const {
  Json all_variables = variables;
  all_variables.update(own_variables);
  std::vector<Turn> turns;
  for (size_t i = words.messages.size(); i-- > first_taught;) {
    if (GetString(words.messages[i], "role") != "assistant") continue;
    if (words.weights[i] > 0) {
      LODE_ASSIGN(Turn turn, WriteTurn(*this, words.messages, i, tools, all_variables));
      turn.span.weight = words.weights[i];
      turns.push_back(std::move(turn));
    }
    if (last_only) break;
  }
  // Turns run from the last to the first. The last one that is still to be taught makes a text, and
  // takes with it all before it that stand there as they were.
  std::vector<Script> scripts;
  std::vector<bool> done(turns.size(), false);
  for (size_t t = 0; t < turns.size(); ++t) {
    if (done[t]) continue;
    Script script = turns[t].script;
    for (size_t earlier = t; earlier < turns.size(); ++earlier) {
      if (done[earlier] || !Holds(script.text, turns[earlier])) continue;
      if (!script.taught.empty() && turns[earlier].span.end > script.taught.front().begin) continue;
      script.taught.insert(script.taught.begin(), turns[earlier].span);
      done[earlier] = true;
    }
    scripts.push_back(std::move(script));
  }
  std::reverse(scripts.begin(), scripts.end());
  return scripts;
}

}  // namespace lode::tune

// Fuzzes the output parser: the first two bytes choose the form, options and the cuts, the rest is
// the text.
// Beyond not crashing: the result does not depend on the cuts, arguments are always JSON objects,
// all text is valid UTF-8, calls begin and end in order, and little is withheld.
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>

#include "base/check.h"
#include "base/json.h"
#include "base/utf8.h"
#include "text/parsers/output_parser.h"
#include "text/parsers/tool_schemas_json.h"

namespace {

using lode::text::FinishReason;
using lode::text::OutputEvent;
using lode::text::OutputParser;
using lode::text::OutputParserOptions;
using lode::text::ParsedOutput;
using lode::text::StopCause;

std::shared_ptr<const lode::text::ToolSchemas> Tools() {
  static const auto tools = std::make_shared<const lode::text::ToolSchemas>(
      lode::text::ToolSchemasFromJson(*lode::ParseJson(R"([
        {"name":"f","parameters":{"properties":{"s":{"type":"string"},"n":{"type":["string","null"]},
         "i":{"type":"integer"},"d":{"type":"number"},"b":{"type":"boolean"},"o":{"type":"object"},
         "a":{"type":"array"}}, "additionalProperties":{"type":"object"}}},
        {"name":"g","parameters":{}}])")));
  return tools;
}

struct Outcome {
  ParsedOutput output;
  FinishReason finish;
};

Outcome Read(std::string_view text, const OutputParserOptions& options, StopCause cause,
             std::mt19937* cuts) {
  OutputParser parser(options);
  Outcome outcome;
  int calls = 0;
  bool open = false;
  const auto take = [&](const std::vector<OutputEvent>& events) {
    for (const OutputEvent& event : events) {
      LODE_CHECK(lode::IsValidUtf8(event.text));
      switch (event.kind) {
        case OutputEvent::Kind::kCallBegin:
          LODE_CHECK(!open);
          LODE_CHECK(event.index == calls);
          LODE_CHECK(!event.id.empty() && !event.name.empty());
          ++calls;
          open = true;
          break;
        case OutputEvent::Kind::kCallEnd:
          LODE_CHECK(open && event.index == calls - 1);
          open = false;
          break;
        case OutputEvent::Kind::kArguments:
          LODE_CHECK(open && event.index == calls - 1 && !event.text.empty());
          break;
        case OutputEvent::Kind::kReasoning:
        case OutputEvent::Kind::kContent:
          LODE_CHECK(!open && !event.text.empty());
          break;
      }
    }
    outcome.output.Add(events);
  };
  while (!text.empty()) {
    const size_t size = cuts == nullptr ? text.size() : 1 + (*cuts)() % 12;
    take(parser.Push(text.substr(0, size)));
    text.remove_prefix(std::min(size, text.size()));
  }
  take(parser.Finish(cause));
  LODE_CHECK(!open);
  LODE_CHECK(parser.pending_bytes() == 0);
  outcome.finish = parser.finish_reason();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  OutputParserOptions options;
  options.thinking = (data[0] & 1) != 0;
  options.tool_calls = (data[0] & 14) != 0;
  options.force_nonempty_content = (data[0] & 16) != 0;
  options.tools = Tools();
  constexpr lode::text::OutputFormat kFormats[] = {
      lode::text::OutputFormat::kXml, lode::text::OutputFormat::kHermes,
      lode::text::OutputFormat::kBareJson, lode::text::OutputFormat::kHarmony};
  options.format = kFormats[data[0] >> 6];
  const StopCause cause = (data[0] & 32) != 0 ? StopCause::kLength : StopCause::kStop;
  const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);

  const Outcome whole = Read(text, options, cause, nullptr);
  for (unsigned round = 0; round < 2; ++round) {
    std::mt19937 cuts(data[1] * 2 + round);
    const Outcome cut = Read(text, options, cause, &cuts);
    LODE_CHECK(cut.output.reasoning == whole.output.reasoning);
    LODE_CHECK(cut.output.content == whole.output.content);
    LODE_CHECK(cut.output.calls.size() == whole.output.calls.size());
    LODE_CHECK(cut.finish == whole.finish);
    for (size_t i = 0; i < whole.output.calls.size(); ++i) {
      LODE_CHECK(cut.output.calls[i].name == whole.output.calls[i].name);
      LODE_CHECK(cut.output.calls[i].id == whole.output.calls[i].id);
      LODE_CHECK(cut.output.calls[i].arguments == whole.output.calls[i].arguments);
      LODE_CHECK(cut.output.calls[i].complete == whole.output.calls[i].complete);
    }
  }
  for (const auto& call : whole.output.calls) {
    const lode::Result<lode::Json> arguments = lode::ParseJson(call.arguments);
    LODE_CHECK(arguments.ok());
    LODE_CHECK(arguments->is_object());
  }
  return 0;
}

#include "text/parsers/output_event.h"

#include "base/check.h"

namespace lode::text {

const char* FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kToolCalls:
      return "tool_calls";
    case FinishReason::kCancelled:
      return "cancelled";
  }
  return "stop";
}

void ParsedOutput::Add(const std::vector<OutputEvent>& events) {
  for (const OutputEvent& event : events) {
    const size_t index = static_cast<size_t>(event.index);
    switch (event.kind) {
      case OutputEvent::Kind::kReasoning:
        reasoning += event.text;
        break;
      case OutputEvent::Kind::kContent:
        content += event.text;
        break;
      case OutputEvent::Kind::kCallBegin:
        LODE_CHECK(index == calls.size());
        calls.push_back({event.id, event.name, "", false});
        break;
      case OutputEvent::Kind::kArguments:
        LODE_CHECK(index + 1 == calls.size());
        calls[index].arguments += event.text;
        break;
      case OutputEvent::Kind::kCallEnd:
        LODE_CHECK(index + 1 == calls.size());
        calls[index].complete = event.complete;
        break;
    }
  }
}

void AppendText(OutputEvent::Kind kind, int index, std::string_view text,
                std::vector<OutputEvent>* events) {
  if (text.empty()) return;
  if (!events->empty() && events->back().kind == kind && events->back().index == index) {
    events->back().text += text;
    return;
  }
  OutputEvent event;
  event.kind = kind;
  event.index = index;
  event.text = text;
  events->push_back(std::move(event));
}

}  // namespace lode::text

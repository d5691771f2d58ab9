// The forms in which models write thinking and calls, and which one a model uses: its chat template
// shows it, because it renders the calls of earlier turns.
#pragma once

#include <string_view>

#include "base/result.h"

namespace lode::text {

enum class OutputFormat {
  kXml,       // <tool_call><function=NAME><parameter=KEY>  (tool_calls.h)
  kHermes,    // <tool_call>{"name", "arguments"}           (json_calls.h)
  kToolList,  // <TOOLCALL>[{"name", "arguments"}, ...]     (json_calls.h)
  kBareJson,     // {"name", "parameters"}, <|python_tag|>     (json_calls.h)
  kHarmony,   // channels and recipients                    (harmony.h)
};

// A template that shows no form at all: kHermes, which most models have seen.
OutputFormat DetectOutputFormat(std::string_view chat_template);

const char* OutputFormatName(OutputFormat format);
// "xml", "hermes", "toollist", "llama", "harmony". Errors: kBadInput with the list of names.
Result<OutputFormat> OutputFormatFromName(std::string_view name);

}  // namespace lode::text

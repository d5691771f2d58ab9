// From a chat request to the variables of a template, as apply_chat_template hands them over.
//
// Surprising policy: tool-call arguments that arrive as JSON text (the OpenAI way) are parsed first,
// because templates expect the object; text that is no JSON stays as it is and is no error.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "text/template/chat_template.h"

namespace lode::text {

struct RequestOptions {
  std::string bos_token;  // set as variables unless empty; they win over the request's
  std::string eos_token;
  // Hugging Face's newest apply_chat_template copies a message's reasoning to the names
  // reasoning_content and thinking, whatever name it came under. Off: messages are left alone.
  bool alias_reasoning = false;
};

// `request`: {"messages": [...], "tools": [...], "add_generation_prompt": ..., <any variable>}; the
// members of "chat_template_kwargs" become variables too. Absent tools and documents are none and an
// absent add_generation_prompt is false, as in Hugging Face.
// Errors: kBadInput when the request or a message has the wrong shape.
Result<Json> MakeTemplateVariables(const Json& request, const RequestOptions& options = {});

// Variables of the request that `chat_template` never reads (a misspelt switch, most likely).
std::vector<std::string> UnusedVariables(const ChatTemplate& chat_template, const Json& variables);

}  // namespace lode::text

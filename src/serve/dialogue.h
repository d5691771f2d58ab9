// Messages and tools as clients write them -> what templates of chat models read: roles folded,
// parts joined, shapes checked. Common to the dialects.
#pragma once

#include <string>

#include "base/json.h"
#include "base/result.h"

namespace lode::serve {

// A message's "content": null, text, or parts whose texts are joined by newlines.
// `path` is for errors. Errors: kUnsupported for parts that are no text.
Result<std::string> ContentText(const Json* content, const std::string& path);

// Chat Completions' messages. Developer messages are system messages; those at the beginning become
// one. Errors: kBadInput and kUnsupported with the path of what is wrong.
Result<Json> NormalMessages(const Json& messages);

// Tools as {"type": "function", "function": {"name", "description", "parameters", "strict"}}.
// Accepts the flat form, too. Errors: as above.
Result<Json> NormalTools(const Json& tools);

// Joins the system messages in front.
void MergeSystem(Json* messages);

bool HasTool(const Json& tools, const std::string& name);

}  // namespace lode::serve

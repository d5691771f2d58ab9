// Items of the Responses API (messages, calls, outputs of calls, reasoning) -> the messages that
// templates of chat models read.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace lode::serve {

// Appends what the items say to `messages`: what one side does in a row (reasoning, text, calls) is
// one message of the assistant's. `history` comes before the request's own items: a turn may go on
// from one to the other. Errors: kBadInput, kUnsupported with the path of the item in "input", or
// in the response that goes before.
Result<void> AddItems(const Json& history, const Json& items, Json* messages);

// A trace as the opaque text that clients keep and send back ("encrypted_content"). It hides
// nothing: it says whose it is, and is the text in base64. Open: empty for what is not ours.
std::string SealThoughts(std::string_view text);
std::string OpenThoughts(std::string_view sealed);

}  // namespace lode::serve

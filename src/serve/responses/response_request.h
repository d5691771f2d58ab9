// The Responses API's request -> chat::ChatRequest.
#pragma once

#include <set>
#include <string>

#include "chat/service.h"
#include "serve/openai/rules.h"

namespace lode::serve {

struct ResponseCall {
  chat::ChatRequest request;
  Json items = Json::array();  // of this turn's input; a text is one message
  Json echo = Json::object();  // settings, as the response tells them again
  std::set<std::string> custom_tools;  // whose input is one text
  bool stream = false;
  bool store = true;
  bool summary = false;   // of the reasoning; it is the trace itself
  bool sealed = false;    // reasoning comes as opaque text, too
  bool fit = false;       // the beginning of a dialogue that is too long may be left out
};

// `history`: the items of the turns before this one. Errors: kBadInput, kUnsupported with the
// field's path.
Result<ResponseCall> ReadResponseRequest(const Json& body, const FieldLimits& limits,
                                         chat::Origin origin, const Json& history);

}  // namespace lode::serve

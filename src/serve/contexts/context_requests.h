// Requests about contexts: JSON -> chat/contexts.h.
#pragma once

#include <optional>
#include <string>

#include "chat/contexts.h"
#include "serve/fields.h"

namespace lode::serve {

// How a request for an answer goes on from a context: `context`, or `lode.context` and more.
struct ContextUse {
  std::string id;  // empty: from none
  bool append = true;
  bool fork_if_busy = false;
  bool explain = false;  // say what was reused
  bool told() const { return explain || !id.empty(); }
};

// Errors of all: kBadInput and kUnsupported with the field's path.
Result<ContextUse> ReadContextUse(const Fields& fields);
// The field `at`: {"token"}, {"message"} or {"mark"}; absent: the end.
Result<chat::ContextPlace> ReadContextPlace(const Fields& fields);
// Of a new context all but its text.
Result<chat::NewContext> ReadNewContext(const Fields& fields);
Result<chat::ContextChange> ReadContextChange(const Fields& fields);
Result<chat::ContextSaving> ReadContextSaving(const Fields& fields);
Result<chat::ContextRestoring> ReadContextRestoring(const Fields& fields);

}  // namespace lode::serve

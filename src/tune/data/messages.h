// Messages of a record in OpenAI's form: checked, and normalized once so that nothing behind has to
// ask again. Errors say which message: "messages[3]: ...".
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "tune/data/remark.h"

namespace lode::tune {

// What somebody says in a record: messages for the template, or text without one.
struct Words {
  bool is_text = false;
  std::string text;
  Json messages = Json::array();
  std::vector<float> weights;  // of each message; 1 unless the record says otherwise

  bool empty() const { return is_text ? text.empty() : messages.empty(); }
};

// A string or a list of messages. Calls' arguments become objects, "weight" moves to
// Words::weights, lists of text parts become strings. `key` names it in errors.
// Errors: anything else; parts that are no text (kUnsupported); weights outside [0, 1]; thousands
// of messages (kNoSpace).
Result<Words> ReadWords(const Json& value, const std::string& key, const Json& tools,
                        Remarks* remarks);

// "tools" of a record: null when absent; text is parsed; flat declarations get their "function".
// Errors: not a list of objects with names.
Result<Json> ReadTools(const Json& record);

}  // namespace lode::tune

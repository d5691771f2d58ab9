// TOML text as a flat list of values. What the keys mean is settings.h's business.
// Source: toml.io, version 1.0. Threads: free for all.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/result.h"

namespace lode::tune {

struct TomlValue {
  std::string key;  // "train.steps"
  Json value;       // a number, text, truth or a list of these; tables inside lists are objects
  int line = 0;     // where its key stands
};

// In the order of the text. Errors: kBadInput with line and column; dates and times, which no key
// of ours has.
Result<std::vector<TomlValue>> ParseToml(std::string_view text);

}  // namespace lode::tune

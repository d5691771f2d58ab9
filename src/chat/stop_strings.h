// Finds stop strings in text that comes in pieces, holding back what may be the beginning of one.
// Which one ends a text, and where, does not depend on how the text was cut: the match that is
// complete first, and of several that end at one place the longest.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lode::chat {

class StopStrings {
 public:
  // Empty strings match nothing. `include`: the match itself is given out, too.
  StopStrings(std::vector<std::string> stops, bool include);

  // Appends to `out` what is certainly not part of a match. The match, once one is complete: from
  // then on nothing is given out. Time: linear in the text, times the stops.
  std::optional<std::string> Push(std::string_view text, std::string* out);
  // No more text comes, or something else comes first: gives out what was held back.
  void Flush(std::string* out);
  size_t held() const { return held_.size(); }

 private:
  std::vector<std::string> stops_;
  bool include_;
  bool matched_ = false;
  std::string held_;
};

}  // namespace lode::chat

// A cursor over text that may not have arrived completely: every question has the answers yes, no,
// and "more bytes are needed". It never looks further than its bounds, so that what a parser
// withholds is bounded too.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string_view>

namespace lode::text {

// Between two structural tags; the model writes one newline. A longer gap means that the first tag
// was text.
constexpr size_t kGapBytesMax = 64;
// Function and parameter names; the common APIs allow 64 to 128.
constexpr size_t kNameBytesMax = 256;

enum class Match { kNo, kYes, kMore };

inline bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

class Lookahead {
 public:
  explicit Lookahead(std::string_view text) : text_(text) {}

  size_t at() const { return at_; }
  bool AtEnd() const { return at_ == text_.size(); }
  char Here() const { return text_[at_]; }  // not at the end
  std::string_view name() const { return name_; }

  // Passes over `literal` when it stands here.
  Match Literal(std::string_view literal) {
    const std::string_view here = text_.substr(at_, literal.size());
    if (here != literal.substr(0, here.size())) return Match::kNo;
    if (here.size() < literal.size()) return Match::kMore;
    at_ += literal.size();
    return Match::kYes;
  }

  // Passes over white space; kMore when the text ends in it, kNo when it is too much.
  Match Gap() {
    const size_t start = at_;
    while (at_ < text_.size() && IsSpace(text_[at_])) {
      if (++at_ - start > kGapBytesMax) return Match::kNo;
    }
    return AtEnd() ? Match::kMore : Match::kYes;
  }

  // Passes over "NAME>". A name has no newline and no '<', and is not empty.
  Match Name() {
    for (size_t i = at_; i < text_.size(); ++i) {
      const char c = text_[i];
      if (c == '>') {
        std::string_view name = text_.substr(at_, i - at_);
        while (!name.empty() && IsSpace(name.front())) name.remove_prefix(1);
        while (!name.empty() && IsSpace(name.back())) name.remove_suffix(1);
        if (name.empty()) return Match::kNo;
        name_ = name;
        at_ = i + 1;
        return Match::kYes;
      }
      if (c == '\n' || c == '<' || i - at_ >= kNameBytesMax) return Match::kNo;
    }
    return Match::kMore;
  }

 private:
  std::string_view text_;
  size_t at_ = 0;
  std::string_view name_;
};

constexpr std::string_view kThinkOpen = "<think>";
constexpr std::string_view kThinkClose = "</think>";
constexpr std::string_view kCallOpen = "<tool_call>";
constexpr std::string_view kCallClose = "</tool_call>";
constexpr std::string_view kFunctionOpen = "<function=";
constexpr std::string_view kFunctionClose = "</function>";
constexpr std::string_view kParameterOpen = "<parameter=";
constexpr std::string_view kParameterClose = "</parameter>";
constexpr std::string_view kCallListOpen = "<TOOLCALL>";
constexpr std::string_view kCallListClose = "</TOOLCALL>";
constexpr std::string_view kPythonTag = "<|python_tag|>";

// "<tool_call>", a gap, "<function=": only both together open a call, so that prose may name the
// tag.
inline Match MatchCallOpen(Lookahead* cursor) {
  if (const Match match = cursor->Literal(kCallOpen); match != Match::kYes) return match;
  if (const Match match = cursor->Gap(); match != Match::kYes) return match;
  return cursor->Literal(kFunctionOpen);
}

// `open`, a gap, and the '{' or '[' of a call in JSON, which is not passed over.
inline Match MatchJsonCallOpen(Lookahead* cursor, std::string_view open) {
  if (const Match match = cursor->Literal(open); match != Match::kYes) return match;
  if (const Match match = cursor->Gap(); match != Match::kYes) return match;
  return cursor->Here() == '{' || cursor->Here() == '[' ? Match::kYes : Match::kNo;
}

}  // namespace lode::text

// What is odd about a record without making it unreadable. Remarks are counted and shown; a strict
// reading refuses them. What cannot be read at all is an Error.
#pragma once

#include <string>
#include <vector>

namespace lode::tune {

enum class RemarkKind {
  kUndeclaredTool,     // a tool is called that "tools" does not list
  kBadArguments,       // a call's arguments are no JSON object
  kEmptyAssistant,     // an assistant's turn without words, thinking and calls
  kUnknownRole,        // the template decides what it does with it
  kConverted,          // an older format, translated
  kControlToken,       // a message spells a control token
  kNoEndOfTurn,        // the template ends an answer without a token that stops generation
  kNothingSupervised,  // the example teaches nothing
  kOverLong,           // longer than a sequence may be
};
constexpr int kRemarkKinds = 9;

// "a tool is called that is not declared", for a list of counts.
const char* Describe(RemarkKind kind);

struct Remark {
  RemarkKind kind;
  std::string text;  // one sentence about this record
};
using Remarks = std::vector<Remark>;

}  // namespace lode::tune

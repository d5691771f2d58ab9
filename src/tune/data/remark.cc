#include "tune/data/remark.h"

namespace lode::tune {

const char* Describe(RemarkKind kind) {
  switch (kind) {
    case RemarkKind::kUndeclaredTool:
      return "a tool is called that is not declared";
    case RemarkKind::kBadArguments:
      return "a call's arguments are no JSON object";
    case RemarkKind::kEmptyAssistant:
      return "an assistant's turn is empty";
    case RemarkKind::kUnknownRole:
      return "a role is unknown";
    case RemarkKind::kConverted:
      return "an older format was converted";
    case RemarkKind::kControlToken:
      return "a message spells a control token";
    case RemarkKind::kNoEndOfTurn:
      return "an answer does not end with a token that stops generation";
    case RemarkKind::kNothingSupervised:
      return "nothing is supervised";
    case RemarkKind::kOverLong:
      return "longer than a sequence may be";
  }
  return "";
}

}  // namespace lode::tune

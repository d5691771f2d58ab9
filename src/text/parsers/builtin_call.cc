#include "text/parsers/builtin_call.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "text/parsers/argument_value.h"

namespace lode::text {
namespace {

bool IsIdentifierByte(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_';
}

// The end of the literal at `at`: a comma or a bracket of the call around it. npos: not there yet.
size_t LiteralEnd(std::string_view text, size_t at) {
  char quote = 0;
  int depth = 0;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quote != 0) {
      if (c == '\\') ++at;
      if (c == quote) quote = 0;
    } else if (c == '"' || c == '\'') {
      quote = c;
    } else if (depth == 0 && (c == ',' || c == ')')) {
      return at;
    } else if (c == '(' || c == '[' || c == '{') {
      ++depth;
    } else if (c == ')' || c == ']' || c == '}') {
      --depth;
    }
  }
  return std::string_view::npos;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && IsSpace(text.front())) text.remove_prefix(1);
  while (!text.empty() && IsSpace(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace

Match MatchBuiltinCall(std::string_view text, BuiltinCall* call) {
  constexpr std::string_view kCall = ".call";
  const Match more = text.size() < kBuiltinCallBytesMax ? Match::kMore : Match::kNo;
  text = text.substr(0, kBuiltinCallBytesMax);
  size_t at = 0;
  while (at < text.size() && (IsIdentifierByte(text[at]) || text[at] == '.')) ++at;
  if (at > kNameBytesMax) return Match::kNo;
  if (at == text.size()) return more;
  if (text[at] != '(' || at <= kCall.size() || !text.substr(0, at).ends_with(kCall)) {
    return Match::kNo;
  }
  call->name = text.substr(0, at - kCall.size());
  call->arguments = "{";
  ++at;
  while (true) {
    while (at < text.size() && IsSpace(text[at])) ++at;
    if (at == text.size()) return more;
    if (text[at] == ')') break;
    const size_t key = at;
    while (at < text.size() && IsIdentifierByte(text[at])) ++at;
    if (at == text.size()) return more;
    if (at == key || text[at] != '=') return Match::kNo;
    const size_t end = LiteralEnd(text, at + 1);
    if (end == std::string_view::npos) return more;
    const auto value = CompactPython(Trim(text.substr(at + 1, end - at - 1)));
    if (!value.has_value()) return Match::kNo;
    if (call->arguments.size() > 1) call->arguments += ',';
    call->arguments += QuoteJson(text.substr(key, at - key)) + ":" + *value;
    at = end;
    if (text[at] == ',') ++at;
  }
  call->arguments += '}';
  call->bytes = at + 1;
  return Match::kYes;
}

}  // namespace lode::text

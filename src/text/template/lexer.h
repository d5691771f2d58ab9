// Cuts a template into text and tokens, with the white-space rules of Hugging Face's environment
// (trim_blocks, lstrip_blocks, no trailing newline). Internal.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/template/value.h"

namespace lode::text::jinja {

enum class TokenKind {
  kText,
  kOutputBegin,  // {{
  kOutputEnd,
  kBlockBegin,  // {%
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind = TokenKind::kEnd;
  int line = 1;
  std::string text;  // the text, name, decoded string or operator
  Int integer = 0;
  double real = 0;

  bool IsName(std::string_view name) const { return kind == TokenKind::kName && text == name; }
  bool IsOp(std::string_view op) const { return kind == TokenKind::kOperator && text == op; }
};

// `source` is valid UTF-8. Errors: kBadInput with the line. The last token is kEnd.
Result<std::vector<Token>> Tokenize(std::string_view source);

// How a token is called in an error message.
std::string Describe(const Token& token);

}  // namespace lode::text::jinja

// A pull parser for the two giant members of a tokenizer.json, "vocab" and "merges": one pass, no
// document tree (a tree with 400k nodes takes longer to build than the whole tokenizer may). All
// other members are cut out as text and go through base/json.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace lode::text {

// Life: the text outlives the scanner.
class JsonScanner {
 public:
  explicit JsonScanner(std::string_view text) : text_(text) {}

  // Walks an object or an array: Begin..., then Next... until it says false (the end was read).
  Result<void> BeginObject() { return Expect('{'); }
  Result<void> BeginArray() { return Expect('['); }
  // `first`: no comma is expected before the key. The key's colon is consumed.
  Result<bool> NextKey(bool first, std::string* key);
  Result<bool> NextElement(bool first);

  Result<void> ReadString(std::string* out);
  Result<int64_t> ReadInteger();
  // The next value's text, skipped with its nesting bounded but not checked for validity.
  Result<std::string_view> ReadValue();
  // The first character of the next value, or 0 at the end.
  char Peek();
  // Only white space is left. Errors: kBadInput with the place.
  Result<void> ExpectEnd();

 private:
  void SkipSpace();
  Result<void> Expect(char c);
  Error Bad(const char* what) const;
  Result<uint32_t> ReadHex4();

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace lode::text

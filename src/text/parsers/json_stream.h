// One JSON value passed on while a model writes it: what has been given out, with Close's text
// behind it, is strict JSON at every moment, whatever the model wrote.
//
// White space outside of strings is dropped. What models get wrong and still is clear is repaired
// on the way: line breaks and unknown escapes inside strings, lone surrogates, 'quotes', True,
// None, a comma before the end; a bare word, and a number that no double holds, become strings. A
// scalar, a key and a comma are withheld until it is certain that a whole member comes of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace lode::text {

class JsonStream {
 public:
  enum class Status {
    kMore,    // everything was consumed
    kDone,    // the value ended with the consumed bytes
    kBroken,  // the first byte that was not consumed cannot stand there
  };
  // Keys and scalars longer than this break the value; nothing longer is ever withheld.
  static constexpr size_t kWordBytesMax = 4096;

  // Reads from the front of `text`, appends to `out`; `consumed` says how much. A scalar ends
  // before the byte that ends it. After kDone and kBroken nothing more may be pushed.
  // Time: linear. The events do not depend on how the text is cut.
  Status Push(std::string_view text, std::string* out, size_t* consumed);
  // No more text comes. Appends what closes the value; a value that has not begun gives nothing.
  // True when the value was whole (a scalar at the very end of the text is).
  bool Close(std::string* out);

  // Some of the value has been given out.
  bool begun() const { return begun_; }
  size_t pending_bytes() const { return pending_.size() + word_.size(); }

 private:
  enum class State {
    kValue,       // a value must come
    kValueOrEnd,  // after '['
    kKeyOrEnd,    // after '{', and after a comma in an object
    kColon,
    kString,
    kEscape,  // after a backslash
    kHex,     // inside \uXXXX
    kWord,    // a scalar without quotes
    kAfter,   // a value has ended inside of a container
  };

  // False when `c` cannot stand here. A word's end is not consumed: *again asks for c once more.
  bool Step(char c, std::string* out, bool* again);
  bool BeginValue(char c, std::string* out);
  bool CloseContainer(char c, std::string* out);
  bool StringByte(char c, std::string* out, bool* again);
  bool EscapeByte(char c, std::string* out);
  bool HexByte(char c, std::string* out, bool* again);
  void EndWord(std::string* out);
  void Commit(std::string_view text, std::string* out);
  void Lone(std::string* out);
  void EndValue();

  State state_ = State::kValue;
  bool begun_ = false;
  bool done_ = false;
  std::string stack_;    // open containers, '{' and '['
  std::string pending_;  // a comma, a key: given out with the value they belong to
  std::string word_;     // a scalar, or the digits of \uXXXX
  char quote_ = '"';
  bool key_ = false;   // the string is a key
  uint32_t high_ = 0;  // a high surrogate that waits for its low one
};

}  // namespace lode::text

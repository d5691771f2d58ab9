// {"name": "f", "arguments": {...}}: one call as a JSON object, read byte by byte, in any order of
// its members; "parameters" is another word for "arguments", and {"type": "function", "function":
// {...}} wraps it. Arguments that are a string with the object's text inside are unwrapped.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "text/parsers/json_stream.h"

namespace lode::text {

// Arguments that come before their name are withheld up to this length.
constexpr size_t kEarlyArgumentsBytesMax = size_t{1} << 20;

class CallObject {
 public:
  enum class Status {
    kMore,
    kReady,   // once: the name is known and the arguments begin; push the rest again
    kDone,    // the object has ended; without arguments there was no kReady
    kBroken,  // no call, or not any more: the first byte that was not consumed is wrong
  };

  // `only_calls`: a member that calls do not have breaks the object, as long as it is not ready.
  explicit CallObject(bool only_calls = false) : only_calls_(only_calls) {}

  // From the front of `text`, which begins with '{'. Cuts do not matter.
  Status Push(std::string_view text, size_t* consumed);
  // No more text comes: closes the arguments, if they have begun.
  void Close() { arguments_.Close(&out_); }

  const std::string& name() const { return name_; }
  // JSON text of the arguments since the last call; in all one object, or nothing.
  std::string TakeArguments() { return std::exchange(out_, {}); }
  // The arguments have been closed by the model itself (or are none, and the object is closed).
  bool arguments_complete() const { return arguments_state_ == Arguments::kComplete; }
  bool arguments_begun() const { return arguments_state_ != Arguments::kNone; }
  size_t pending_bytes() const;

 private:
  enum class State {
    kStart,
    kMember,  // a key, a comma or the end
    kKey,
    kColon,
    kValue,
    kName,
    kOther,          // a value that is passed over
    kArguments,      // an object
    kArgumentsText,  // an object within a string
  };
  enum class Arguments { kNone, kOpen, kComplete };

  bool Step(std::string_view text, size_t* consumed);
  bool Member(char c);
  bool BeginValue(char c);
  bool Scalar(std::string_view text, size_t* consumed);
  bool ScalarEnds();
  bool FeedArguments(std::string_view text, size_t* consumed);
  bool FeedArgumentsText(std::string_view text, size_t* consumed);

  bool only_calls_;
  State state_ = State::kStart;
  int depth_ = 0;
  bool done_ = false;
  bool ready_ = false;      // reached
  bool announced_ = false;  // and said so
  JsonStream value_;        // a key, a name, a value to pass over, a string with arguments
  std::string text_;        // what value_ gave out
  std::string key_;
  std::string name_;
  JsonStream arguments_;
  Arguments arguments_state_ = Arguments::kNone;
  size_t early_bytes_ = 0;
  std::string out_;
};

}  // namespace lode::text

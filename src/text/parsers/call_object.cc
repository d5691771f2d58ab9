#include "text/parsers/call_object.h"

#include <algorithm>

#include "base/json.h"
#include "text/parsers/lookahead.h"

namespace lode::text {
namespace {

// The text of a JSON string, which JsonStream has written, so it is strict.
std::string Unquote(std::string_view json) {
  const Result<Json> value = ParseJson(json);
  return value.ok() && value->is_string() ? value->get<std::string>() : std::string();
}

bool IsArgumentsKey(std::string_view key) { return key == "arguments" || key == "parameters"; }

bool IsCallKey(std::string_view key) {
  return key == "name" || key == "type" || key == "id" || key == "function" || IsArgumentsKey(key);
}

}  // namespace

CallObject::Status CallObject::Push(std::string_view text, size_t* consumed) {
  size_t at = 0;
  while (at < text.size()) {
    size_t bytes = 0;
    const bool fine = Step(text.substr(at), &bytes);
    at += bytes;
    *consumed = at;
    if (!fine) return Status::kBroken;
    if (ready_ && !announced_) {
      announced_ = true;
      return Status::kReady;
    }
    if (done_) return Status::kDone;
  }
  *consumed = at;
  return Status::kMore;
}

size_t CallObject::pending_bytes() const {
  return value_.pending_bytes() + arguments_.pending_bytes() + text_.size() + out_.size() +
         key_.size() + name_.size();
}

bool CallObject::Step(std::string_view text, size_t* consumed) {
  const char c = text[0];
  *consumed = 1;
  bool fine = true;
  switch (state_) {
    case State::kStart:
      state_ = State::kMember;
      ++depth_;
      fine = c == '{';
      break;
    case State::kMember:
      fine = IsSpace(c) || Member(c);
      break;
    case State::kColon:
      if (c == ':') state_ = State::kValue;
      fine = c == ':' || IsSpace(c);
      break;
    case State::kValue:
      if (IsSpace(c)) return true;
      *consumed = 0;
      return BeginValue(c);
    case State::kKey:
    case State::kName:
    case State::kOther:
      return Scalar(text, consumed);
    case State::kArguments:
      return FeedArguments(text, consumed);
    case State::kArgumentsText:
      return FeedArgumentsText(text.substr(0, 1), consumed);
  }
  if (!fine) *consumed = 0;
  return fine;
}

bool CallObject::Member(char c) {
  if (c == ',') return true;
  if (c == '}') {
    done_ = --depth_ == 0;
    if (done_ && arguments_state_ == Arguments::kNone) arguments_state_ = Arguments::kComplete;
    return true;
  }
  if (c != '"' && c != '\'') return false;
  value_ = JsonStream();
  text_.clear();
  size_t consumed = 0;
  value_.Push(std::string_view(&c, 1), &text_, &consumed);
  state_ = State::kKey;
  return true;
}

// Decides what the value after `key_` is.
bool CallObject::BeginValue(char c) {
  value_ = JsonStream();
  text_.clear();
  state_ = State::kOther;
  if (key_ == "name" && name_.empty()) {
    state_ = State::kName;
    return c == '"' || c == '\'';
  }
  if (key_ == "function" && c == '{' && depth_ == 1) {
    state_ = State::kStart;  // its brace comes next
    return true;
  }
  if (!IsArgumentsKey(key_) || arguments_state_ != Arguments::kNone) return true;
  if (c == 'n' || c == 'N') {  // null: no arguments
    arguments_state_ = Arguments::kComplete;
    return true;
  }
  if (c != '{' && c != '"' && c != '\'') return false;
  arguments_state_ = Arguments::kOpen;
  ready_ = !name_.empty();
  state_ = c == '{' ? State::kArguments : State::kArgumentsText;
  return true;
}

bool CallObject::Scalar(std::string_view text, size_t* consumed) {
  if (state_ != State::kOther) {  // byte by byte, for the limit
    *consumed = 0;
    if (text_.size() > kNameBytesMax || static_cast<unsigned char>(text[0]) < 0x20) return false;
    text = text.substr(0, 1);
  }
  const JsonStream::Status status = value_.Push(text, &text_, consumed);
  if (status == JsonStream::Status::kBroken) return false;
  if (state_ == State::kOther) text_.clear();
  if (status == JsonStream::Status::kMore) return true;
  return ScalarEnds();
}

bool CallObject::ScalarEnds() {
  const State ended = state_;
  state_ = State::kMember;
  if (ended == State::kOther) return true;
  const std::string value = Unquote(text_);
  text_.clear();
  if (ended == State::kKey) {
    key_ = value;
    state_ = State::kColon;
    return !only_calls_ || ready_ || IsCallKey(key_);
  }
  name_ = value;
  ready_ = arguments_state_ != Arguments::kNone;
  return !name_.empty();
}

bool CallObject::FeedArguments(std::string_view text, size_t* consumed) {
  if (!ready_) {
    if (early_bytes_ >= kEarlyArgumentsBytesMax) return false;
    text = text.substr(0, kEarlyArgumentsBytesMax - early_bytes_);
  }
  const JsonStream::Status status = arguments_.Push(text, &out_, consumed);
  early_bytes_ += *consumed;
  if (status == JsonStream::Status::kBroken) return false;
  if (status == JsonStream::Status::kDone) {
    arguments_state_ = Arguments::kComplete;
    state_ = State::kMember;
  }
  return true;
}

// A byte at a time: where the inner object breaks must not depend on the cuts.
bool CallObject::FeedArgumentsText(std::string_view text, size_t* consumed) {
  if (!ready_ && ++early_bytes_ > kEarlyArgumentsBytesMax) return false;
  const JsonStream::Status status = value_.Push(text, &text_, consumed);
  if (status == JsonStream::Status::kBroken) return false;
  const bool ends = status == JsonStream::Status::kDone;
  std::string inner = std::exchange(text_, {});
  if (inner == "\"") {
    inner.clear();  // the beginning, or the end
  } else {
    if (ends) inner.pop_back();
    if (inner.find('\\') != std::string::npos) inner = Unquote('"' + inner + '"');
  }
  for (size_t at = 0; at < inner.size();) {
    if (arguments_state_ == Arguments::kComplete || !arguments_.begun()) {
      // Only the object, and white space around it.
      if (IsSpace(inner[at])) {
        ++at;
        continue;
      }
      if (arguments_state_ == Arguments::kComplete || inner[at] != '{') return false;
    }
    size_t bytes = 0;
    const JsonStream::Status status_inside =
        arguments_.Push(std::string_view(inner).substr(at), &out_, &bytes);
    at += bytes;
    if (status_inside == JsonStream::Status::kBroken) return false;
    if (status_inside == JsonStream::Status::kDone) arguments_state_ = Arguments::kComplete;
  }
  if (!ends) return true;
  state_ = State::kMember;
  // Nothing but white space inside: no arguments.
  if (!arguments_.begun()) arguments_state_ = Arguments::kComplete;
  return arguments_state_ == Arguments::kComplete;
}

}  // namespace lode::text

#include "text/parsers/json_calls.h"

#include <algorithm>

#include "text/parsers/argument_value.h"
#include "text/parsers/builtin_call.h"

namespace lode::text {
namespace {

// What may still turn out to be text is withheld no longer than this before its arguments begin.
constexpr size_t kUndecidedBytesMax = 4096;

std::string Escaped(std::string_view text) {
  std::string escaped;
  AppendEscaped(text, &escaped);
  return escaped;
}

}  // namespace

void JsonCallParser::Push(std::string_view text, std::vector<OutputEvent>* events) {
  buffer_.append(text);
  events_ = events;
  Run(/*end=*/false);
  events_ = nullptr;
}

void JsonCallParser::Finish(StopCause cause, std::vector<OutputEvent>* events) {
  events_ = events;
  Run(/*end=*/true);
  if (state_ == State::kObject) {
    if (committed_) {
      CloseObject();
    } else {
      Reject();
    }
  }
  if (state_ == State::kTag) BeginCode();
  if (state_ == State::kCode && !code_begun_) BeginCode();
  if (state_ == State::kCode) {
    Arguments("\"}");
    End(cause == StopCause::kStop);
  }
  if (state_ == State::kOutside) FinishSpace();
  DropSpace();
  state_ = State::kOutside;
  events_ = nullptr;
}

void JsonCallParser::Run(bool end) {
  while (at_ < buffer_.size() && Step(end)) {
  }
  buffer_.erase(0, at_);
  at_ = 0;
}

// Consumes something or changes the state; false when more bytes are needed.
bool JsonCallParser::Step(bool end) {
  switch (state_) {
    case State::kOutside:
      return Outside(end);
    case State::kObject:
      return Object();
    case State::kBetween:
      return Between(end);
    case State::kSkip:
      return Skip(end);
    case State::kTag:
      return PythonTag(end);
    case State::kCode:
      return Code(end);
  }
  return false;
}

bool JsonCallParser::Outside(bool end) {
  const std::string_view text = Rest();
  size_t bytes = 0;
  while (bytes < text.size() && IsSpace(text[bytes])) ++bytes;
  if (bytes > 0) {
    if (text.substr(0, bytes).find('\n') != std::string_view::npos) line_blank_ = true;
    Space(text.substr(0, bytes));
    at_ += bytes;
    return true;
  }
  if (style_.bare && line_blank_ && (text[0] == '{' || text[0] == '[')) return Bracket(end);
  if (style_.bare && after_call_) {
    bool joined = false;
    if (!Joint(end, &joined)) return false;
    if (joined) return true;
  }
  if (text[0] == '<') return Tag(end);
  while (bytes < text.size() && text[bytes] != '<' && !IsSpace(text[bytes])) ++bytes;
  Plain(text.substr(0, bytes));
  at_ += bytes;
  return true;
}

void JsonCallParser::Plain(std::string_view text) {
  Content(text);
  any_content_ = true;
  line_blank_ = false;
}

// Where a bare call may begin: its object, or a list of such.
bool JsonCallParser::Bracket(bool end) {
  Lookahead cursor(Rest());
  if (cursor.Literal("[") == Match::kYes) {
    const Match gap = cursor.Gap();
    if (gap == Match::kMore && !end) return false;
    if (gap != Match::kYes || cursor.Here() != '{') {
      Plain("[");
      at_ += 1;
      return true;
    }
    in_list_ = true;
  }
  raw_ = Rest().substr(0, cursor.at());
  at_ += cursor.at();
  StartObject(/*tagged=*/false);
  return true;
}

// After a bare call: what leads to the next one, or closes the list. False: more bytes are needed.
bool JsonCallParser::Joint(bool end, bool* joined) {
  const char c = Rest()[0];
  if (c == ']' && in_list_) {
    in_list_ = false;
    at_ += 1;
    *joined = true;
    return true;
  }
  if (c != ';' && c != ',') return true;
  Lookahead cursor(Rest().substr(1));
  const Match gap = cursor.Gap();
  if (gap == Match::kMore && !end) return false;
  if (gap != Match::kYes || cursor.Here() != '{') return true;
  raw_ = Rest().substr(0, 1 + cursor.at());
  at_ += 1 + cursor.at();
  StartObject(/*tagged=*/false);
  *joined = true;
  return true;
}

bool JsonCallParser::Tag(bool end) {
  const std::string_view text = Rest();
  Lookahead open(text);
  const bool code = style_.bare;  // anything may follow the tag
  const Match opened =
      code ? open.Literal(style_.open) : MatchJsonCallOpen(&open, style_.open);
  Lookahead stray(text);
  Match strayed = Match::kNo;
  if (after_call_ && !style_.close.empty()) strayed = stray.Literal(style_.close);
  if (strayed == Match::kNo && swallow_think_close_) strayed = stray.Literal(kThinkClose);
  if (opened == Match::kYes) {
    at_ += open.at();
    state_ = code ? State::kTag : State::kBetween;
    return true;
  }
  if (strayed == Match::kYes) {
    if (after_call_) DropSpace();
    at_ += stray.at();
    return true;
  }
  if ((opened == Match::kMore || strayed == Match::kMore) && !end) return false;
  if (opened == Match::kMore && text.size() >= style_.open.size()) {  // cut off in the head
    ++dropped_blocks_;
    DropSpace();
    at_ += text.size();
    return true;
  }
  Plain(text.substr(0, 1));
  at_ += 1;
  return true;
}

bool JsonCallParser::Between(bool end) {
  const std::string_view text = Rest();
  if (IsSpace(text[0]) || std::string_view(",;[]}").find(text[0]) != std::string_view::npos) {
    at_ += 1;
    return true;
  }
  if (text[0] == '{') {
    StartObject(/*tagged=*/true);
    return true;
  }
  Lookahead close(text);
  const Match closed = style_.close.empty() ? Match::kNo : close.Literal(style_.close);
  if (closed == Match::kMore && !end) return false;
  if (closed != Match::kNo) at_ += close.at();
  if (closed == Match::kMore) at_ += text.size();
  after_call_ = true;
  line_blank_ = true;
  state_ = State::kOutside;
  return true;
}

void JsonCallParser::StartObject(bool tagged) {
  tagged_ = tagged;
  committed_ = false;
  any_arguments_ = false;
  object_ = CallObject(style_.bare && !tagged);
  state_ = State::kObject;
}

bool JsonCallParser::Object() {
  std::string_view text = Rest();
  if (style_.bare && !committed_) {
    const size_t limit = object_.arguments_begun() ? kEarlyArgumentsBytesMax : kUndecidedBytesMax;
    if (raw_.size() >= limit) {
      Reject();
      return true;
    }
    text = text.substr(0, limit - raw_.size());
  }
  size_t consumed = 0;
  const CallObject::Status status = object_.Push(text, &consumed);
  if (style_.bare && !committed_) raw_.append(text.substr(0, consumed));
  at_ += consumed;
  if (committed_) PassArguments();
  switch (status) {
    case CallObject::Status::kMore:
      return true;
    case CallObject::Status::kReady:
      Ready();
      return true;
    case CallObject::Status::kDone:
      if (!committed_ && !object_.name().empty() &&
          (tagged_ || schemas_->Find(object_.name()) != nullptr)) {
        Ready();
      }
      break;
    case CallObject::Status::kBroken:
      break;
  }
  if (committed_) {
    const bool broken = status == CallObject::Status::kBroken;
    CloseObject();
    if (broken) state_ = State::kSkip;
  } else {
    Reject();
  }
  return true;
}

// It is a call; unless, in the middle of an answer, it only looks like one.
void JsonCallParser::Ready() {
  if (!tagged_ && any_content_ && schemas_->Find(object_.name()) == nullptr) {
    Reject();
    return;
  }
  DropSpace();
  raw_.clear();
  committed_ = true;
  Begin(object_.name());
  PassArguments();
}

void JsonCallParser::PassArguments() {
  const std::string json = object_.TakeArguments();
  any_arguments_ |= !json.empty();
  Arguments(json);
}

void JsonCallParser::CloseObject() {
  object_.Close();
  PassArguments();
  if (!any_arguments_) Arguments("{}");
  End(object_.arguments_complete());
  line_blank_ = true;
  state_ = style_.bare ? State::kOutside : State::kBetween;
}

// What was read of the object is no call: text in a bare answer, code behind the tag, else a block
// that nobody can read.
void JsonCallParser::Reject() {
  if (!style_.bare) {
    ++dropped_blocks_;
    after_call_ = true;
    DropSpace();
    state_ = State::kSkip;
    return;
  }
  in_list_ = false;
  if (tagged_) {
    BeginCode();
    Arguments(Escaped(raw_));
  } else {
    state_ = State::kOutside;
    Plain(raw_);
  }
  raw_.clear();
}

bool JsonCallParser::Skip(bool end) {
  const std::string_view text = Rest();
  if (style_.bare) {  // the rest of the line
    const size_t newline = text.find('\n');
    at_ += std::min(newline, text.size());
    if (newline != std::string_view::npos) state_ = State::kOutside;
    return true;
  }
  if (text[0] != '<') {
    at_ += std::min(text.find('<'), text.size());
    return true;
  }
  Lookahead close(text);
  Lookahead open(text);
  const Match closed = close.Literal(style_.close);
  const Match opened = MatchJsonCallOpen(&open, style_.open);
  if (closed == Match::kYes || opened == Match::kYes) {
    if (closed == Match::kYes) at_ += close.at();
    after_call_ = true;
    line_blank_ = true;
    state_ = State::kOutside;
    return true;
  }
  if ((closed == Match::kMore || opened == Match::kMore) && !end) return false;
  at_ += 1;
  return true;
}

bool JsonCallParser::PythonTag(bool end) {
  Lookahead cursor(Rest());
  Match gap = cursor.Gap();
  if (gap == Match::kYes && cursor.Literal("[") == Match::kYes) gap = cursor.Gap();
  if (gap == Match::kMore && !end) return false;
  DropSpace();
  if (gap == Match::kYes && cursor.Here() == '{') {
    raw_ = Rest().substr(0, cursor.at());
    at_ += cursor.at();
    in_list_ = raw_.find('[') != std::string::npos;
    StartObject(/*tagged=*/true);
    return true;
  }
  state_ = State::kCode;
  code_begun_ = false;
  return true;
}

// Code, or one call in the form NAME.call(...), which is withheld until it is closed.
bool JsonCallParser::Code(bool end) {
  if (!code_begun_) {
    const std::string_view text = Rest();
    BuiltinCall call;
    const Match match = MatchBuiltinCall(text, &call);
    if (match == Match::kMore && !end) return false;
    if (match == Match::kYes) {
      at_ += call.bytes;
      Begin(call.name);
      Arguments(call.arguments);
      End(/*complete=*/true);
      line_blank_ = true;
      state_ = State::kOutside;
      return true;
    }
    BeginCode();
  }
  Arguments(Escaped(Rest()));
  at_ = buffer_.size();
  return true;
}

void JsonCallParser::BeginCode() {
  std::string name = "code_interpreter";
  for (const char* known : {"python", "ipython", "code_interpreter"}) {
    if (schemas_->Find(known) != nullptr) name = known;
  }
  Begin(name);
  const bool one = schema_ != nullptr && schema_->parameters.size() == 1;
  Arguments("{" + QuoteJson(one ? schema_->parameters.begin()->first : "code") + ":\"");
  code_begun_ = true;
  state_ = State::kCode;
}

}  // namespace lode::text

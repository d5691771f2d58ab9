#include "text/parsers/tool_calls.h"

#include <algorithm>

#include "base/text.h"
#include "text/parsers/argument_value.h"

namespace lode::text {
namespace {

// A limit for the set of seen names; past it a name counts as seen.
constexpr size_t kSeenMax = 4096;

}  // namespace

void ToolCallParser::Push(std::string_view text, std::vector<OutputEvent>* events) {
  buffer_.append(text);
  events_ = events;
  Run(/*end=*/false);
  events_ = nullptr;
}

void ToolCallParser::Finish(StopCause, std::vector<OutputEvent>* events) {
  events_ = events;
  Run(/*end=*/true);
  switch (state_) {
    case State::kOutside:
      FinishSpace();
      break;
    case State::kHeader:
    case State::kSkip:
    case State::kAfterFunction:
      break;
    case State::kValueStart:
    case State::kValue:
      CloseValue(/*cut_off=*/true);
      EndCall(/*complete=*/false);
      break;
    case State::kInFunction:
      EndCall(/*complete=*/false);
      break;
  }
  state_ = State::kOutside;
  events_ = nullptr;
}

void ToolCallParser::Run(bool end) {
  while (at_ < buffer_.size() && Step(end)) {
  }
  buffer_.erase(0, at_);
  at_ = 0;
}

// Consumes something or changes the state; false when more bytes are needed. With `end` it always
// consumes.
bool ToolCallParser::Step(bool end) {
  switch (state_) {
    case State::kOutside:
      return Outside(end);
    case State::kHeader:
      return Header(end);
    case State::kSkip:
      return Skip(end);
    case State::kInFunction:
      return InFunction(end);
    case State::kValueStart:
      line_start_ = buffer_[at_] == '\n';
      if (line_start_) ++at_;
      state_ = State::kValue;
      return true;
    case State::kValue:
      return Value(end);
    case State::kAfterFunction:
      return AfterFunction(end);
  }
  return false;
}

bool ToolCallParser::Outside(bool end) {
  const std::string_view text = Rest();
  if (text[0] == '<') return OutsideTag(end);
  size_t bytes = 0;
  if (IsSpace(text[0])) {
    while (bytes < text.size() && IsSpace(text[bytes])) ++bytes;
    Space(text.substr(0, bytes));
  } else {
    while (bytes < text.size() && text[bytes] != '<' && !IsSpace(text[bytes])) ++bytes;
    Content(text.substr(0, bytes));
  }
  at_ += bytes;
  return true;
}

bool ToolCallParser::OutsideTag(bool end) {
  const std::string_view text = Rest();
  Lookahead call(text);
  const Match called = MatchCallOpen(&call);
  // Without the outer tag more is asked: a whole header and the tag after it.
  Lookahead bare(text);
  Match function = bare.Literal(kFunctionOpen);
  if (function == Match::kYes) function = bare.Name();
  if (function == Match::kYes) function = bare.Gap();
  if (function == Match::kYes) {
    const Match parameter = bare.Literal(kParameterOpen);
    const Match close = parameter == Match::kYes ? Match::kNo : bare.Literal(kFunctionClose);
    function = parameter == Match::kNo ? close : parameter;
  }
  // Tags that close what is closed already.
  Lookahead stray(text);
  Match strayed = after_call_ ? stray.Literal(kCallClose) : Match::kNo;
  if (strayed == Match::kNo && swallow_think_close_) strayed = stray.Literal(kThinkClose);

  if (called == Match::kYes || function == Match::kYes) {
    DropSpace();
    wrapped_ = called == Match::kYes;
    at_ += wrapped_ ? call.at() : kFunctionOpen.size();
    state_ = State::kHeader;
    return true;
  }
  if (strayed == Match::kYes) {
    if (after_call_) DropSpace();
    at_ += stray.at();
    return true;
  }
  const bool open = called == Match::kMore || function == Match::kMore || strayed == Match::kMore;
  if (open && !end) return false;
  if (called == Match::kMore && text.size() >= kCallOpen.size()) {
    // Cut off in the head of a call: not the reader's business.
    ++dropped_blocks_;
    DropSpace();
    at_ += text.size();
    return true;
  }
  Content(text.substr(0, 1));
  at_ += 1;
  return true;
}

bool ToolCallParser::Header(bool end) {
  Lookahead cursor(Rest());
  const Match named = cursor.Name();
  if (named == Match::kMore && !end) return false;
  if (named != Match::kYes) {
    ++dropped_blocks_;
    state_ = State::kSkip;
    return true;
  }
  BeginCall(cursor.name());
  at_ += cursor.at();
  state_ = State::kInFunction;
  return true;
}

// To the end of the broken block, or to the next good one.
bool ToolCallParser::Skip(bool end) {
  const std::string_view text = Rest();
  if (text[0] != '<') {
    at_ += std::min(text.find('<'), text.size());
    return true;
  }
  Lookahead close(text);
  Lookahead open(text);
  const Match closed = close.Literal(kCallClose);
  const Match opened = MatchCallOpen(&open);
  if (closed == Match::kYes || opened == Match::kYes) {
    if (closed == Match::kYes) at_ += close.at();
    after_call_ = true;
    state_ = State::kOutside;
    return true;
  }
  if ((closed == Match::kMore || opened == Match::kMore) && !end) return false;
  at_ += 1;
  return true;
}

bool ToolCallParser::InFunction(bool end) {
  const std::string_view text = Rest();
  if (text[0] != '<') {  // white space, or words that have no place here
    at_ += std::min(text.find('<'), text.size());
    return true;
  }
  Lookahead parameter(text);
  Match opened = parameter.Literal(kParameterOpen);
  if (opened == Match::kYes) opened = parameter.Name();
  Lookahead function(text);
  const Match closed = function.Literal(kFunctionClose);
  Lookahead call(text);
  const Match call_closed = call.Literal(kCallClose);
  Lookahead next(text);
  const Match next_opened = MatchCallOpen(&next);
  if (opened == Match::kYes) {
    OpenParameter(parameter.name());
    at_ += parameter.at();
    state_ = State::kValueStart;
    return true;
  }
  if (closed == Match::kYes) {
    EndCall(/*complete=*/true);
    at_ += function.at();
    state_ = wrapped_ ? State::kAfterFunction : State::kOutside;
    return true;
  }
  if (call_closed == Match::kYes) {
    EndCall(/*complete=*/true);
    at_ += call.at();
    state_ = State::kOutside;
    return true;
  }
  if (next_opened == Match::kYes) {
    EndCall(/*complete=*/false);
    state_ = State::kOutside;
    return true;
  }
  const bool open = opened == Match::kMore || closed == Match::kMore ||
                    call_closed == Match::kMore || next_opened == Match::kMore;
  if (open && !end) return false;
  at_ += 1;
  return true;
}

bool ToolCallParser::AfterFunction(bool end) {
  const std::string_view text = Rest();
  if (IsSpace(text[0])) {
    at_ += std::min(text.find_first_not_of(" \t\r\n"), text.size());
    return true;
  }
  Lookahead close(text);
  Lookahead function(text);
  const Match closed = close.Literal(kCallClose);
  const Match next = function.Literal(kFunctionOpen);
  if (next == Match::kYes) {  // a second function in the same block
    at_ += function.at();
    state_ = State::kHeader;
    return true;
  }
  if (closed != Match::kYes && (closed == Match::kMore || next == Match::kMore) && !end)
    return false;
  if (closed == Match::kYes) at_ += close.at();
  if (closed == Match::kMore || next == Match::kMore) at_ += text.size();  // cut off in a tag
  state_ = State::kOutside;
  return true;
}

bool ToolCallParser::Value(bool end) {
  const std::string_view text = Rest();
  const size_t special = text.find_first_of("\n<");
  if (special != 0) {
    const size_t bytes = std::min(special, text.size());
    ValueText(text.substr(0, bytes));
    at_ += bytes;
    return true;
  }
  // One newline before a closing tag is not part of the value.
  const size_t newline = text[0] == '\n' ? 1 : 0;
  if (newline == 1 && text.size() == 1) {
    if (end) at_ += 1;
    return end;
  }
  if (newline == 1 && text[1] != '<') {
    ValueText(text.substr(0, 1));
    at_ += 1;
    return true;
  }
  size_t bytes = 0;
  const bool line_start = newline == 1 || line_start_;
  switch (JudgeValueTag(text.substr(newline), line_start, end, &bytes)) {
    case Verdict::kWait:
      return false;
    case Verdict::kClose:
      at_ += newline + bytes;
      CloseValue(/*cut_off=*/false);
      state_ = State::kInFunction;
      return true;
    case Verdict::kOpenCall:
      ++nested_calls_;
      break;
    case Verdict::kCloseCall:
      --nested_calls_;
      break;
    case Verdict::kOpenFunction:
      ++nested_functions_;
      break;
    case Verdict::kCloseFunction:
      --nested_functions_;
      break;
    case Verdict::kText:
      break;
  }
  ValueText(text.substr(0, newline + bytes));
  at_ += newline + bytes;
  return true;
}

// What the '<' at the front of `text`, inside a value, is. `bytes`: how many belong to the verdict.
ToolCallParser::Verdict ToolCallParser::JudgeValueTag(std::string_view text, bool line_start,
                                                      bool end, size_t* bytes) const {
  const auto is = [&](Verdict verdict, const Lookahead& cursor) {
    *bytes = cursor.at();
    return verdict;
  };
  Lookahead close(text);
  Match closes = close.Literal(kParameterClose);
  if (closes == Match::kYes) {
    *bytes = close.at();
    closes = nested_calls_ > 0 ? NestedCloses(&close, end) : ParameterCloses(&close, end);
    if (closes == Match::kMore) return Verdict::kWait;
    return closes == Match::kYes ? Verdict::kClose : Verdict::kText;
  }

  Lookahead call(text);
  Match call_opens = MatchCallOpen(&call);
  if (call_opens == Match::kYes) call_opens = call.Name();
  if (call_opens == Match::kYes) return is(Verdict::kOpenCall, call);

  Lookahead call_end(text);
  const Match call_closes = nested_calls_ > 0 ? call_end.Literal(kCallClose) : Match::kNo;
  if (call_closes == Match::kYes) return is(Verdict::kCloseCall, call_end);

  // A function without the outer tags must show a parameter to count.
  const bool outermost = nested_calls_ == 0;
  Lookahead function(text);
  Match function_opens = outermost ? function.Literal(kFunctionOpen) : Match::kNo;
  if (function_opens == Match::kYes) function_opens = function.Name();
  const size_t header_bytes = function.at();
  if (function_opens == Match::kYes) function_opens = function.Gap();
  if (function_opens == Match::kYes) function_opens = function.Literal(kParameterOpen);
  if (function_opens == Match::kYes) {
    *bytes = header_bytes;
    return Verdict::kOpenFunction;
  }

  Lookahead function_end(text);
  const bool in_function = outermost && nested_functions_ > 0;
  const Match function_closes = in_function ? function_end.Literal(kFunctionClose) : Match::kNo;
  if (function_closes == Match::kYes) return is(Verdict::kCloseFunction, function_end);

  const bool may_end = outermost && !in_function && line_start;
  const Match implicit = may_end ? ImplicitClose(text, end) : Match::kNo;
  if (implicit == Match::kYes) {
    *bytes = 0;
    return Verdict::kClose;
  }

  for (const Match match :
       {closes, call_opens, call_closes, function_opens, function_closes, implicit}) {
    if (match == Match::kMore && !end) return Verdict::kWait;
  }
  if (closes == Match::kMore && line_start) {  // cut off inside the closing tag
    *bytes = text.size();
    return Verdict::kClose;
  }
  *bytes = 1;
  return Verdict::kText;
}

// After </parameter>: does a structural tag, or the end, follow?
Match ToolCallParser::ParameterCloses(Lookahead* cursor, bool end) const {
  const Match unfinished = end ? Match::kYes : Match::kMore;
  const Match gap = cursor->Gap();
  if (gap == Match::kMore) return unfinished;
  if (gap == Match::kNo) return Match::kNo;

  // Inside a function that the value has opened only the end of our whole call is certain.
  const bool in_function = nested_functions_ > 0;
  Lookahead parameter = *cursor;
  Match next = in_function ? Match::kNo : parameter.Literal(kParameterOpen);
  if (next == Match::kYes) next = parameter.Name();
  if (next == Match::kYes) return Match::kYes;

  Lookahead function = *cursor;
  Match closed = function.Literal(kFunctionClose);
  if (closed == Match::kYes && (wrapped_ || in_function)) {
    closed = function.Gap();
    if (closed == Match::kYes) {
      Match follows = Match::kNo;
      for (const std::string_view tag : {kCallClose, kCallOpen, kFunctionOpen}) {
        if (in_function && (tag != kCallClose || !wrapped_)) continue;
        Lookahead after = function;
        const Match match = after.Literal(tag);
        if (match != Match::kNo && follows != Match::kYes) follows = match;
      }
      closed = follows;
    }
  }
  if (closed == Match::kYes) return Match::kYes;

  Lookahead call = *cursor;
  const Match call_closed = wrapped_ ? call.Literal(kCallClose) : Match::kNo;
  if (call_closed == Match::kYes) return Match::kYes;

  const bool more = next == Match::kMore || closed == Match::kMore || call_closed == Match::kMore;
  return more ? unfinished : Match::kNo;
}

// After </parameter> inside a call that the value has opened: only when all closing tags follow and
// then the end of the text, this one is ours, and the value never closed what it opened.
Match ToolCallParser::NestedCloses(Lookahead* cursor, bool end) const {
  const Match unfinished = end ? Match::kYes : Match::kMore;
  Match match = cursor->Gap();
  if (match == Match::kYes) match = cursor->Literal(kFunctionClose);
  if (match == Match::kYes) match = cursor->Gap();
  if (match == Match::kYes) match = cursor->Literal(kCallClose);
  if (match == Match::kYes) match = cursor->Gap();
  if (match == Match::kMore) return unfinished;
  return Match::kNo;  // something else stands there, if only the text after the nested call
}

// A tag at the start of a line, though </parameter> is missing: the next parameter, if the tool has
// it and it was not given yet; or the closing tags followed by the end or by the next call.
Match ToolCallParser::ImplicitClose(std::string_view text, bool end) const {
  const Match unfinished = end ? Match::kYes : Match::kMore;

  Lookahead parameter(text);
  Match match = parameter.Literal(kParameterOpen);
  if (match == Match::kYes) match = parameter.Name();
  if (match == Match::kMore) return end ? Match::kNo : Match::kMore;
  if (match == Match::kYes) {
    const bool declared = schema_ != nullptr && schema_->parameters.contains(parameter.name());
    return declared && !seen_.contains(parameter.name()) ? Match::kYes : Match::kNo;
  }

  Lookahead close(text);
  match = close.Literal(kFunctionClose);
  if (match == Match::kMore) return end ? Match::kNo : Match::kMore;
  if (match == Match::kYes) {
    match = close.Gap();
    if (match == Match::kMore) return unfinished;
    if (match == Match::kNo) return Match::kNo;
  }
  match = close.Literal(kCallClose);
  if (match == Match::kMore) return close.at() == 0 && end ? Match::kNo : unfinished;
  if (match == Match::kNo && (wrapped_ || close.at() == 0)) return Match::kNo;
  if (match == Match::kYes) {
    match = close.Gap();
    if (match == Match::kMore) return unfinished;
    if (match == Match::kNo) return Match::kNo;
  }
  match = close.Literal(kCallOpen);
  if (match == Match::kMore) return unfinished;
  if (match == Match::kNo && !wrapped_) {
    match = close.Literal(kFunctionOpen);
    if (match == Match::kMore) return unfinished;
  }
  return match;
}

void ToolCallParser::BeginCall(std::string_view name) {
  Begin(name);
  seen_.clear();
  any_parameter_ = false;
}

void ToolCallParser::EndCall(bool complete) {
  Arguments(any_parameter_ ? "}" : "{}");
  End(complete);
}

void ToolCallParser::OpenParameter(std::string_view name) {
  type_ = ParameterType();
  if (schema_ != nullptr) {
    const auto declared = schema_->parameters.find(name);
    type_ = declared != schema_->parameters.end() ? declared->second : schema_->undeclared;
  }
  if (seen_.size() < kSeenMax) seen_.emplace(name);
  nested_calls_ = 0;
  nested_functions_ = 0;
  value_.clear();
  key_ = (any_parameter_ ? "," : "{") + QuoteJson(name) + ":";
  mode_ = ValueMode::kTyped;
  if (type_.kind == ValueKind::kString) {
    // Typed values bring their key when they close, so that one that is cut off leaves no trace.
    mode_ = type_.nullable ? ValueMode::kProbeNull : ValueMode::kStream;
    Arguments(mode_ == ValueMode::kStream ? key_ + '"' : key_);
    any_parameter_ = true;
  }
}

void ToolCallParser::ValueText(std::string_view text) {
  line_start_ = false;
  if (mode_ == ValueMode::kStream) {
    std::string escaped;
    AppendEscaped(text, &escaped);
    Arguments(escaped);
    return;
  }
  value_.append(text);
  const bool may_be_null =
      std::string_view("null").starts_with(value_) || std::string_view("None").starts_with(value_);
  if (mode_ == ValueMode::kProbeNull ? may_be_null : value_.size() <= kTypedValueBytesMax) return;
  // A string after all: from here on it is streamed.
  std::string json = mode_ == ValueMode::kTyped ? key_ + '"' : std::string("\"");
  AppendEscaped(value_, &json);
  Arguments(json);
  any_parameter_ = true;
  value_.clear();
  value_.shrink_to_fit();
  mode_ = ValueMode::kStream;
}

void ToolCallParser::CloseValue(bool cut_off) {
  switch (mode_) {
    case ValueMode::kStream:
      Arguments("\"");
      break;
    case ValueMode::kProbeNull:
      Arguments(ConvertArgument(value_, type_));
      break;
    case ValueMode::kTyped:
      if (!cut_off) {
        Arguments(key_);
        Arguments(ConvertArgument(value_, type_));
        any_parameter_ = true;
      }
      break;
  }
  value_.clear();
}

}  // namespace lode::text

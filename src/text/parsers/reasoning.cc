#include "text/parsers/reasoning.h"

namespace lode::text {

void ReasoningSplitter::Push(std::string_view text, std::string* reasoning, std::string* rest) {
  if (state_ == State::kRest) {
    rest->append(text);
    return;
  }
  buffer_.append(text);
  Run(/*end=*/false, reasoning, rest);
}

void ReasoningSplitter::Finish(std::string* reasoning, std::string* rest) {
  Run(/*end=*/true, reasoning, rest);
}

void ReasoningSplitter::Run(bool end, std::string* reasoning, std::string* rest) {
  bool going = true;
  while (going && at_ < buffer_.size()) {
    switch (state_) {
      case State::kStart:
        going = Start(end);
        break;
      case State::kInside:
        going = Inside(end, reasoning);
        break;
      case State::kAfterTag:
        if (buffer_[at_] == '\n') ++at_;
        state_ = State::kRest;
        break;
      case State::kRest:
        Emit(buffer_.size() - at_, rest);
        break;
    }
  }
  buffer_.erase(0, at_);
  at_ = 0;
}

// The very beginning: a model may write <think> again although the prompt has it, open a trace
// although it should not, or close one that is not open. None of these tags is for the reader.
bool ReasoningSplitter::Start(bool end) {
  Lookahead cursor(std::string_view(buffer_).substr(at_));
  const Match gap = cursor.Gap();
  if (gap == Match::kMore && !end) return false;
  if (gap == Match::kYes) {
    const Match open = cursor.Literal(kThinkOpen);
    const Match close = thinking_ ? Match::kNo : cursor.Literal(kThinkClose);
    if ((open == Match::kMore || close == Match::kMore) && !end) return false;
    if (open == Match::kYes || close == Match::kYes) {
      at_ += cursor.at();
      state_ = open == Match::kYes ? State::kInside : State::kAfterTag;
      return true;
    }
  }
  state_ = thinking_ ? State::kInside : State::kRest;
  return true;
}

bool ReasoningSplitter::Inside(bool end, std::string* reasoning) {
  const std::string_view text = std::string_view(buffer_).substr(at_);
  const size_t special = text.find_first_of("\n<");
  if (special != 0) {
    Emit(special == std::string_view::npos ? text.size() : special, reasoning);
    return true;
  }
  const size_t newline = text[0] == '\n' ? 1 : 0;  // belongs to the tag if one follows
  if (newline == 1 && text.size() == 1) {
    if (end) Emit(1, reasoning);
    return end;
  }
  if (text[newline] == '<') {
    Lookahead close(text.substr(newline));
    const Match closed = close.Literal(kThinkClose);
    Lookahead call(text.substr(newline));
    const bool line_start = newline == 1 || line_blank_;
    const Match called = call_opens_ != nullptr && line_start ? call_opens_(&call) : Match::kNo;
    if (closed == Match::kYes) {
      at_ += newline + close.at();
      state_ = State::kAfterTag;
      return true;
    }
    if (called == Match::kYes) {
      at_ += newline;
      state_ = State::kRest;
      ended_by_call_ = true;
      return true;
    }
    if ((closed == Match::kMore || called == Match::kMore) && !end) return false;
    Emit(newline + 1, reasoning);
    return true;
  }
  Emit(1, reasoning);
  return true;
}

void ReasoningSplitter::Emit(size_t bytes, std::string* out) {
  const std::string_view piece = std::string_view(buffer_).substr(at_, bytes);
  const size_t newline = piece.rfind('\n');
  const size_t line = newline == std::string_view::npos ? 0 : newline + 1;
  const bool blank = piece.find_first_not_of(" \t\r", line) == std::string_view::npos;
  line_blank_ = blank && (newline != std::string_view::npos || line_blank_);
  out->append(piece);
  at_ += bytes;
}

}  // namespace lode::text

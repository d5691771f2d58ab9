#include "text/parsers/harmony.h"

#include <algorithm>
#include <array>
#include <utility>

#include "text/parsers/argument_value.h"

namespace lode::text {
namespace {

constexpr std::string_view kChannelTag = "<|channel|>";
constexpr std::string_view kConstrainTag = "<|constrain|>";
constexpr std::string_view kFunctions = "functions.";
constexpr size_t kHeaderBytesMax = 512;
// Between two messages of one kind, which the client sees as one text.
constexpr std::string_view kMessageGap = "\n\n";

struct Header {
  std::string channel;
  std::string recipient;
};

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && !IsSpace(text[end])) ++end;
    if (end > at) words.emplace_back(text.substr(at, end - at));
    at = std::max(end, at + 1);
  }
  return words;
}

// "assistant to=functions.f<|channel|>commentary <|constrain|>json" and its variants.
Header ReadHeader(std::string text) {
  Header header;
  if (const size_t tag = text.find(kChannelTag); tag != std::string::npos) {
    size_t end = tag + kChannelTag.size();
    while (end < text.size() && !IsSpace(text[end]) && text[end] != '<') ++end;
    header.channel = text.substr(tag + kChannelTag.size(), end - tag - kChannelTag.size());
    text.replace(tag, end - tag, " ");
  }
  if (const size_t tag = text.find(kConstrainTag); tag != std::string::npos) text.resize(tag);
  for (const std::string& word : Words(text)) {
    if (word.starts_with("to=")) {
      header.recipient = word.substr(3);
    } else if (header.recipient.empty() && word.starts_with(kFunctions)) {
      header.recipient = word;  // the equals sign was forgotten
    }
  }
  if (header.recipient.starts_with(kFunctions)) header.recipient.erase(0, kFunctions.size());
  if (header.recipient == "assistant" || header.recipient == "user" || header.recipient == "all") {
    header.recipient.clear();
  }
  return header;
}

}  // namespace

void HarmonyParser::Push(std::string_view text, std::vector<OutputEvent>* events) {
  buffer_.append(text);
  events_ = events;
  Run(/*end=*/false);
  events_ = nullptr;
}

void HarmonyParser::Finish(StopCause cause, std::vector<OutputEvent>* events) {
  events_ = events;
  Run(/*end=*/true);
  if (state_ == State::kBody) CloseMessage(cause == StopCause::kStop);
  if (state_ == State::kHeader && !header_.empty()) ++dropped_blocks_;
  header_.clear();
  state_ = State::kBetween;
  events_ = nullptr;
}

void HarmonyParser::Run(bool end) {
  while (at_ < buffer_.size() && Step(end)) {
  }
  buffer_.erase(0, at_);
  at_ = 0;
}

HarmonyParser::Tag HarmonyParser::FindTag(std::string_view text, size_t* bytes) {
  constexpr std::array<std::pair<std::string_view, Tag>, 7> kTags = {{
      {"<|start|>", Tag::kStart},
      {kChannelTag, Tag::kChannel},
      {kConstrainTag, Tag::kConstrain},
      {"<|message|>", Tag::kMessage},
      {"<|end|>", Tag::kEnd},
      {"<|call|>", Tag::kEnd},
      {"<|return|>", Tag::kEnd},
  }};
  for (const auto& [literal, tag] : kTags) {
    Lookahead cursor(text);
    const Match match = cursor.Literal(literal);
    if (match == Match::kNo) continue;
    *bytes = literal.size();
    return match == Match::kYes ? tag : Tag::kMore;
  }
  *bytes = 1;
  return Tag::kNone;
}

// Consumes something or changes the state; false when more bytes are needed.
bool HarmonyParser::Step(bool end) {
  const std::string_view text = std::string_view(buffer_).substr(at_);
  size_t bytes = std::min(text.find('<'), text.size());
  Tag tag = Tag::kNone;
  if (bytes == 0) tag = FindTag(text, &bytes);
  if (tag == Tag::kMore) {
    if (!end) return false;
    tag = Tag::kNone;
    bytes = 1;
  }
  switch (state_) {
    case State::kStart:
      return Start(end);
    case State::kBetween:
      if (tag == Tag::kNone && IsSpace(text[0])) {
        at_ += 1;
        return true;
      }
      if (tag == Tag::kEnd) {
        at_ += bytes;
        return true;
      }
      state_ = State::kHeader;
      return true;
    case State::kHeader:
      return HeaderStep(tag, bytes);
    case State::kBody:
      break;
  }
  if (tag == Tag::kEnd || tag == Tag::kStart || tag == Tag::kChannel) {
    CloseMessage(/*complete=*/true);
    if (tag == Tag::kEnd) at_ += bytes;
    state_ = State::kBetween;
    return true;
  }
  if (tag == Tag::kNone) BodyText(text.substr(0, bytes));
  at_ += bytes;
  return true;
}

// The first header, or a text that has none and is the answer.
bool HarmonyParser::Start(bool end) {
  const std::string_view text = std::string_view(buffer_).substr(at_);
  Lookahead cursor(text);
  const Match gap = cursor.Gap();
  if (gap == Match::kMore && !end) return false;
  Match header = Match::kNo;
  if (gap == Match::kYes) {
    size_t bytes = 0;
    const Tag tag = FindTag(text.substr(cursor.at()), &bytes);
    header = cursor.Literal("to=");
    if (tag == Tag::kMore) header = Match::kMore;
    if (tag != Tag::kMore && tag != Tag::kNone && tag != Tag::kEnd) header = Match::kYes;
  }
  if (header == Match::kMore && !end) return false;
  state_ = header == Match::kYes ? State::kHeader : State::kBody;
  target_ = Target::kContent;
  return true;
}

bool HarmonyParser::HeaderStep(Tag tag, size_t bytes) {
  const std::string_view text = std::string_view(buffer_).substr(at_, bytes);
  at_ += bytes;
  if (tag == Tag::kMessage) {
    OpenMessage();
    return true;
  }
  if (tag == Tag::kStart) {
    header_.clear();
    return true;
  }
  if (tag == Tag::kEnd) {
    ++dropped_blocks_;
    header_.clear();
    state_ = State::kBetween;
    return true;
  }
  // Byte by byte as far as the limit goes.
  const size_t room = kHeaderBytesMax - header_.size();
  header_ += text.substr(0, room);
  if (text.size() <= room) return true;
  at_ -= text.size() - room;  // no header: what follows is the answer
  target_ = Target::kContent;
  any_text_ = false;
  state_ = State::kBody;
  BodyText(std::exchange(header_, {}));
  return true;
}

void HarmonyParser::OpenMessage() {
  const Header header = ReadHeader(std::exchange(header_, {}));
  any_text_ = false;
  state_ = State::kBody;
  if (!header.recipient.empty() && calls_wanted_) {
    target_ = Target::kCall;
    body_ = Body::kUnknown;
    call_complete_ = false;
    json_ = JsonStream();
    Begin(header.recipient);
  } else if (header.channel == "analysis" && header.recipient.empty()) {
    target_ = Target::kReasoning;
  } else {
    target_ = Target::kContent;
  }
}

void HarmonyParser::BodyText(std::string_view text) {
  if (target_ == Target::kCall) return CallText(text);
  const bool reasoning = target_ == Target::kReasoning;
  const OutputEvent::Kind kind =
      reasoning ? OutputEvent::Kind::kReasoning : OutputEvent::Kind::kContent;
  bool& any = reasoning ? any_reasoning_ : any_content_;
  if (!any_text_ && any) Text(kind, kMessageGap);
  any_text_ = true;
  any = true;
  Text(kind, text);
}

void HarmonyParser::CallText(std::string_view text) {
  if (body_ == Body::kUnknown) {
    while (!text.empty() && IsSpace(text[0])) text.remove_prefix(1);
    if (text.empty()) return;
    body_ = text[0] == '{' ? Body::kJson : Body::kText;
    if (body_ == Body::kText) {
      const bool one = schema_ != nullptr && schema_->parameters.size() == 1;
      Arguments("{" + QuoteJson(one ? schema_->parameters.begin()->first : "code") + ":\"");
    }
  }
  std::string json;
  if (body_ == Body::kText) AppendEscaped(text, &json);
  if (body_ == Body::kJson) {
    size_t consumed = 0;
    const JsonStream::Status status = json_.Push(text, &json, &consumed);
    if (status == JsonStream::Status::kBroken) json_.Close(&json);
    if (status != JsonStream::Status::kMore) body_ = Body::kIgnored;
    call_complete_ = status == JsonStream::Status::kDone;
  }
  Arguments(json);
}

void HarmonyParser::CloseMessage(bool complete) {
  if (target_ != Target::kCall) return;
  std::string json;
  if (body_ == Body::kUnknown) {
    json = "{}";
    call_complete_ = complete;
  } else if (body_ == Body::kText) {
    json = "\"}";
    call_complete_ = complete;
  } else if (body_ == Body::kJson) {
    json_.Close(&json);
  }
  json_ = JsonStream();
  Arguments(json);
  End(call_complete_);
  target_ = Target::kContent;
}

}  // namespace lode::text

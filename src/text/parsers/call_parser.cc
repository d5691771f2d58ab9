#include "text/parsers/call_parser.h"

#include "base/text.h"
#include "text/parsers/lookahead.h"

namespace lode::text {
namespace {

// Several well-spread ids from one seed (the finalizer of SplitMix64, Steele et al. 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

void CallParser::Begin(std::string_view name) {
  OutputEvent event;
  event.kind = OutputEvent::Kind::kCallBegin;
  event.index = ++call_index_;
  event.id = Format("call_%016llx", static_cast<unsigned long long>(
                                        Mix(Mix(id_seed_) + static_cast<uint64_t>(call_index_))));
  event.name = name;
  events_->push_back(std::move(event));
  schema_ = schemas_->Find(name);
  if (schema_ == nullptr) ++unknown_calls_;
  after_call_ = true;
}

void CallParser::End(bool complete) {
  OutputEvent event;
  event.kind = OutputEvent::Kind::kCallEnd;
  event.index = call_index_;
  event.complete = complete;
  events_->push_back(std::move(event));
}

void CallParser::Content(std::string_view text) {
  Text(OutputEvent::Kind::kContent, space_);
  Text(OutputEvent::Kind::kContent, text);
  space_.clear();
  space_is_content_ = false;
  after_call_ = false;
}

void CallParser::Space(std::string_view text) {
  for (size_t i = 0; i < text.size() && !space_is_content_; ++i) {
    space_ += text[i];
    if (space_.size() <= kGapBytesMax) continue;
    // Too long a run to hold back for a call that may follow.
    Content("");
    space_is_content_ = true;
    text.remove_prefix(i + 1);
  }
  if (space_is_content_) Text(OutputEvent::Kind::kContent, text);
}

void CallParser::DropSpace() {
  space_.clear();
  space_is_content_ = false;
}

void CallParser::FinishSpace() {
  if (!after_call_) Text(OutputEvent::Kind::kContent, space_);
  space_.clear();
}

}  // namespace lode::text

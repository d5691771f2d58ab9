#include "chat/stop_strings.h"

#include <algorithm>
#include <utility>

namespace lode::chat {
namespace {

// The longest end of `text` that is the beginning of `stop`, and not all of it.
size_t Overlap(std::string_view text, std::string_view stop) {
  size_t length = std::min(text.size(), stop.size() - 1);
  while (length > 0 && text.substr(text.size() - length) != stop.substr(0, length)) --length;
  return length;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops, bool include)
    : stops_(std::move(stops)), include_(include) {
  std::erase_if(stops_, [](const std::string& stop) { return stop.empty(); });
}

std::optional<std::string> StopStrings::Push(std::string_view text, std::string* out) {
  if (matched_) return std::nullopt;
  if (stops_.empty()) {
    out->append(text);
    return std::nullopt;
  }
  held_ += text;
  const std::string* match = nullptr;
  size_t begin = 0, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const size_t stop_end = at + stop.size();
    if (match != nullptr && (stop_end > end || (stop_end == end && at >= begin))) continue;
    match = &stop;
    begin = at;
    end = stop_end;
  }
  if (match != nullptr) {
    matched_ = true;
    out->append(held_, 0, include_ ? end : begin);
    held_.clear();
    return *match;
  }
  size_t hold = 0;
  for (const std::string& stop : stops_) hold = std::max(hold, Overlap(held_, stop));
  out->append(held_, 0, held_.size() - hold);
  held_.erase(0, held_.size() - hold);
  return std::nullopt;
}

void StopStrings::Flush(std::string* out) {
  out->append(held_);
  held_.clear();
}

}  // namespace lode::chat

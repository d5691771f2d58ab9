#include "api/context_text.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace lode::api {
namespace {

constexpr int64_t kShort = 1024;   // so many are joined with whatever comes
constexpr int64_t kLong = 65536;   // no segment becomes longer by joining

}  // namespace

std::vector<int32_t> ContextText::Ids() const {
  std::vector<int32_t> ids(static_cast<size_t>(size_));
  int64_t end = size_;
  for (const Segment* at = last_.get(); at != nullptr; at = at->before.get()) {
    std::copy_n(at->ids.begin(), end - at->begin, ids.begin() + at->begin);
    end = at->begin;
  }
  LODE_CHECK(end == 0);
  return ids;
}

ContextText ContextText::Append(std::span<const int32_t> ids) const {
  if (ids.empty()) return *this;
  // Which segments at the end are joined with the new ids.
  int64_t begin = size_;
  std::shared_ptr<const Segment> before = last_;
  while (before != nullptr) {
    const int64_t behind = size_ - begin + static_cast<int64_t>(ids.size());
    const int64_t length = begin - before->begin;
    if (length > std::max(behind, kShort) || length + behind > kLong) break;
    begin = before->begin;
    before = before->before;
  }
  auto segment = std::make_shared<Segment>();
  segment->ids.resize(static_cast<size_t>(size_ - begin));
  int64_t end = size_;
  for (const Segment* at = last_.get(); end > begin; at = at->before.get()) {
    std::copy_n(at->ids.begin(), end - at->begin, segment->ids.begin() + (at->begin - begin));
    end = at->begin;
  }
  segment->ids.insert(segment->ids.end(), ids.begin(), ids.end());
  segment->begin = begin;
  segment->before = std::move(before);
  ContextText text;
  text.size_ = size_ + static_cast<int64_t>(ids.size());
  text.last_ = std::move(segment);
  return text;
}

ContextText ContextText::First(int64_t tokens) const {
  LODE_CHECK(0 <= tokens);
  LODE_CHECK(tokens <= size_);
  ContextText text;
  text.size_ = tokens;
  text.last_ = last_;
  while (text.last_ != nullptr && text.last_->begin >= tokens) text.last_ = text.last_->before;
  return text;
}

}  // namespace lode::api

// The ids of a context: immutable segments that contexts share, so that a fork copies a pointer.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace lode::api {

// A value: cheap to copy, never changed in place. Threads: const calls at once, also on texts that
// share segments.
class ContextText {
 public:
  int64_t size() const { return size_; }
  std::vector<int32_t> Ids() const;
  // This text with more ids behind it. Copies those, and at most as many again of short segments at
  // the end that it joins them with: a chain of n tokens has about log n segments, or n / 65,536.
  ContextText Append(std::span<const int32_t> ids) const;
  // Its first so many ids (at most size()).
  ContextText First(int64_t tokens) const;

 private:
  struct Segment {
    std::shared_ptr<const Segment> before;
    int64_t begin = 0;
    std::vector<int32_t> ids;
  };

  std::shared_ptr<const Segment> last_;  // may go on behind size_
  int64_t size_ = 0;
};

}  // namespace lode::api

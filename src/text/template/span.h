// A range of bytes [begin, end) of a text.
#pragma once

#include <cstddef>

namespace lode::text {

struct ByteSpan {
  size_t begin = 0;
  size_t end = 0;
  friend bool operator==(const ByteSpan&, const ByteSpan&) = default;
};

}  // namespace lode::text

// The whole of a text to an open file at once, for files that grow while a run goes on.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace lode::tune {

// `path` is for messages.
inline Result<void> WriteAll(int descriptor, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t wrote = write(descriptor, text.data(), text.size());
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return SystemError("cannot write", path, errno);
    text.remove_prefix(static_cast<size_t>(wrote));
  }
  return {};
}

}  // namespace lode::tune

// Checksums of files, as a hub names them. OpenSSL does the arithmetic; nothing here is a secret.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"

namespace lode::hub {

enum class HashKind {
  kSha256,   // of the bytes: files in large-file storage
  kGitBlob,  // SHA-1 of "blob SIZE\0" and the bytes: files in the git tree
};

// The hash of a whole file in lower-case hex. Reads it once; `stop` is asked now and then and ends
// it with kCancelled.
Result<std::string> HashFile(const std::string& path, HashKind kind,
                             const std::function<bool()>& stop = {});

// Whether `text` is lower-case hex of `digits` digits.
bool IsHex(const std::string& text, size_t digits);

}  // namespace lode::hub

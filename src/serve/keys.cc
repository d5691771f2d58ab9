#include "serve/keys.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include "base/file.h"
#include "base/text.h"

namespace lode::serve {
namespace {

constexpr uint64_t kFileBytesMax = 4 << 20;

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

template <size_t kBytes>
bool ParseHex(std::string_view text, std::array<unsigned char, kBytes>* bytes) {
  if (text.size() != 2 * kBytes) return false;
  for (size_t i = 0; i < kBytes; ++i) {
    const int high = HexDigit(text[2 * i]), low = HexDigit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    (*bytes)[i] = static_cast<unsigned char>(high * 16 + low);
  }
  return true;
}

Result<void> ReadLimit(const std::string& word, Keys::Rights* rights) {
  chat::TenantLimits* limits = &rights->limits;
  const size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
  int64_t count = 0;
  if (name == "weight" && ParseDouble(value, &limits->weight) && limits->weight > 0.0) return {};
  if (name == "running" && ParseInt64(value, &count) && count >= 0) {
    limits->running_max = count;
    return {};
  }
  if (name == "queue" && ParseInt64(value, &count) && count >= 0) {
    limits->queue_max = count;
    return {};
  }
  if (name == "contexts" && ParseInt64(value, &count) && count >= 0) {
    rights->contexts_max = count;
    return {};
  }
  if (name == "rpm" && ParseInt64(value, &count) && count > 0) {
    rights->per_minute = count;
    return {};
  }
  if (name == "publish" && (value == "yes" || value == "no")) {
    rights->may_publish = value == "yes";
    return {};
  }
  constexpr int64_t kMegabytesMax = int64_t{1} << 40;
  if (name == "pinned_mb" && ParseInt64(value, &count) && count >= 0 && count <= kMegabytesMax) {
    limits->pin_bytes_max = static_cast<uint64_t>(count) << 20;
    return {};
  }
  return Error(Code::kBadInput, Quote(word) + " is none of weight=, running=, queue=, rpm=, "
                                              "pinned_mb=, contexts=, publish=");
}

std::vector<std::string> Words(std::string_view line) {
  std::vector<std::string> words;
  for (const std::string& word : Split(line, ' ')) {
    if (!word.empty()) words.push_back(word);
  }
  return words;
}

}  // namespace

Result<Keys> Keys::Parse(std::string_view text) {
  Keys keys;
  int number = 0;
  for (std::string line : Split(text, '\n')) {
    ++number;
    for (char& c : line) c = c == '\t' || c == '\r' ? ' ' : c;
    const std::vector<std::string> words = Words(line.substr(0, line.find('#')));
    if (words.empty()) continue;
    const std::string where = "line " + std::to_string(number);
    Entry entry;
    entry.name = words[0];
    if (words.size() < 2 || !ParseHex(words[1], &entry.digest)) {
      return Error(Code::kBadInput, where + ": a name and 64 hex digits are expected",
                   "printf %s KEY | sha256sum");
    }
    Rights rights;
    for (size_t i = 2; i < words.size(); ++i) {
      if (auto read = ReadLimit(words[i], &rights); !read.ok()) {
        return std::move(read.error().AddContext(where));
      }
    }
    keys.entries_.push_back(std::move(entry));
    keys.tenants_[words[0]] = rights;
  }
  return keys;
}

Result<Keys> Keys::Read(const std::string& path) {
  LODE_ASSIGN(const std::string text, ReadFile(path, kFileBytesMax));
  auto keys = Parse(text);
  if (!keys.ok()) return std::move(keys.error().AddContext(path));
  if (keys->empty()) return Error(Code::kBadInput, path + ": holds no key");
  return keys;
}

std::string Keys::Find(std::string_view key) const {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), digest.data());
  const Entry* found = nullptr;
  for (const Entry& entry : entries_) {
    if (CRYPTO_memcmp(entry.digest.data(), digest.data(), digest.size()) == 0) found = &entry;
  }
  return found == nullptr || key.empty() ? "" : found->name;
}

}  // namespace lode::serve

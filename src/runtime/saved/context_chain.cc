#include "runtime/saved/context_chain.h"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "base/check.h"

namespace lode::runtime {
namespace {

struct ContextDeleter {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

// SHA-256, many times with one set-up of the library.
class Hasher {
 public:
  Hasher() : algorithm_(EVP_MD_fetch(nullptr, "SHA256", nullptr)), context_(EVP_MD_CTX_new()) {
    LODE_CHECK(algorithm_ != nullptr);
    LODE_CHECK(context_ != nullptr);
  }
  ~Hasher() { EVP_MD_free(algorithm_); }
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  void Begin() { LODE_CHECK(EVP_DigestInit_ex2(context_.get(), algorithm_, nullptr) == 1); }
  void Add(const void* data, size_t bytes) {
    LODE_CHECK(EVP_DigestUpdate(context_.get(), data, bytes) == 1);
  }
  template <typename T>
  void Add(const T& value) {
    Add(&value, sizeof(value));
  }
  ContextDigest End() {
    ContextDigest digest;
    LODE_CHECK(EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()),
                                  nullptr) == 1);
    return digest;
  }

 private:
  EVP_MD* algorithm_;
  std::unique_ptr<EVP_MD_CTX, ContextDeleter> context_;
};

}  // namespace

std::vector<ContextDigest> ChainTokens(const ContextDigest& model, const ContextDigest& numerics,
                                       int64_t page_tokens, std::span<const int32_t> tokens,
                                       std::span<const ContextRun> runs) {
  LODE_CHECK(page_tokens > 0);
  LODE_CHECK(runs.empty() || runs.front().first == 0);
  constexpr char kName[] = {'l', 'o', 'd', 'e', '.', 'c', 't', 'x', '.', '1'};
  const ContextRun plain;
  Hasher hasher;
  hasher.Begin();
  hasher.Add(kName);
  hasher.Add(model);
  hasher.Add(numerics);
  hasher.Add(static_cast<uint32_t>(page_tokens));
  ContextDigest digest = hasher.End();

  std::vector<ContextDigest> chain;
  const int64_t count = static_cast<int64_t>(tokens.size());
  chain.reserve(static_cast<size_t>((count + page_tokens - 1) / page_tokens));
  size_t run = 0;
  for (int64_t begin = 0; begin < count; begin += page_tokens) {
    const int64_t end = std::min(begin + page_tokens, count);
    hasher.Begin();
    hasher.Add(digest);
    for (int64_t at = begin; at < end;) {
      while (run + 1 < runs.size() && runs[run + 1].first <= at) ++run;
      const ContextRun& how = runs.empty() ? plain : runs[run];
      const int64_t stop = run + 1 < runs.size() ? std::min(end, runs[run + 1].first) : end;
      hasher.Add(static_cast<uint8_t>(how.kind));
      hasher.Add(how.adapter);
      hasher.Add(static_cast<uint32_t>(stop - at));
      hasher.Add(tokens.data() + at, static_cast<size_t>(stop - at) * sizeof(int32_t));
      at = stop;
    }
    digest = hasher.End();
    chain.push_back(digest);
  }
  return chain;
}

int64_t SharedTokens(std::span<const int32_t> a, std::span<const ContextRun> a_runs,
                     std::span<const int32_t> b, std::span<const ContextRun> b_runs) {
  const size_t shorter = std::min(a.size(), b.size());
  const auto end = a.begin() + static_cast<ptrdiff_t>(shorter);
  const int64_t same = std::mismatch(a.begin(), end, b.begin()).first - a.begin();
  const ContextRun plain;
  size_t i = 0;
  size_t j = 0;
  for (int64_t at = 0; at < same;) {
    const ContextRun& x = a_runs.empty() ? plain : a_runs[i];
    const ContextRun& y = b_runs.empty() ? plain : b_runs[j];
    if (x.kind != y.kind || x.adapter != y.adapter) return at;
    const int64_t x_end = i + 1 < a_runs.size() ? a_runs[i + 1].first : same;
    const int64_t y_end = j + 1 < b_runs.size() ? b_runs[j + 1].first : same;
    at = std::min(x_end, y_end);
    if (x_end == at && i + 1 < a_runs.size()) ++i;
    if (y_end == at && j + 1 < b_runs.size()) ++j;
  }
  return same;
}

ContextDigest Sha256(std::span<const std::byte> bytes) {
  Hasher hasher;
  hasher.Begin();
  hasher.Add(bytes.data(), bytes.size());
  return hasher.End();
}

ContextDigest Sha256(const std::string& text) { return Sha256(std::as_bytes(std::span(text))); }

std::string DigestText(const ContextDigest& digest, int digits) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : digest) {
    text += kHex[std::to_integer<int>(byte) >> 4];
    text += kHex[std::to_integer<int>(byte) & 15];
  }
  return text.substr(0, static_cast<size_t>(digits));
}

}  // namespace lode::runtime

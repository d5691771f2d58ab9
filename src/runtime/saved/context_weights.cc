#include "runtime/saved/context_weights.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <memory>
#include <string>

#include "base/json.h"

namespace lode::runtime {
namespace {

constexpr size_t kPiece = size_t{16} << 20;

}  // namespace

Result<ContextDigest> DigestWeights(const tensor::TensorSource& source,
                                    const std::function<bool(uint64_t done)>& progress) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash(XXH3_createState(),
                                                                      &XXH3_freeState);
  if (hash == nullptr) return Error(Code::kNoSpace, "no memory for a digest");
  std::string text = "lode.weights.1\n" + DumpJson(source.config()) + "\n";
  uint64_t done = 0;
  for (const tensor::TensorInfo& info : source.tensors()) {
    text += info.name + "\n" + tensor::Name(info.dtype) + (info.packed ? " packed" : "");
    for (const int64_t dim : info.shape) text += " " + std::to_string(dim);
    text += "\n";
    const auto bytes = source.View(info).bytes;
    (void)XXH3_128bits_reset(hash.get());
    for (size_t at = 0; at < bytes.size(); at += kPiece) {
      const auto piece = bytes.subspan(at, std::min(kPiece, bytes.size() - at));
      (void)XXH3_128bits_update(hash.get(), piece.data(), piece.size());
      done += piece.size();
      if (progress && !progress(done)) return Error(Code::kCancelled, "cancelled");
    }
    XXH128_canonical_t digest;
    XXH128_canonicalFromHash(&digest, XXH3_128bits_digest(hash.get()));
    text.append(reinterpret_cast<const char*>(digest.digest), sizeof(digest.digest));
  }
  return Sha256(text);
}

}  // namespace lode::runtime

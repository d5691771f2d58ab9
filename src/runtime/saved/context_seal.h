// Encryption of saved contexts, as a hook: a Sealer turns a record's payload into one that only
// holders of its key can read or make. The default is AES-256-GCM by OpenSSL.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/function_ref.h"
#include "base/result.h"
#include "runtime/saved/context_chain.h"

namespace lode::runtime {

using ContextSalt = std::array<std::byte, 16>;   // of a file
using ContextNonce = std::array<std::byte, 12>;  // of a record; stored in front of the payload

// Threads: const calls at once.
class Sealer {
 public:
  virtual ~Sealer() = default;
  // Names the key without betraying it; stored in the file.
  virtual ContextDigest key_id() const = 0;
  // Bytes by which a sealed payload is longer than the plain one (the tag).
  virtual size_t overhead() const = 0;
  // `sealed` is overhead() longer than `plain`; the spans do not overlap. `header` is authenticated
  // too. No (salt, nonce) is used for two different payloads.
  virtual Result<void> Seal(const ContextSalt& salt, const ContextNonce& nonce,
                            std::span<const std::byte> header, std::span<const std::byte> plain,
                            std::span<std::byte> sealed) const = 0;
  // Errors: kBadInput when the payload, the header or the key is not the one that was sealed.
  virtual Result<void> Open(const ContextSalt& salt, const ContextNonce& nonce,
                            std::span<const std::byte> header, std::span<const std::byte> sealed,
                            std::span<std::byte> plain) const = 0;
  // The same in pieces of bounded length, in order. Whether it is what was sealed is only known at
  // the end: until then the pieces are an enemy's. Errors: those of `take`, too.
  virtual Result<void> OpenInPieces(
      const ContextSalt& salt, const ContextNonce& nonce, std::span<const std::byte> header,
      std::span<const std::byte> sealed,
      FunctionRef<Result<void>(std::span<const std::byte> piece)> take) const = 0;
};

// Each file is encrypted with a key of its own, HMAC-SHA256(key, salt): nonces need to differ
// within a file only.
std::unique_ptr<Sealer> MakeAesGcmSealer(const std::array<std::byte, 32>& key);

}  // namespace lode::runtime

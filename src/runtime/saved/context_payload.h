// From a record's bytes in memory to those in a file and back: compression, then sealing, then the
// checksum.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "runtime/saved/context_format.h"

namespace lode::runtime {

// What payloads of one file have in common.
struct PayloadKey {
  const ContextSalt& salt;
  std::span<const std::byte> facts;  // the superblock's, kFactsBytes
  const Sealer* sealer;              // sealed files
};

// Completes `record` (codec, planes, lengths, hash) and returns what is to be stored: `raw` itself
// or bytes in `buffer`. `level` 0: no compression. `nonce` only matters with a sealer.
Result<std::span<const std::byte>> EncodePayload(const PayloadKey& key, const ContextNonce& nonce,
                                                 int level, std::span<const std::byte> raw,
                                                 ContextRecord* record,
                                                 std::vector<std::byte>* buffer);

// Checks everything that can be checked and fills `target`, record.raw_bytes long. Errors:
// kBadInput.
Result<void> DecodePayload(const PayloadKey& key, const ContextRecord& record,
                           std::span<const std::byte> stored, std::span<std::byte> target);
// The same without a target.
Result<void> CheckPayload(const PayloadKey& key, const ContextRecord& record,
                          std::span<const std::byte> stored);

}  // namespace lode::runtime

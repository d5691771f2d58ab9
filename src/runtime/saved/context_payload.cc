#include "runtime/saved/context_payload.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "runtime/saved/context_codec.h"

namespace lode::runtime {
namespace {

std::vector<std::byte> Authenticated(const PayloadKey& key, const ContextRecord& record) {
  FactsBytes facts;
  LODE_CHECK(key.facts.size() == facts.size());
  std::copy(key.facts.begin(), key.facts.end(), facts.begin());
  return SealedHeader(facts, record);
}

// `plain` is as long as the sealed payload without nonce and tag.
Result<void> Unseal(const PayloadKey& key, const ContextRecord& record,
                    std::span<const std::byte> stored, std::span<std::byte> plain) {
  ContextNonce nonce;
  std::copy_n(stored.begin(), nonce.size(), nonce.begin());
  return key.sealer->Open(key.salt, nonce, Authenticated(key, record), stored.subspan(nonce.size()),
                          plain);
}

Result<void> UnsealInPieces(const PayloadKey& key, const ContextRecord& record,
                            std::span<const std::byte> stored,
                            FunctionRef<Result<void>(std::span<const std::byte>)> take) {
  ContextNonce nonce;
  std::copy_n(stored.begin(), nonce.size(), nonce.begin());
  return key.sealer->OpenInPieces(key.salt, nonce, Authenticated(key, record),
                                  stored.subspan(nonce.size()), take);
}

// An empty `target`: only checked.
Result<void> UnsealCompressed(const PayloadKey& key, const ContextRecord& record,
                              std::span<const std::byte> stored, std::span<std::byte> target) {
  Decompressor out(target, record.raw_bytes, record.planes);
  LODE_TRY(UnsealInPieces(key, record, stored,
                          [&](std::span<const std::byte> piece) { return out.Push(piece); }));
  return out.Finish();
}

Result<void> CheckHash(const ContextRecord& record, std::span<const std::byte> stored) {
  if (HashPayload(stored) == record.hash) return {};
  return Error(Code::kBadInput, "its checksum is wrong");
}

}  // namespace

Result<std::span<const std::byte>> EncodePayload(const PayloadKey& key, const ContextNonce& nonce,
                                                 int level, std::span<const std::byte> raw,
                                                 ContextRecord* record,
                                                 std::vector<std::byte>* buffer) {
  record->raw_bytes = raw.size();
  record->codec = RecordCodec::kRaw;
  record->planes = 1;
  std::span<const std::byte> stored = raw;
  Compressed compressed;
  if (level != 0) {
    compressed = Compress(raw, level);
    if (!compressed.bytes.empty()) {
      record->codec = RecordCodec::kZstd;
      record->planes = compressed.planes;
      stored = compressed.bytes;
    }
  }
  record->sealed = key.sealer != nullptr;
  if (!record->sealed) {
    if (record->codec == RecordCodec::kZstd) {
      *buffer = std::move(compressed.bytes);
      stored = *buffer;
    }
  } else {
    const size_t sealed_bytes = stored.size() + key.sealer->overhead();
    record->stored_bytes = nonce.size() + sealed_bytes;
    buffer->resize(record->stored_bytes);
    std::copy(nonce.begin(), nonce.end(), buffer->begin());
    LODE_TRY(key.sealer->Seal(key.salt, nonce, Authenticated(key, *record), stored,
                              std::span(*buffer).subspan(nonce.size())));
    stored = *buffer;
  }
  record->stored_bytes = stored.size();
  record->hash = HashPayload(stored);
  return stored;
}

Result<void> DecodePayload(const PayloadKey& key, const ContextRecord& record,
                           std::span<const std::byte> stored, std::span<std::byte> target) {
  LODE_CHECK(target.size() == record.raw_bytes);
  LODE_TRY(CheckHash(record, stored));
  if (!record.sealed) {
    if (record.codec == RecordCodec::kZstd) return Decompress(stored, record.planes, target);
    LODE_CHECK(stored.size() == target.size());
    if (!target.empty()) std::memcpy(target.data(), stored.data(), target.size());
    return {};
  }
  if (record.codec == RecordCodec::kRaw) return Unseal(key, record, stored, target);
  return UnsealCompressed(key, record, stored, target);
}

Result<void> CheckPayload(const PayloadKey& key, const ContextRecord& record,
                          std::span<const std::byte> stored) {
  LODE_TRY(CheckHash(record, stored));
  if (!IsKnown(record.type)) return {};
  if (record.sealed) {
    if (record.codec != RecordCodec::kRaw) return UnsealCompressed(key, record, stored, {});
    return UnsealInPieces(key, record, stored,
                          [](std::span<const std::byte>) { return Result<void>(); });
  }
  if (record.codec == RecordCodec::kRaw) return {};
  return CheckCompressed(stored, record.raw_bytes);
}

}  // namespace lode::runtime

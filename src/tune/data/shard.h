// Token ids on disk, mapped and never copied whole. Our own shards are one file:
//
//   header   1024 bytes, little-endian: "LODETOKS", u32 version (1), u32 bytes of a token (2 or 4),
//            u32 flags (1: weights), u32 vocabulary, u64 tokens, u64 documents, u64 hash of the
//            tokenizer; the rest is 0
//   tokens   u16 or u32, as many as the header says; filled up to a multiple of 8 bytes with 0
//   offsets  u64 for each document and one more: where it begins, in tokens; 0 first, all last
//   weights  if flagged, a bit for each token, lowest first: whether it is supervised
//
// llm.c's .bin (20240520/1 with u16, 20240801/7 with u32) and Megatron's .bin with its .idx are
// read, too. Nothing that a file says is believed before it was compared with its length.
// Threads: const calls are free for all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "text/tokenizer/tokenizer.h"
#include "tune/data/example.h"

namespace lode::tune {

// The same number for the same vocabulary, whatever file it came from.
uint64_t HashOf(const text::Tokenizer& tokenizer);

class TokenShard {
 public:
  // `path`: a shard, or either file of a Megatron pair. Errors name the path.
  static Result<std::unique_ptr<TokenShard>> Open(const std::string& path);
  // The same of bytes that outlive the shard; `index`: of a Megatron pair, else empty.
  static Result<std::unique_ptr<TokenShard>> FromMemory(std::span<const std::byte> bytes,
                                                        std::span<const std::byte> index,
                                                        const std::string& name);

  const std::string& name() const { return name_; }
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  // Where document i begins; i = documents(): where the last one ends.
  int64_t DocumentBegin(int64_t i) const { return offsets_[static_cast<size_t>(i)]; }
  // The first document that begins behind `token`.
  int64_t NextDocument(int64_t token) const;
  // Tokens [begin, begin + out.size()), which must be inside.
  void Read(int64_t begin, std::span<int32_t> out) const;
  bool has_weights() const { return !weights_.empty(); }
  float Weight(int64_t token) const;  // 1 without weights

  // What the file says about its tokenizer; llm.c's and Megatron's say nothing.
  std::optional<int64_t> vocabulary() const { return vocabulary_; }
  std::optional<uint64_t> tokenizer_hash() const { return hash_; }
  // Reads every token. Errors: one that a vocabulary of this size lacks, with its place; another
  // tokenizer's shard.
  Result<void> Check(const text::Tokenizer& tokenizer) const;
  Result<void> CheckIds(int64_t vocabulary) const;

  // Changes with what the shard holds (sizes and a sample of the tokens; not every one).
  uint64_t Fingerprint() const;

 private:
  friend class ShardWriter;
  TokenShard() = default;
  Result<void> ParseOwn(std::span<const std::byte> bytes);
  Result<void> ParseLlmC(std::span<const std::byte> bytes, size_t token_bytes);
  Result<void> ParseMegatron(std::span<const std::byte> bytes, std::span<const std::byte> index);
  void OneDocument() { offsets_ = {0, tokens_}; }

  std::string name_;
  std::unique_ptr<MappedFile> file_;
  std::string owned_;  // the file's bytes when nothing is mapped
  const std::byte* data_ = nullptr;
  size_t token_bytes_ = 0;
  int64_t tokens_ = 0;
  std::vector<int64_t> offsets_;
  std::span<const std::byte> weights_;
  std::optional<int64_t> vocabulary_;
  std::optional<uint64_t> hash_;
};

// Gathers documents in memory; a shard is meant to hold some hundred million tokens at most.
class ShardWriter {
 public:
  // `vocabulary`: one more than the largest id.
  ShardWriter(int64_t vocabulary, uint64_t tokenizer_hash)
      : vocabulary_(vocabulary), hash_(tokenizer_hash) {}

  // Errors: ids outside of the vocabulary, weights other than 0 and 1.
  Result<void> Add(const Example& document);
  int64_t tokens() const { return tokens_; }
  int64_t documents() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  // Writes the file whole or not at all.
  Result<void> Write(const std::string& path) const;
  // The same without a file.
  std::unique_ptr<TokenShard> Finish(const std::string& name) const;

 private:
  std::string Bytes() const;

  int64_t vocabulary_;
  uint64_t hash_;
  int64_t tokens_ = 0;
  std::string ids_;
  std::vector<uint64_t> offsets_ = {0};
  std::string weights_;
  bool all_supervised_ = true;  // but for documents' first tokens, which nothing precedes
};

}  // namespace lode::tune

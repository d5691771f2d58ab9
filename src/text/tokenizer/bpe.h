// The BPE model: one pre-token in, ids out. It knows neither added tokens nor how text is cut.
// Merging repeats the adjacent pair of lowest rank, leftmost first; long pieces use a heap, so a
// megabyte of one letter takes n log n steps.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "text/tokenizer/vocabulary.h"

namespace lode::text {

// (left id, right id) -> (rank, merged id).
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };
  static constexpr uint32_t kNoRank = UINT32_MAX;

  void Reserve(size_t count);
  // A pair given again overwrites.
  void Set(int32_t left, int32_t right, Merge merge);
  // rank kNoRank: the pair does not merge.
  Merge Find(int32_t left, int32_t right) const {
    const uint64_t key = Key(left, right);
    for (size_t slot = SlotOf(key);; slot = (slot + 1) & mask_) {
      if (slots_[slot].key == key) return slots_[slot].merge;
      if (slots_[slot].key == kEmpty) return {kNoRank, -1};
    }
  }

 private:
  static constexpr uint64_t kEmpty = UINT64_MAX;  // ids are not negative, so no pair is this key
  struct Slot {
    uint64_t key = kEmpty;
    Merge merge = {kNoRank, -1};
  };
  static uint64_t Key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t SlotOf(uint64_t key) const { return (key * 0x9E3779B97F4A7C15) >> shift_; }

  std::vector<Slot> slots_ = std::vector<Slot>(2);
  size_t mask_ = 1;
  int shift_ = 63;
};

struct BpeOptions {
  bool has_unk = false;
  std::string unk_token;
  std::string continuing_subword_prefix;
  std::string end_of_word_suffix;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;
};

// What one thread needs while it encodes; kept between calls for its cache and its memory.
struct BpeScratch {
  BpeScratch();

  // The pieces seen lately and their ids. 64 bytes an entry.
  struct CacheEntry {
    static constexpr size_t kBytesMax = 30;
    static constexpr size_t kIdsMax = 8;
    uint8_t bytes;  // 0: empty entry
    uint8_t count : 7;
    uint8_t plain : 1;  // encoded with special tokens not recognised
    char piece[kBytesMax];
    int32_t ids[kIdsMax];
  };
  static constexpr size_t kCacheEntries = 16384;

  std::unique_ptr<CacheEntry[]> cache;
  std::vector<int32_t> symbols;
  std::vector<MergeTable::Merge> merges;
  std::vector<int32_t> previous;
  std::vector<int32_t> next;
  std::vector<uint64_t> heap;
  std::string letters;
};

// Threads: const calls are free for all, each with its own scratch.
class Bpe {
 public:
  // A merge's two parts. Errors: a part or the merged text is no token.
  static Result<Bpe> Create(Vocabulary vocabulary,
                            const std::vector<std::pair<std::string_view, std::string_view>>& merges,
                            BpeOptions options);

  const Vocabulary& vocabulary() const { return vocabulary_; }

  // Ids that a piece equal to their text must not become when special tokens are not recognised.
  void SetSpecialIds(std::vector<bool> special) { special_ = std::move(special); }

  // Appends the ids of `piece`. `is_bytes`: the piece is raw bytes and the vocabulary is written in
  // the byte alphabet; else it is text in the vocabulary's own letters. `recognise_special` false:
  // ignore_merges does not find special tokens.
  // Errors: a character is unknown and unk_token, too, is no token.
  Result<void> Encode(std::string_view piece, bool is_bytes, bool recognise_special,
                      BpeScratch* scratch, std::vector<int32_t>* ids) const;

  // The hot path of Encode: true when the piece was in the cache and its ids are appended. Which form
  // pieces have (is_bytes) must not change for one scratch.
  static bool EncodeCached(std::string_view piece, bool recognise_special,
                           const BpeScratch& scratch, std::vector<int32_t>* ids) {
    const BpeScratch::CacheEntry& entry =
        scratch.cache[HashBytes(piece) % BpeScratch::kCacheEntries];
    if (entry.bytes != piece.size() || entry.plain != (recognise_special ? 0 : 1) ||
        std::memcmp(entry.piece, piece.data(), piece.size()) != 0) {
      return false;
    }
    for (int i = 0; i < entry.count; ++i) ids->push_back(entry.ids[i]);
    return true;
  }

 private:
  Result<void> EncodeUncached(std::string_view piece, bool is_bytes, bool recognise_special,
                              BpeScratch* scratch, std::vector<int32_t>* ids) const;
  Result<void> FirstSymbols(std::string_view letters, std::vector<int32_t>* symbols) const;
  void MergeShort(BpeScratch* scratch, std::vector<int32_t>* ids) const;
  void MergeLong(BpeScratch* scratch, std::vector<int32_t>* ids) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  int32_t unk_id_ = -1;
  std::array<int32_t, 256> byte_symbols_;    // of the byte's letter; -1: unknown
  std::array<int32_t, 256> fallback_bytes_;  // of <0x00>..<0xFF>; -1: not there
  bool bytes_are_simple_ = false;  // every byte's letter is a token, no prefix, no suffix
  std::vector<bool> special_;
};

}  // namespace lode::text

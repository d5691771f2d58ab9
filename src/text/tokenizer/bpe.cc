#include "text/tokenizer/bpe.h"

#include <algorithm>
#include <bit>
#include <functional>

#include "base/text.h"
#include "base/utf8.h"
#include "text/tokenizer/byte_alphabet.h"

namespace lode::text {
namespace {

// Up to here a linear search for the best pair beats the heap (words are rarely longer than 20).
constexpr size_t kShortSymbolsMax = 48;
// Heap entries are rank << 32 | position.
constexpr size_t kPieceSymbolsMax = size_t{1} << 31;

}  // namespace

void MergeTable::Reserve(size_t count) {
  const size_t size = std::bit_ceil(count * 2 + 2);
  slots_.assign(size, Slot());
  mask_ = size - 1;
  shift_ = 64 - std::countr_zero(size);
}

void MergeTable::Set(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = Key(left, right);
  size_t slot = SlotOf(key);
  while (slots_[slot].key != kEmpty && slots_[slot].key != key) slot = (slot + 1) & mask_;
  slots_[slot] = {key, merge};
}

BpeScratch::BpeScratch() : cache(new CacheEntry[kCacheEntries]()) {
  static_assert(sizeof(CacheEntry) == 64);
}

Result<Bpe> Bpe::Create(Vocabulary vocabulary,
                        const std::vector<std::pair<std::string_view, std::string_view>>& merges,
                        BpeOptions options) {
  Bpe bpe;
  bpe.vocabulary_ = std::move(vocabulary);
  bpe.options_ = std::move(options);
  const Vocabulary& tokens = bpe.vocabulary_;
  bpe.merges_.Reserve(merges.size());
  const size_t prefix_bytes = bpe.options_.continuing_subword_prefix.size();
  std::string merged;
  uint32_t rank = 0;
  for (const auto& [left, right] : merges) {
    const int32_t left_id = tokens.Find(left);
    const int32_t right_id = tokens.Find(right);
    merged.assign(left);
    if (right.size() >= prefix_bytes) merged += right.substr(prefix_bytes);
    const int32_t merged_id = tokens.Find(merged);
    if (left_id < 0 || right_id < 0 || merged_id < 0) {
      const std::string_view missing = left_id < 0 ? left : right_id < 0 ? right : merged;
      return Error(Code::kBadInput, Format("merge %u joins %s and %s, but %s is no token", rank,
                                           Quote(left).c_str(), Quote(right).c_str(),
                                           Quote(missing).c_str()));
    }
    bpe.merges_.Set(left_id, right_id, {rank, merged_id});
    ++rank;
  }
  if (bpe.options_.has_unk) bpe.unk_id_ = tokens.Find(bpe.options_.unk_token);
  bool all = true;
  for (int byte = 0; byte < 256; ++byte) {
    bpe.byte_symbols_[byte] = tokens.Find(ByteLetters()[byte]);
    bpe.fallback_bytes_[byte] = tokens.Find(Format("<0x%02X>", byte));
    all = all && bpe.byte_symbols_[byte] >= 0;
  }
  bpe.bytes_are_simple_ =
      all && prefix_bytes == 0 && bpe.options_.end_of_word_suffix.empty();
  return bpe;
}

Result<void> Bpe::Encode(std::string_view piece, bool is_bytes, bool recognise_special,
                         BpeScratch* scratch, std::vector<int32_t>* ids) const {
  using Entry = BpeScratch::CacheEntry;
  if (piece.empty()) return {};
  const size_t before = ids->size();
  LODE_TRY(EncodeUncached(piece, is_bytes, recognise_special, scratch, ids));
  const size_t count = ids->size() - before;
  if (piece.size() <= Entry::kBytesMax && count <= Entry::kIdsMax) {
    Entry& entry = scratch->cache[HashBytes(piece) % BpeScratch::kCacheEntries];
    entry.bytes = static_cast<uint8_t>(piece.size());
    entry.count = static_cast<uint8_t>(count) & 0x7F;
    entry.plain = recognise_special ? 0 : 1;
    std::memcpy(entry.piece, piece.data(), piece.size());
    std::copy(ids->begin() + static_cast<ptrdiff_t>(before), ids->end(), entry.ids);
  }
  return {};
}

Result<void> Bpe::EncodeUncached(std::string_view piece, bool is_bytes, bool recognise_special,
                                 BpeScratch* scratch, std::vector<int32_t>* ids) const {
  std::string_view letters = piece;
  if (is_bytes && (options_.ignore_merges || !bytes_are_simple_)) {
    scratch->letters.clear();
    BytesToLetters(piece, &scratch->letters);
    letters = scratch->letters;
  }
  if (options_.ignore_merges) {
    const int32_t whole = vocabulary_.Find(letters);
    const bool hidden = !recognise_special && whole >= 0 &&
                        static_cast<size_t>(whole) < special_.size() && special_[whole];
    if (whole >= 0 && !hidden) {
      ids->push_back(whole);
      return {};
    }
  }
  scratch->symbols.clear();
  if (is_bytes && bytes_are_simple_) {
    for (const char c : piece) {
      scratch->symbols.push_back(byte_symbols_[static_cast<unsigned char>(c)]);
    }
  } else {
    LODE_TRY(FirstSymbols(letters, &scratch->symbols));
  }
  if (scratch->symbols.size() >= kPieceSymbolsMax) {
    return Error(Code::kNoSpace, "a piece of text of more than 2^31 characters cannot be encoded");
  }
  if (scratch->symbols.size() <= kShortSymbolsMax) {
    MergeShort(scratch, ids);
  } else {
    MergeLong(scratch, ids);
  }
  return {};
}

// One symbol per character, or what stands in for an unknown one: its bytes, the unknown token, or
// nothing. The order of byte tokens and a pending unknown token is Hugging Face's.
Result<void> Bpe::FirstSymbols(std::string_view letters, std::vector<int32_t>* symbols) const {
  bool pending_unk = false;
  std::string decorated;
  for (size_t at = 0; at < letters.size();) {
    const size_t begin = at;
    at += DecodeUtf8(letters, at).bytes;
    std::string_view character = letters.substr(begin, at - begin);
    const bool prefix = begin > 0 && !options_.continuing_subword_prefix.empty();
    const bool suffix = at == letters.size() && !options_.end_of_word_suffix.empty();
    if (prefix || suffix) {
      decorated = (prefix ? options_.continuing_subword_prefix : "") + std::string(character) +
                  (suffix ? options_.end_of_word_suffix : "");
      character = decorated;
    }
    const int32_t id = vocabulary_.Find(character);
    if (id >= 0) {
      if (pending_unk) symbols->push_back(unk_id_);
      pending_unk = false;
      symbols->push_back(id);
      continue;
    }
    const auto fallback = [&](char c) { return fallback_bytes_[static_cast<unsigned char>(c)]; };
    if (options_.byte_fallback && std::all_of(character.begin(), character.end(),
                                              [&](char c) { return fallback(c) >= 0; })) {
      for (const char c : character) symbols->push_back(fallback(c));
      continue;
    }
    if (!options_.has_unk) continue;
    if (unk_id_ < 0) {
      return Error(Code::kBadInput, "the character " + Quote(character) +
                                        " is unknown to the tokenizer, and its unk_token " +
                                        Quote(options_.unk_token) + " is no token");
    }
    if (pending_unk && !options_.fuse_unk) symbols->push_back(unk_id_);
    pending_unk = true;
  }
  if (pending_unk) symbols->push_back(unk_id_);
  return {};
}

void Bpe::MergeShort(BpeScratch* scratch, std::vector<int32_t>* ids) const {
  std::vector<int32_t>& symbols = scratch->symbols;
  std::vector<MergeTable::Merge>& merges = scratch->merges;  // of symbols i and i + 1
  merges.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    merges.push_back(merges_.Find(symbols[i], symbols[i + 1]));
  }
  while (!merges.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < merges.size(); ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == MergeTable::kNoRank) break;
    symbols[best] = merges[best].id;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    merges.erase(merges.begin() + static_cast<ptrdiff_t>(best));
    if (best > 0) merges[best - 1] = merges_.Find(symbols[best - 1], symbols[best]);
    if (best < merges.size()) merges[best] = merges_.Find(symbols[best], symbols[best + 1]);
  }
  ids->insert(ids->end(), symbols.begin(), symbols.end());
}

void Bpe::MergeLong(BpeScratch* scratch, std::vector<int32_t>* ids) const {
  std::vector<int32_t>& symbols = scratch->symbols;  // -1: merged into its left neighbour
  std::vector<int32_t>& previous = scratch->previous;
  std::vector<int32_t>& next = scratch->next;
  std::vector<uint64_t>& heap = scratch->heap;
  const auto count = static_cast<int32_t>(symbols.size());
  previous.resize(count);
  next.resize(count);
  heap.clear();
  for (int32_t i = 0; i < count; ++i) {
    previous[i] = i - 1;
    next[i] = i + 1;
    if (i + 1 == count) break;
    const MergeTable::Merge merge = merges_.Find(symbols[i], symbols[i + 1]);
    if (merge.rank != MergeTable::kNoRank) {
      heap.push_back(static_cast<uint64_t>(merge.rank) << 32 | static_cast<uint32_t>(i));
    }
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](int32_t left) {
    const MergeTable::Merge merge = merges_.Find(symbols[left], symbols[next[left]]);
    if (merge.rank == MergeTable::kNoRank) return;
    heap.push_back(static_cast<uint64_t>(merge.rank) << 32 | static_cast<uint32_t>(left));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    const uint64_t top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    heap.pop_back();
    const auto left = static_cast<int32_t>(top & UINT32_MAX);
    // An entry is stale when its pair has changed since; then the pair's rank has, too.
    if (symbols[left] < 0 || next[left] >= count) continue;
    const int32_t right = next[left];
    const MergeTable::Merge merge = merges_.Find(symbols[left], symbols[right]);
    if (merge.rank != top >> 32) continue;
    symbols[left] = merge.id;
    symbols[right] = -1;
    next[left] = next[right];
    if (next[left] < count) previous[next[left]] = left;
    if (previous[left] >= 0) push(previous[left]);
    if (next[left] < count) push(left);
  }
  for (int32_t i = 0; i < count; i = next[i]) ids->push_back(symbols[i]);
}

}  // namespace lode::text

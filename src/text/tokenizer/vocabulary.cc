#include "text/tokenizer/vocabulary.h"

#include <algorithm>
#include <bit>

#include "base/text.h"

namespace lode::text {
void Vocabulary::Add(std::string_view token, int64_t id) {
  entries_.push_back({text_.size(), static_cast<uint32_t>(token.size()),
                      static_cast<uint32_t>(HashBytes(token)), id});
  text_ += token;
}

Result<void> Vocabulary::Finish() {
  // Real vocabularies have few holes; the bound keeps one wild id from asking for gigabytes.
  const int64_t id_limit = static_cast<int64_t>(entries_.size()) * 2 + 65536;
  int64_t id_max = -1;
  for (const Entry& entry : entries_) {
    if (entry.id < 0 || entry.id >= id_limit) {
      return Error(Code::kBadInput,
                   Format("token %s has the id %lld, which is out of range for %zu tokens",
                          Quote(TextOf(entry)).c_str(), static_cast<long long>(entry.id),
                          entries_.size()));
    }
    id_max = std::max(id_max, entry.id);
  }
  by_id_.assign(static_cast<size_t>(id_max + 1), kNone);
  by_text_.assign(std::bit_ceil(entries_.size() * 2 + 2), kNone);
  const size_t mask = by_text_.size() - 1;
  for (uint32_t i = 0; i < entries_.size(); ++i) {
    const Entry& entry = entries_[i];
    if (by_id_[entry.id] != kNone) {
      return Error(Code::kBadInput,
                   Format("tokens %s and %s have the same id %lld",
                          Quote(TextOf(entries_[by_id_[entry.id]])).c_str(),
                          Quote(TextOf(entry)).c_str(), static_cast<long long>(entry.id)));
    }
    by_id_[entry.id] = i;
    size_t slot = entry.hash & mask;
    for (; by_text_[slot] != kNone; slot = (slot + 1) & mask) {
      const Entry& other = entries_[by_text_[slot]];
      if (other.hash == entry.hash && TextOf(other) == TextOf(entry)) {
        return Error(Code::kBadInput,
                     Format("token %s is there twice, with ids %lld and %lld",
                            Quote(TextOf(entry)).c_str(), static_cast<long long>(other.id),
                            static_cast<long long>(entry.id)));
      }
    }
    by_text_[slot] = i;
  }
  return {};
}

int32_t Vocabulary::Find(std::string_view token) const {
  if (by_text_.empty()) return -1;
  const size_t mask = by_text_.size() - 1;
  const auto hash = static_cast<uint32_t>(HashBytes(token));
  for (size_t slot = hash & mask; by_text_[slot] != kNone; slot = (slot + 1) & mask) {
    const Entry& entry = entries_[by_text_[slot]];
    if (entry.hash == hash && TextOf(entry) == token) return static_cast<int32_t>(entry.id);
  }
  return -1;
}

std::string_view Vocabulary::Token(int32_t id) const {
  return Has(id) ? TextOf(entries_[by_id_[id]]) : std::string_view();
}

}  // namespace lode::text

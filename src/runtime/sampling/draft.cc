#include "runtime/sampling/draft.h"

#include <algorithm>
#include <bit>

namespace lode::runtime {
namespace {

uint64_t Buckets(const NgramOptions& options, size_t ways) {
  // Twice the room, so that few buckets overflow.
  const auto lengths = static_cast<uint64_t>(options.longest - options.shortest + 1);
  return std::bit_ceil(2 * lengths * static_cast<uint64_t>(options.tokens_max) / ways + 1);
}

}  // namespace

NgramDrafter::NgramDrafter(const NgramOptions& options)
    : options_(options),
      entries_(Buckets(options, kWays) * kWays),
      bucket_mask_(Buckets(options, kWays) - 1) {
  LODE_CHECK(options.shortest >= 1 && options.shortest <= options.longest);
  LODE_CHECK(options.tokens_max > 0);
}

uint64_t NgramDrafter::Bytes(const NgramOptions& options) {
  return Buckets(options, kWays) * kWays * sizeof(Entry);
}

NgramDrafter::Entry* NgramDrafter::Bucket(std::span<const int32_t> gram, uint32_t* check) {
  uint64_t hash = gram.size() * 0x9E3779B97F4A7C15u;
  for (const int32_t token : gram) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0xBF58476D1CE4E5B9u;
    hash ^= hash >> 29;
  }
  *check = static_cast<uint32_t>(hash >> 32);
  return entries_.data() + (hash & bucket_mask_) * kWays;
}

void NgramDrafter::Insert(std::span<const int32_t> history, int64_t length, size_t end) {
  const auto width = static_cast<size_t>(length);
  if (end < width) return;
  const auto gram = history.subspan(end - width, width);
  uint32_t check;
  Entry* bucket = Bucket(gram, &check);
  Entry* place = bucket;
  for (Entry* entry = bucket; entry < bucket + kWays; ++entry) {
    // Texts are read in order, so an entry from further on is of a text that was cut.
    const bool stale = entry->end > end;
    const bool same = !stale && entry->check == check && entry->end >= width &&
                      std::equal(gram.begin(), gram.end(), history.begin() + entry->end - length);
    if (stale || same) {
      place = entry;
      break;
    }
    if (entry->end < place->end) place = entry;
  }
  *place = {check, static_cast<uint32_t>(end)};
}

// Behind the newest earlier n-gram equal to the last one; 0 when there is none.
size_t NgramDrafter::Find(std::span<const int32_t> history, int64_t length) {
  const auto width = static_cast<size_t>(length);
  if (history.size() <= width) return 0;
  const auto gram = history.last(width);
  uint32_t check;
  const Entry* bucket = Bucket(gram, &check);
  size_t newest = 0;
  for (const Entry* entry = bucket; entry < bucket + kWays; ++entry) {
    if (entry->check != check || entry->end < width || entry->end >= history.size()) continue;
    if (entry->end > newest &&
        std::equal(gram.begin(), gram.end(), history.begin() + entry->end - length))
      newest = entry->end;
  }
  return newest;
}

void NgramDrafter::Read(std::span<const int32_t> history) {
  read_ = std::min(read_, history.size());
  // Of a long prompt only what the index can hold.
  const size_t room = static_cast<size_t>(options_.tokens_max);
  if (history.size() > room) read_ = std::max(read_, history.size() - room);
  for (; read_ + 1 < history.size(); ++read_) {
    for (int64_t length = options_.shortest; length <= options_.longest; ++length)
      Insert(history, length, read_ + 1);
  }
}

int64_t NgramDrafter::Propose(std::span<const int32_t> history, std::span<int32_t> drafts) {
  Read(history);  // all but the n-grams that end the text: they would find themselves
  matched_ = 0;
  for (int64_t length = options_.longest; length >= options_.shortest; --length) {
    const size_t from = Find(history, length);
    if (from == 0) continue;
    matched_ = length;
    for (size_t i = 0; i < drafts.size(); ++i) {
      const size_t at = from + i;
      drafts[i] = at < history.size() ? history[at] : drafts[at - history.size()];
    }
    return static_cast<int64_t>(drafts.size());
  }
  return 0;
}

int64_t ScriptedDrafter::Propose(std::span<const int32_t> history, std::span<int32_t> drafts) {
  const auto right = static_cast<size_t>(accepts_[step_++ % accepts_.size()]);
  for (size_t i = 0; i < drafts.size(); ++i) {
    const size_t at = history.size() + i;
    const int64_t truth = at < text_.size() ? text_[at] : 0;
    drafts[i] = static_cast<int32_t>(i < right ? truth : (truth + 1) % vocabulary_);
  }
  return static_cast<int64_t>(drafts.size());
}

Result<int32_t> DrawDraft(Sampler& sampler, std::span<const float> logits,
                          std::span<const int32_t> drafts, const SamplingOptions& options,
                          DrawState* state) {
  SampleInputs inputs;
  if (state->mask != nullptr) {
    for (size_t i = 0; i < drafts.size(); ++i) {
      if (!state->mask->Try(static_cast<int64_t>(i), drafts[i])) {
        return Error(Code::kBadInput, "a guess may not come there");
      }
    }
    inputs.mask = state->mask->At(std::ssize(drafts));
  }
  const bool counted = state->history != nullptr && state->counts != nullptr;
  if (state->history != nullptr) {
    for (const int32_t draft : drafts) {
      state->history->push_back(draft);
      if (counted)
        state->counts->Push({*state->history, state->answer_begin}, options.penalty_window);
    }
    inputs.history = {*state->history, state->answer_begin};
    inputs.counts = state->counts;
  }
  const auto sampled =
      sampler.Sample(logits, options, state->position + drafts.size(), inputs);
  for (size_t i = 0; i < drafts.size() && state->history != nullptr; ++i) {
    if (counted) state->counts->Pop({*state->history, state->answer_begin}, options.penalty_window);
    state->history->pop_back();
  }
  if (!sampled.ok()) return sampled.error();
  return sampled->token;
}

Result<Accepted> AcceptDrafts(Sampler& sampler, const float* logits,
                              std::span<const int32_t> drafts, const SamplingOptions& options,
                              DrawState* state,
                              const std::function<bool(const Sampled&)>& on_token) {
  const auto width = static_cast<size_t>(sampler.vocabulary());
  Accepted accepted;
  while (true) {
    SampleInputs inputs;
    inputs.counts = state->counts;
    if (state->history != nullptr) inputs.history = {*state->history, state->answer_begin};
    if (state->mask != nullptr) inputs.mask = state->mask->At(0);
    const std::span<const float> row(logits + static_cast<size_t>(accepted.count) * width, width);
    LODE_ASSIGN(const Sampled sampled, sampler.Sample(row, options, state->position, inputs));
    const int32_t token = sampled.token;
    if (state->mask != nullptr) LODE_TRY(state->mask->Take(token));
    ++state->position;
    if (state->history != nullptr) {
      state->history->push_back(token);
      if (state->counts != nullptr)
        state->counts->Push({*state->history, state->answer_begin}, options.penalty_window);
    }
    accepted.next = token;
    accepted.ended = on_token && !on_token(sampled);
    const bool stands = !accepted.ended && accepted.count < static_cast<int64_t>(drafts.size()) &&
                        token == drafts[static_cast<size_t>(accepted.count)];
    if (!stands) return accepted;
    ++accepted.count;
  }
}

}  // namespace lode::runtime

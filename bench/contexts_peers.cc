#include "bench/contexts_peers.h"

#include <algorithm>
#include <iterator>
#include <list>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace lode::bench {
namespace {

constexpr int64_t kPage = runtime::kTokensPerPage;
constexpr int64_t kChunk = 8192;  // tokens of one prefill step, unless told otherwise

// Longest prefix whose hash `holds`, which is true up to some length and false behind it.
template <typename Holds>
int64_t LongestPrefix(int64_t limit, const Holds& holds) {
  int64_t low = 0, high = limit;
  while (low < high) {
    const int64_t middle = (low + high + 1) / 2;
    (holds(middle) ? low : high) = holds(middle) ? middle : middle - 1;
  }
  return low;
}

// Everything that was ever computed.
class Memory {
 public:
  int64_t Match(const HashedRequest& request) const {
    return LongestPrefix(request.total, [&](int64_t length) {
      return length == 0 || seen_.contains(request.prefix[static_cast<size_t>(length)]);
    });
  }
  void Add(const HashedRequest& request) {
    for (size_t i = static_cast<size_t>(Match(request)) + 1; i < request.prefix.size(); ++i) {
      seen_.insert(request.prefix[i]);
    }
  }

 private:
  std::unordered_set<uint64_t> seen_;
};

// Pages and states by the prefix they stand for, each pool with its own least recently used order.
class PointCache {
 public:
  // One budget for both kinds.
  PointCache(const Shape& shape, uint64_t budget) : shape_(shape), budgets_{budget, 0} {}
  // Each kind its own.
  PointCache(const Shape& shape, uint64_t pages, uint64_t states)
      : shape_(shape), budgets_{pages, states}, apart_(true) {}

  // Tokens whose pages are all there.
  int64_t Pages(const HashedRequest& request) const {
    int64_t tokens = 0;
    while (tokens + kPage <= request.total && pages_.contains(At(request, tokens + kPage))) {
      tokens += kPage;
    }
    return tokens;
  }
  // The deepest state in the prompt that has its pages; at least the last token is computed.
  int64_t Resume(const HashedRequest& request) const {
    const int64_t pages = Pages(request);
    for (int64_t at = std::min(request.prompt - 1, pages + kPage - 1); at > 0; --at) {
      const auto index = static_cast<size_t>(at);
      if (index >= at_offset_.size() || at_offset_[index] == 0) continue;
      if (states_.contains(At(request, at))) return at;
    }
    return 0;
  }

  void AddState(const HashedRequest& request, int64_t offset) {
    if (offset <= 0 || offset > request.total) return;
    const auto index = static_cast<size_t>(offset);
    if (at_offset_.size() <= index) at_offset_.resize(index + 1);
    Put(&states_, apart_ ? 1 : 0, {At(request, offset), offset, false});
  }
  // The deepest first, so that the beginning is the last to go.
  void AddPages(const HashedRequest& request) {
    for (int64_t at = request.total / kPage * kPage; at > 0; at -= kPage) {
      Put(&pages_, 0, {At(request, at), at, true});
    }
  }
  void Shrink() {
    for (const int pool : {0, 1}) {
      while (bytes_[pool] > budgets_[pool] && !order_[pool].empty()) Drop(pool);
    }
  }

 private:
  struct Object {
    uint64_t hash;
    int64_t offset;
    bool page;
  };
  using List = std::list<Object>;
  using Index = std::unordered_map<uint64_t, List::iterator>;

  static uint64_t At(const HashedRequest& request, int64_t offset) {
    return request.prefix[static_cast<size_t>(offset)];
  }
  uint64_t Bytes(const Object& object) const {
    return object.page ? shape_.page_bytes : shape_.slot_bytes;
  }
  void Put(Index* index, int pool, const Object& object) {
    const auto found = index->find(object.hash);
    if (found != index->end()) {
      order_[pool].splice(order_[pool].end(), order_[pool], found->second);
      return;
    }
    order_[pool].push_back(object);
    (*index)[object.hash] = std::prev(order_[pool].end());
    bytes_[pool] += Bytes(object);
    if (!object.page) ++at_offset_[static_cast<size_t>(object.offset)];
  }
  void Drop(int pool) {
    const Object object = order_[pool].front();
    order_[pool].pop_front();
    bytes_[pool] -= Bytes(object);
    (object.page ? pages_ : states_).erase(object.hash);
    if (!object.page) --at_offset_[static_cast<size_t>(object.offset)];
  }

  const Shape& shape_;
  uint64_t budgets_[2];
  bool apart_ = false;
  uint64_t bytes_[2] = {0, 0};
  List order_[2];
  Index pages_, states_;
  std::vector<uint32_t> at_offset_;  // how many states there are at an offset, of any prefix
};

// Runs a trace through a cache; `states` says at which offsets of a request states are kept, given
// where it resumed and how far its pages were there.
template <typename States>
int64_t RunCache(const std::vector<HashedRequest>& requests, PointCache cache,
                 const States& states) {
  int64_t computed = 0;
  for (const HashedRequest& request : requests) {
    const int64_t resume = cache.Resume(request);
    const int64_t pages = std::min(cache.Pages(request), request.prompt);
    computed += request.prompt - resume;
    cache.AddPages(request);
    if (resume > 0) cache.AddState(request, resume);  // touched
    for (const int64_t offset : states(request, resume, pages)) cache.AddState(request, offset);
    cache.Shrink();
  }
  return computed;
}

// --- The models ---

// llama.cpp: each slot holds one sequence, with states 516 and 4 tokens before the prompt's end and
// every 8,192, at most 32; a slot that is given to another prompt is copied to a cache in memory,
// and the best of slots and cache is gone on with.
class Slots {
 public:
  Slots(const Shape& shape, uint64_t budget, size_t count)
      : shape_(shape), budget_(budget), slots_(count) {}

  int64_t Ask(const HashedRequest& request) {
    ++tick_;
    const auto [from, resume] = Best(request);
    // The program saves a slot's content only if half of it would be lost, and gives a slot to
    // whoever shares a tenth. Kinder: what would lose more than a reply is saved, and another slot
    // is used.
    const bool loses = from != nullptr && from->tokens() - resume > kReply;
    const size_t slot = from != nullptr && IsSlot(from) && !loses ? Place(from) : Oldest();
    Sequence next;
    if (from == nullptr) {
      Keep(slots_[slot]);
    } else if (IsSlot(from)) {
      next = *from;
      if (loses) Keep(slots_[slot]);
    } else {
      next = std::move(*from);  // an entry of the cache moves into the slot
      kept_.remove_if([from = from](const Sequence& kept) { return &kept == from; });
      Keep(slots_[slot]);
    }
    std::erase_if(next.states, [resume](int64_t at) { return at > resume; });
    next.prefix = request.prefix;
    for (int64_t at = kChunk; at < request.prompt; at += kChunk) {
      if (at > resume) next.states.push_back(at);
    }
    for (const int64_t back : {516, 4}) {
      if (request.prompt - back > resume) next.states.push_back(request.prompt - back);
    }
    if (next.states.size() > 32) {
      next.states.erase(next.states.begin(), next.states.end() - 32);
    }
    next.used = tick_;
    slots_[slot] = std::move(next);
    while (Bytes() > budget_ && !kept_.empty()) kept_.pop_front();
    return request.prompt - resume;
  }

 private:
  static constexpr int64_t kReply = 1024;

  struct Sequence {
    std::vector<uint64_t> prefix;  // of all it holds
    std::vector<int64_t> states;   // besides the one at its end
    int64_t used = 0;
    int64_t tokens() const { return prefix.empty() ? 0 : static_cast<int64_t>(prefix.size()) - 1; }
  };

  bool IsSlot(const Sequence* sequence) const {
    return sequence >= slots_.data() && sequence < slots_.data() + slots_.size();
  }
  size_t Place(const Sequence* sequence) const {
    return static_cast<size_t>(sequence - slots_.data());
  }
  static int64_t ResumeIn(const Sequence& sequence, const HashedRequest& request) {
    const int64_t limit = std::min(sequence.tokens(), request.prompt - 1);
    const int64_t same = LongestPrefix(limit, [&](int64_t length) {
      const auto at = static_cast<size_t>(length);
      return sequence.prefix[at] == request.prefix[at];
    });
    if (sequence.tokens() > 0 && same == sequence.tokens()) return same;
    int64_t best = 0;
    for (const int64_t at : sequence.states) {
      if (at <= same) best = std::max(best, at);
    }
    return best;
  }
  std::pair<Sequence*, int64_t> Best(const HashedRequest& request) {
    Sequence* best = nullptr;
    int64_t most = 0;
    const auto look = [&](Sequence& sequence) {
      const int64_t resume = ResumeIn(sequence, request);
      if (resume > most) best = &sequence, most = resume;
    };
    for (Sequence& slot : slots_) look(slot);
    for (Sequence& kept : kept_) look(kept);
    return {best, most};
  }
  size_t Oldest() const {
    const auto oldest = std::min_element(
        slots_.begin(), slots_.end(),
        [](const Sequence& a, const Sequence& b) { return a.used < b.used; });
    return static_cast<size_t>(oldest - slots_.begin());
  }
  void Keep(const Sequence& sequence) {
    if (sequence.tokens() == 0) return;
    // One that it merely goes on from is dropped.
    std::erase_if(kept_, [&](const Sequence& kept) {
      const auto at = static_cast<size_t>(kept.tokens());
      return kept.tokens() <= sequence.tokens() && kept.prefix[at] == sequence.prefix[at];
    });
    kept_.push_back(sequence);
  }
  uint64_t Bytes(const Sequence& sequence) const {
    if (sequence.tokens() == 0) return 0;
    return static_cast<uint64_t>((sequence.tokens() + kPage - 1) / kPage) * shape_.page_bytes +
           (sequence.states.size() + 1) * shape_.slot_bytes;
  }
  uint64_t Bytes() const {
    uint64_t sum = 0;
    for (const Sequence& slot : slots_) sum += Bytes(slot);
    for (const Sequence& kept : kept_) sum += Bytes(kept);
    return sum;
  }

  const Shape& shape_;
  uint64_t budget_;
  std::vector<Sequence> slots_;
  std::list<Sequence> kept_;  // the oldest first
  int64_t tick_ = 0;
};

int64_t RunSlots(const std::vector<HashedRequest>& requests, const Shape& shape, uint64_t budget,
                 size_t count) {
  Slots slots(shape, budget, count);
  int64_t computed = 0;
  for (const HashedRequest& request : requests) computed += slots.Ask(request);
  return computed;
}

int64_t OneSlot(const std::vector<HashedRequest>& requests, const Shape& shape, uint64_t budget) {
  return RunSlots(requests, shape, budget, 1);
}

int64_t FourSlots(const std::vector<HashedRequest>& requests, const Shape& shape, uint64_t budget) {
  return RunSlots(requests, shape, budget, 4);
}

// vLLM, mamba cache mode "align": the state at the end of each chunk, which is cut so that it ends
// on a block of the state; one budget, least recently used first.
int64_t VllmAlign(const std::vector<HashedRequest>& requests, const Shape& shape, uint64_t budget) {
  return RunCache(requests, PointCache(shape, budget),
                  [&](const HashedRequest& request, int64_t resume, int64_t) {
                    const int64_t block = shape.state_block;
                    std::vector<int64_t> at;
                    for (int64_t end = resume; end < request.prompt;) {
                      end = std::min(end + kChunk, request.prompt) / block * block;
                      if (end <= resume || (!at.empty() && end <= at.back())) break;
                      at.push_back(end);
                    }
                    at.push_back(request.total / block * block);  // crossed while decoding
                    return at;
                  });
}

// SGLang with branching: chunk ends, the prompt's end on a grid of 64, every 256 tokens while
// decoding (the last one stays), and where a prompt parts from pages that are there; states and
// pages in two pools as 0.9 to 1.
int64_t SglangBranch(const std::vector<HashedRequest>& requests, const Shape& shape,
                     uint64_t budget) {
  const uint64_t pages_budget = static_cast<uint64_t>(static_cast<double>(budget) / 1.9);
  return RunCache(requests, PointCache(shape, pages_budget, budget - pages_budget),
                  [](const HashedRequest& request, int64_t resume, int64_t pages) {
                    std::vector<int64_t> at;
                    if (pages > resume) at.push_back(pages / 64 * 64);
                    for (int64_t end = resume + kChunk; end < request.prompt; end += kChunk) {
                      at.push_back(end / 64 * 64);
                    }
                    at.push_back(request.prompt / 64 * 64);
                    at.push_back(request.total / 256 * 256);
                    return at;
                  });
}

// As TensorRT-LLM: every 2,048 tokens, the last one, and where prompts part.
int64_t Every2048(const std::vector<HashedRequest>& requests, const Shape& shape, uint64_t budget) {
  return RunCache(requests, PointCache(shape, budget),
                  [](const HashedRequest& request, int64_t resume, int64_t pages) {
                    std::vector<int64_t> at;
                    if (pages > resume) at.push_back(pages);
                    int64_t end = (resume / 2048 + 1) * 2048;
                    for (; end < request.prompt; end += 2048) at.push_back(end);
                    at.push_back(request.prompt / kPage * kPage);
                    return at;
                  });
}

int64_t Grid512(const std::vector<HashedRequest>& requests, const Shape& shape, uint64_t budget) {
  return RunCache(requests, PointCache(shape, budget),
                  [](const HashedRequest& request, int64_t resume, int64_t) {
                    std::vector<int64_t> at;
                    for (int64_t end = (resume / 512 + 1) * 512; end <= request.total; end += 512) {
                      at.push_back(end);
                    }
                    return at;
                  });
}

// Our own points without our eviction: what the template reveals, and the end.
int64_t ProbesOnly(const std::vector<HashedRequest>& requests, const Shape& shape,
                   uint64_t budget) {
  return RunCache(requests, PointCache(shape, budget),
                  [](const HashedRequest& request, int64_t resume, int64_t) {
                    std::vector<int64_t> at;
                    for (const Probe& probe : request.probes) {
                      if (probe.offset > resume) at.push_back(probe.offset);
                    }
                    at.push_back(request.total);
                    return at;
                  });
}

int64_t ProbesAndPartings(const std::vector<HashedRequest>& requests, const Shape& shape,
                          uint64_t budget) {
  Memory memory;
  return RunCache(requests, PointCache(shape, budget),
                  [&](const HashedRequest& request, int64_t resume, int64_t) {
                    std::vector<int64_t> at;
                    for (const Probe& probe : request.probes) {
                      if (probe.offset > resume) at.push_back(probe.offset);
                    }
                    const int64_t known = std::min(memory.Match(request), request.prompt);
                    if (known > resume + 64) at.push_back(known);
                    for (const int64_t offset : request.announced) {
                      if (offset > resume + 64) at.push_back(offset);
                    }
                    at.push_back(request.total);
                    memory.Add(request);
                    return at;
                  });
}

}  // namespace

std::vector<HashedRequest> HashTrace(const Trace& trace) {
  std::vector<HashedRequest> out;
  for (const SimRequest& request : trace.requests) {
    HashedRequest hashed;
    hashed.prompt = static_cast<int64_t>(request.prompt.size());
    hashed.arrival = request.arrival;
    hashed.probes = request.probes;
    uint64_t hash = 0x517cc1b727220a95 * (static_cast<uint64_t>(request.tenant) + 1);
    hashed.prefix.push_back(hash);
    const auto add = [&](const std::vector<Token>& tokens) {
      for (const Token token : tokens) {
        hash ^= static_cast<uint32_t>(token) + 0x9e3779b97f4a7c15 + (hash << 6) + (hash >> 2);
        hash *= 0xff51afd7ed558ccd;
        hash ^= hash >> 33;
        hashed.prefix.push_back(hash);
      }
    };
    add(request.prompt);
    add(request.output);
    hashed.total = static_cast<int64_t>(hashed.prefix.size()) - 1;
    out.push_back(std::move(hashed));
  }
  // Only the first of a burst has to be told: the next ones find what it left.
  for (size_t i = 0; i < out.size(); ++i) {
    for (size_t j = i + 1; j < out.size() && out[j].arrival == out[i].arrival; ++j) {
      const int64_t limit = std::min(out[i].prompt, out[j].prompt - 1);
      const int64_t same = LongestPrefix(limit, [&](int64_t length) {
        const auto at = static_cast<size_t>(length);
        return out[i].prefix[at] == out[j].prefix[at];
      });
      if (same > 0) out[i].announced.push_back(same);
    }
  }
  return out;
}

int64_t IdealTokens(const std::vector<HashedRequest>& requests) {
  Memory memory;
  int64_t computed = 0;
  for (const HashedRequest& request : requests) {
    computed += request.prompt - std::min(memory.Match(request), request.prompt - 1);
    memory.Add(request);
  }
  return computed;
}

int64_t NoCacheTokens(const std::vector<HashedRequest>& requests) {
  int64_t computed = 0;
  for (const HashedRequest& request : requests) computed += request.prompt;
  return computed;
}

const std::vector<Peer>& Peers() {
  static const std::vector<Peer> kPeers = {
      {"llama.cpp, 1 slot + RAM cache", OneSlot},
      {"llama.cpp, 4 slots + RAM cache", FourSlots},
      {"vLLM align", VllmAlign},
      {"SGLang branch", SglangBranch},
      {"TRT-like 2,048 + last + branch", Every2048},
      {"grid of 512, LRU", Grid512},
      {"probe points, LRU", ProbesOnly},
      {"+ divergence, LRU", ProbesAndPartings},
  };
  return kPeers;
}

}  // namespace lode::bench

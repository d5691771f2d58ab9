// Small models of what other engines keep of a hybrid model's prompts, for the simulator of
// contexts. Each is one function from a trace to the number of prompt tokens computed. They are
// kind: documented rules only, no faults, one request after the other so that those of a burst
// reuse each other at once, states written for nothing, and pages of 128 tokens shared by all who
// have the same prefix.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/contexts_trace.h"

namespace lode::bench {

// What one page and one state of a model weigh, and the length of prefix that vLLM's pages of both
// kinds of layers have in common.
struct Shape {
  std::string name;
  uint64_t page_bytes = 0;
  uint64_t slot_bytes = 0;
  int64_t state_block = 0;
};

// Hashes of all prefixes of prompt and output; `prefix[i]` is of the first i tokens.
struct HashedRequest {
  int64_t prompt = 0;
  int64_t total = 0;
  double arrival = 0.0;
  std::vector<uint64_t> prefix;
  std::vector<Probe> probes;
  std::vector<int64_t> announced;  // offsets where later requests of its burst part from it
};

// Tenants never share: their name begins the hash.
std::vector<HashedRequest> HashTrace(const Trace& trace);

// Infinite memory, resume anywhere.
int64_t IdealTokens(const std::vector<HashedRequest>& requests);
int64_t NoCacheTokens(const std::vector<HashedRequest>& requests);

using PeerModel = int64_t (*)(const std::vector<HashedRequest>&, const Shape&, uint64_t budget);

struct Peer {
  const char* name;
  PeerModel tokens;
};

// In the order of the table.
const std::vector<Peer>& Peers();

}  // namespace lode::bench

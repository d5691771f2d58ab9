// Traces of requests for the simulator of contexts: synthetic ones, token-exact and drawn from a
// seed, or recorded ones. A synthetic prompt is rendered by a small chat template that drops the
// reasoning of finished turns, as the templates of reasoning models do, and its probes are found by
// rendering again as it will look next (never by a rule about the template).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::bench {

using runtime::FinishReason;
using runtime::Probe;
using runtime::Token;

struct SimRequest {
  double arrival = 0.0;  // seconds; requests of one instant are a burst
  int tenant = 0;
  std::vector<Token> prompt;
  std::vector<Token> output;
  FinishReason finish = FinishReason::kStop;
  std::vector<Probe> probes;
};

struct Trace {
  std::string name;
  std::vector<SimRequest> requests;  // by arrival

  int64_t prompt_tokens() const;
};

// Section by section of the design's table; the counts are about those given there.
Trace ChatTrace(uint64_t seed, bool effort_marker);
Trace ToolLoopTrace(uint64_t seed);
Trace FanOutTrace(uint64_t seed, int agents, bool document_in_system);
Trace RetrievalTrace(uint64_t seed);
Trace BranchTrace(uint64_t seed);
Trace AssistantTrace(uint64_t seed, bool clock);
// Chats, tool loops, two fan-outs of 16, retrieval, branches and assistants of four tenants.
Trace MixedTrace(uint64_t seed);

// Recorded requests (docs/TRACES.md): of hashed blocks, as `lode chat --trace` and others write
// them, or of ids. Errors: kBadInput with the line.
Result<Trace> ReadTrace(const std::string& path);
// `name` is for errors; of more than `tokens_max` tokens in all it is refused.
Result<Trace> ParseTrace(std::string_view text, const std::string& name, int64_t tokens_max);

}  // namespace lode::bench

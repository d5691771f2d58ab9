// Records requests for the simulator of contexts (bench/contexts_trace.h reads what this writes):
// who shares which beginning with whom, and when, without what was said. The format is told in
// docs/TRACES.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/saved/context_chain.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::cli {

inline constexpr int64_t kTraceBlock = 16;  // tokens

struct TracedRequest {
  std::span<const int32_t> tokens;  // of prompt and answer
  int64_t prompt = 0;               // of these
  std::span<const runtime::Probe> probes;
  bool length = false;              // the answer ended because there was no room for more
  int64_t reused = 0;
  std::string reason;               // why no more was reused
  double prompt_seconds = 0.0, answer_seconds = 0.0;
};

// What each block of `tokens` and all before it become: 52 bits of a keyed digest. The last block
// may be short.
std::vector<uint64_t> TraceBlocks(std::span<const int32_t> tokens, const std::string& salt);

// Threads: one. Several processes may add to the same file.
class TraceFile {
 public:
  // Goes on behind what is there. FILE.salt holds the salt and the time of the first request:
  // without it nobody can add to the file, or try a guess at what was said. With `ids` the ids
  // themselves are written. Errors: those of the disk; kBadInput for a salt that is none.
  static Result<TraceFile> Open(const std::string& path, bool ids);
  Result<void> Add(const TracedRequest& request);

 private:
  TraceFile() = default;

  std::string path_, salt_;
  double start_ = 0.0;  // seconds since 1970
  bool ids_ = false;
};

}  // namespace lode::cli

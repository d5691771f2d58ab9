// Pulls a model from a hub that speaks the Hugging Face API into the store.
//
//   GET  {endpoint}/api/models/ORG/NAME/revision/R?blobs=true   the commit, its files, sizes,
//   hashes GET  {endpoint}/ORG/NAME/resolve/{commit}/FILE               the bytes, in ranges,
//   redirected or not
//
// Large files come in several ranges at once; what arrived is kept when a pull ends early, for
// whatever reason, and the next one goes on there. A model is found in the store only when the
// whole pull is complete and every hash is right.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace lode::hub {

struct PullProgress {
  uint64_t bytes_done = 0;  // including what earlier pulls left
  uint64_t bytes_total = 0;
  double bytes_per_second = 0;  // over the last seconds
  double seconds_left = -1;     // below 0: not known
  int files_done = 0;
  int files_total = 0;
  std::string note;  // why it waits, if it does: "the hub asks to wait 5 s"
};

// Tries of one request without a single new byte, and the pauses between them: doubling from the
// first to the longest, or what the hub's Retry-After says up to `retry_after_max_s`.
struct RetryPolicy {
  int tries = 6;
  double first_pause_s = 0.5;
  double longest_pause_s = 20;
  double retry_after_max_s = 300;
};

struct PullOptions {
  std::string model;  // ORG/NAME or ORG/NAME:FILE
  std::string revision = "main";
  std::vector<std::string> include;
  std::string endpoint = "https://huggingface.co";
  std::string token;  // empty: none
  std::string home;   // of the store; empty: the user's
  int parallel = 4;   // connections
  uint64_t segment_bytes = uint64_t{64} << 20;
  RetryPolicy retry;
  int stall_timeout_s = 60;
  const std::atomic<bool>* cancel = nullptr;  // may be set by a signal handler
  // About ten times a second, from the thread that called Pull.
  std::function<void(const PullProgress&)> progress;
};

// HF_TOKEN and HF_ENDPOINT, where they are set.
PullOptions PullOptionsFromEnvironment();

struct PullResult {
  std::string path;  // of the files
  std::string sha;
  int files = 0;
  uint64_t bytes = 0;             // of all of them
  uint64_t bytes_downloaded = 0;  // this time
};

// Errors, each a sentence that says what to do: kBadInput (a name, a login or licence that is
// missing, a file name that is refused), kNotFound, kNetwork (after all tries), kNoSpace,
// kCancelled. Parts stay where the next pull finds them.
Result<PullResult> Pull(const PullOptions& options);

// "  42%  1.3 of 3.1 GB  52.0 MB/s  0:35 left", at most `columns` wide; for a terminal's one line.
std::string ProgressLine(const PullProgress& progress, int columns);

}  // namespace lode::hub

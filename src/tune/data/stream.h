// Documents as one long text for pretraining: shards of tokens cut into windows of equal length, in
// an order of their own in each epoch, blended by weight.
//
// A window has rows + 1 tokens and shares its first with the window before, so every token but a
// shard's first is a label exactly once in an epoch. The last window of a shard may be shorter.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "tune/data/encode.h"
#include "tune/data/report.h"
#include "tune/data/shard.h"
#include "tune/data/source.h"

namespace lode::tune {

// A part of a mixture.
struct StreamPart {
  std::string name;
  std::vector<std::shared_ptr<const TokenShard>> shards;
  double weight = 0;      // share of windows; 0 in all parts: by their number of windows
  double epochs_max = 0;  // after which the part is used up; 0: never
};

struct StreamOptions {
  int64_t rows = 1024;  // of a window
  int64_t windows = 1;  // of a bin
  uint64_t seed = 1;
  bool shuffle = true;              // false: windows in the order of the shards
  bool reset_at_documents = false;  // a document sees nothing of the one before
};

// Which part is next: the one that is furthest behind its share. Prefixes of any length hold
// the shares to within one window. Errors (kNotFound): all parts are used up.
Result<std::unique_ptr<DataSource>> MakeStream(std::vector<StreamPart> parts,
                                               const StreamOptions& options);

// Texts of files as one shard in memory: every record that Encode takes, each a document.
// Errors: also those of the report's Verdict.
Result<std::shared_ptr<const TokenShard>> LoadTexts(const std::vector<std::string>& paths,
                                                    const Encoder& encoder, bool strict,
                                                    Report* report);

}  // namespace lode::tune

// From paths to examples: every record read, checked and encoded, with a report, before a run may
// start.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "tune/data/encode.h"
#include "tune/data/files.h"
#include "tune/data/report.h"

namespace lode::tune {

// A record as token ids.
struct Encoded {
  RecordKind kind = RecordKind::kText;
  std::vector<Example> examples;  // of a preference: the chosen answer
  std::vector<Example> rejected;  // of a preference
  std::optional<Task> task;
};

// What becomes of a sequence that is longer than there is room for.
enum class TooLong {
  kTruncate,  // its end is cut off; of a text nothing is lost: it is split
  kDrop,      // it is left out
};
// "truncate" or "drop". Errors: kBadInput that lists them.
Result<TooLong> ParseTooLong(const std::string& name);

struct ReadOptions {
  RecordOptions record;
  int64_t sequence_max = 0;  // tokens beyond which a remark is made; 0: any length will do
  TooLong too_long = TooLong::kTruncate;
};

// Returning an Error stops the reading and is what ReadData returns.
using EncodedVisitor = std::function<Result<void>(const Place& place, Encoded encoded)>;
// `visit` sees the records that are usable; the others are in the report. Errors: paths that cannot
// be read, and the visitor's own. Bad records are no error here: ask report->Verdict.
Result<void> ReadData(const std::vector<std::string>& paths, const Encoder& encoder,
                      const ReadOptions& options, Report* report, const EncodedVisitor& visit);

// Pieces of at most `tokens_max` that together have every label of `text` once: each piece but the
// first begins with the last token of the one before.
std::vector<Example> SplitText(const Example& text, int64_t tokens_max);

// All examples of text, chats, completions and tokens that teach something, none longer than
// options.sequence_max. Errors: also those of the report's Verdict.
Result<std::vector<Example>> LoadExamples(const std::vector<std::string>& paths,
                                          const Encoder& encoder, const ReadOptions& options,
                                          bool strict, Report* report);

// All pairs of a chosen and a rejected answer, none with a longer sequence than
// options.sequence_max: those are left out. Errors: also records of other kinds.
Result<std::vector<Preference>> LoadPreferences(const std::vector<std::string>& paths,
                                                const Encoder& encoder, const ReadOptions& options,
                                                bool strict, Report* report);
// All tasks; `sequence_max` is for the prompt. Errors: also records of other kinds.
Result<std::vector<Task>> LoadTasks(const std::vector<std::string>& paths, const Encoder& encoder,
                                    const ReadOptions& options, bool strict, Report* report);

}  // namespace lode::tune

// What reading a set of data found: counts of everything, the first of each kind of trouble with
// its place, and the verdict on which a run depends before it starts.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "tune/data/example.h"
#include "tune/data/files.h"
#include "tune/data/record.h"

namespace lode::tune {

class Report {
 public:
  void AddRecord(RecordKind kind) { ++records_[static_cast<size_t>(kind)]; }
  void AddError(const Place& place, const Error& error);
  void AddRemarks(const Place& place, const Remarks& remarks);
  void AddExample(const Example& example);

  // Errors refuse; remarks do when `strict`. The sentence counts them and quotes the first.
  Result<void> Verdict(bool strict) const;
  // Several lines: counts, a histogram of lengths, and the first troubles.
  std::string Text() const;
  Json ToJson() const;

  int64_t records() const;
  int64_t errors() const { return errors_; }
  int64_t remarks() const;
  int64_t remarks(RemarkKind kind) const { return counts_[static_cast<size_t>(kind)]; }
  int64_t examples() const { return examples_; }
  int64_t tokens() const { return tokens_; }
  int64_t supervised() const { return supervised_; }

 private:
  struct Trouble {
    std::string place, text;
  };
  static constexpr size_t kShown = 5;     // of each kind
  static constexpr size_t kLengths = 32;  // bucket b: lengths of [2^b, 2^(b + 1))

  std::array<int64_t, kRecordKinds> records_ = {};
  std::array<int64_t, kRemarkKinds> counts_ = {};
  std::array<std::vector<Trouble>, kRemarkKinds> shown_;
  std::vector<Trouble> shown_errors_;
  std::array<int64_t, kLengths> lengths_ = {};
  int64_t errors_ = 0, examples_ = 0, tokens_ = 0, supervised_ = 0, longest_ = 0;
};

}  // namespace lode::tune

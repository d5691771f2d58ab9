// Where a training run draws its bins from: endless, decided by a seed, resumable from a cursor.
// A source gives the same bins whatever happened to the process in between, and however many bins
// a step takes; ranks of a larger run draw the same bins and keep their own.
// Threads: one owner.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "tune/data/example.h"

namespace lode::tune {

class DataSource {
 public:
  virtual ~DataSource() = default;

  // The next bins; at the end of an epoch the next begins. Errors: data that is used up
  // (kNotFound), where the mixture limits its epochs.
  Result<std::vector<Bin>> Next(int64_t bins);

  // Where it stands: small, and all that a checkpoint must hold.
  Json Save() const;
  // Goes on exactly from there. Errors: a cursor of other data or options, unless `other_data` says
  // that this is meant (a phase of the run with another mixture): then it begins anew.
  Result<void> Restore(const Json& cursor, bool other_data = false);

  // Of the next bin, from 0; with several sources the furthest's.
  virtual int64_t epoch() const = 0;
  // Rows of a bin at most (example.h), and bins of an epoch (of a mixture: of its largest part).
  virtual int64_t rows_max() const = 0;
  virtual int64_t bins_per_epoch() const = 0;
  // One line for people: how much, how it is cut, how full bins are.
  virtual std::string Summary() const = 0;

 protected:
  virtual Result<Bin> NextBin() = 0;
  virtual Json Position() const = 0;
  // Errors: kBadInput.
  virtual Result<void> SetPosition(const Json& position) = 0;
  // A number for the data and the options that decide the order.
  virtual uint64_t Fingerprint() const = 0;
};

// --- Examples of their own length, packed. ------------------------------------------------------

enum class PackOrder {
  kDecreasing,  // first-fit-decreasing in each window: the fullest bins
  kShuffled,    // first-fit in the window's shuffled order: bins mix lengths
};
// "decreasing" or "shuffled". Errors: kBadInput that lists them.
Result<PackOrder> ParsePackOrder(const std::string& name);

struct PackOptions {
  int64_t rows = 4096;  // that a bin has room for
  PackOrder order = PackOrder::kDecreasing;
  int64_t window = 4096;  // examples that are packed together, next to each other in the epoch
  uint64_t seed = 1;
  bool shuffle = true;  // false: examples and bins come in the order of the data
};

// Bins as lists of indices into `rows`; each of at most `capacity` rows in sum, no item is larger.
// The order within a bin is that of the items as they were placed.
std::vector<std::vector<int64_t>> PackFirstFit(const std::vector<int64_t>& rows, int64_t capacity,
                                               PackOrder order);

// Errors: no examples, or one with more rows than a bin has (named by its number).
Result<std::unique_ptr<DataSource>> MakePacked(std::vector<Example> examples,
                                               const PackOptions& options);

}  // namespace lode::tune

#include "tune/data/stream.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "base/text.h"
#include "tune/data/dataset.h"
#include "tune/data/order.h"

namespace lode::tune {
namespace {

int64_t WindowsOf(const TokenShard& shard, int64_t rows) {
  return (std::max<int64_t>(0, shard.tokens() - 1) + rows - 1) / rows;
}

// Whether anything can be learnt from it.
bool HasRows(const StreamPart& part, bool reset_at_documents) {
  for (const auto& shard : part.shards) {
    if (!reset_at_documents && shard->tokens() > 1) return true;
    for (int64_t d = 0; d < shard->documents(); ++d) {
      if (shard->DocumentBegin(d + 1) - shard->DocumentBegin(d) > 1) return true;
    }
  }
  return false;
}

class StreamSource final : public DataSource {
 public:
  StreamSource(std::vector<StreamPart> parts, const StreamOptions& options)
      : parts_(std::move(parts)), options_(options), drawn_(parts_.size(), 0) {
    fingerprint_ = Mix(options_.seed, static_cast<uint64_t>(options_.rows),
                       static_cast<uint64_t>(options_.windows),
                       (options_.shuffle ? 2u : 0u) + (options_.reset_at_documents ? 1u : 0u));
    for (const StreamPart& part : parts_) {
      auto& ends = ends_.emplace_back();
      int64_t windows = 0;
      for (const auto& shard : part.shards) {
        ends.push_back(windows += WindowsOf(*shard, options_.rows));
        fingerprint_ = Mix(fingerprint_, shard->Fingerprint());
      }
      fingerprint_ = Mix(fingerprint_, std::bit_cast<uint64_t>(part.weight),
                         std::bit_cast<uint64_t>(part.epochs_max));
      weights_.push_back(part.weight > 0 ? part.weight : static_cast<double>(windows));
    }
  }

  int64_t epoch() const override {
    int64_t furthest = 0;
    for (size_t p = 0; p < parts_.size(); ++p) furthest = std::max(furthest, drawn_[p] / Count(p));
    return furthest;
  }
  int64_t rows_max() const override { return options_.rows * options_.windows; }
  int64_t bins_per_epoch() const override {
    int64_t most = 0;
    for (size_t p = 0; p < parts_.size(); ++p) most = std::max(most, Count(p));
    return (most + options_.windows - 1) / options_.windows;
  }
  std::string Summary() const override {
    double all = 0;
    for (const double weight : weights_) all += weight;
    std::vector<std::string> parts;
    for (size_t p = 0; p < parts_.size(); ++p) {
      int64_t tokens = 0;
      for (const auto& shard : parts_[p].shards) tokens += shard->tokens();
      parts.push_back(parts_[p].name + " " + WithThousands(static_cast<uint64_t>(tokens)) +
                      " tokens" +
                      (parts_.size() > 1 ? Format(" (%.1f %%)", 100 * weights_[p] / all) : ""));
    }
    return Join(parts, ", ") + " in windows of " +
           WithThousands(static_cast<uint64_t>(options_.rows)) + " rows";
  }

 protected:
  Result<Bin> NextBin() override {
    Bin bin;
    const std::vector<int64_t> before = drawn_;
    // A window of documents of one token each, kept apart, has no row; it does not count.
    for (int64_t i = 0; i < options_.windows || bin.empty(); ++i) {
      const size_t part = Behind();
      if (part == parts_.size()) {
        drawn_ = before;
        return Error(Code::kNotFound, "the data is used up",
                     "give more data, or let its parts be repeated");
      }
      const int64_t epoch = drawn_[part] / Count(part);
      auto window = drawn_[part] % Count(part);
      if (options_.shuffle) {
        const Permutation order(static_cast<uint64_t>(Count(part)),
                                Mix(options_.seed, part, static_cast<uint64_t>(epoch)));
        window = static_cast<int64_t>(order.At(static_cast<uint64_t>(window)));
      }
      AddWindow(part, window, &bin);
      ++drawn_[part];
    }
    return bin;
  }
  Json Position() const override { return {{"drawn", drawn_}}; }
  Result<void> SetPosition(const Json& position) override {
    const Json* drawn = FindKey(position, "drawn");
    if (drawn == nullptr || !drawn->is_array() || drawn->size() != drawn_.size()) {
      return Error(Code::kBadInput, "the cursor does not fit the parts of the mixture");
    }
    std::vector<int64_t> counts;
    for (const Json& count : *drawn) {
      if (!count.is_number_unsigned()) {
        return Error(Code::kBadInput, "the cursor counts what cannot be counted");
      }
      counts.push_back(count.get<int64_t>());
    }
    drawn_ = std::move(counts);
    return {};
  }
  uint64_t Fingerprint() const override { return fingerprint_; }

 private:
  int64_t Count(size_t part) const { return ends_[part].back(); }

  // The part that is furthest behind its share of what will have been drawn; as many as there are
  // parts: all are used up.
  size_t Behind() const {
    double all = 0;
    int64_t total = 1;
    std::vector<bool> open(parts_.size());
    for (size_t p = 0; p < parts_.size(); ++p) {
      const double most = parts_[p].epochs_max * static_cast<double>(Count(p));
      open[p] = parts_[p].epochs_max <= 0 || static_cast<double>(drawn_[p]) < std::ceil(most);
      if (open[p]) all += weights_[p];
      if (open[p]) total += drawn_[p];
    }
    size_t best = parts_.size();
    double most = 0;
    for (size_t p = 0; p < parts_.size(); ++p) {
      if (!open[p]) continue;
      const double behind =
          weights_[p] / all * static_cast<double>(total) - static_cast<double>(drawn_[p]);
      if (best == parts_.size() || behind > most) {
        best = p;
        most = behind;
      }
    }
    return best;
  }

  void AddWindow(size_t part, int64_t window, Bin* bin) const {
    const auto& ends = ends_[part];
    const auto at =
        static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), window) - ends.begin());
    const TokenShard& shard = *parts_[part].shards[at];
    const int64_t begin = (window - (at == 0 ? 0 : ends[at - 1])) * options_.rows;
    const int64_t end = std::min(shard.tokens(), begin + options_.rows + 1);
    int64_t from = begin;
    while (from < end) {
      int64_t to = end;
      if (options_.reset_at_documents) {
        to = std::min(end, shard.DocumentBegin(shard.NextDocument(from)));
      }
      Example example;
      example.tokens.resize(static_cast<size_t>(to - from));
      shard.Read(from, example.tokens);
      for (int64_t t = from; t < to; ++t) {
        example.weights.push_back(t == from ? 0.0f : shard.Weight(t));
      }
      if (example.size() > 1) bin->push_back(std::move(example));
      from = to;
    }
  }

  const std::vector<StreamPart> parts_;
  const StreamOptions options_;
  std::vector<std::vector<int64_t>> ends_;  // of each part's shards, in windows
  std::vector<double> weights_;
  std::vector<int64_t> drawn_;  // windows
  uint64_t fingerprint_ = 0;
};

}  // namespace

Result<std::unique_ptr<DataSource>> MakeStream(std::vector<StreamPart> parts,
                                               const StreamOptions& options) {
  LODE_CHECK(options.rows >= 1);
  LODE_CHECK(options.windows >= 1);
  if (parts.empty()) return Error(Code::kBadInput, "there is no data");
  const bool weighted = parts[0].weight > 0;
  for (const StreamPart& part : parts) {
    if (!HasRows(part, options.reset_at_documents)) {
      return Error(Code::kBadInput, part.name + ": has no two tokens behind each other");
    }
    if (!(part.weight >= 0) || !std::isfinite(part.weight) || (part.weight > 0) != weighted) {
      return Error(Code::kBadInput, part.name + ": the weights of a mixture are numbers above 0",
                   "give each part a weight, or none of them");
    }
  }
  return std::unique_ptr<DataSource>(std::make_unique<StreamSource>(std::move(parts), options));
}

Result<std::shared_ptr<const TokenShard>> LoadTexts(const std::vector<std::string>& paths,
                                                    const Encoder& encoder, bool strict,
                                                    Report* report) {
  ShardWriter writer(encoder.tokenizer().vocab_size(), HashOf(encoder.tokenizer()));
  const auto add = [&](const Place& place, const Encoded& encoded) -> Result<void> {
    for (const Example& example : encoded.examples) {
      auto added = writer.Add(example);
      if (!added.ok()) report->AddError(place, added.error());
    }
    return {};
  };
  LODE_TRY(ReadData(paths, encoder, {}, report, add));
  LODE_TRY(report->Verdict(strict));
  return std::shared_ptr<const TokenShard>(writer.Finish(paths.size() == 1 ? paths[0] : "texts"));
}

}  // namespace lode::tune

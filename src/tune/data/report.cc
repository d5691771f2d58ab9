#include "tune/data/report.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "base/text.h"

namespace lode::tune {
namespace {

std::string Number(int64_t n) { return WithThousands(static_cast<uint64_t>(n)); }

}  // namespace

void Report::AddError(const Place& place, const Error& error) {
  ++errors_;
  if (shown_errors_.size() < kShown) shown_errors_.push_back({ToString(place), error.ToString()});
}

void Report::AddRemarks(const Place& place, const Remarks& remarks) {
  for (const Remark& remark : remarks) {
    const auto kind = static_cast<size_t>(remark.kind);
    ++counts_[kind];
    if (shown_[kind].size() < kShown) shown_[kind].push_back({ToString(place), remark.text});
  }
}

void Report::AddExample(const Example& example) {
  ++examples_;
  tokens_ += example.size();
  supervised_ += CountSupervised(example);
  longest_ = std::max(longest_, example.size());
  const auto size = static_cast<uint64_t>(std::max<int64_t>(1, example.size()));
  ++lengths_[std::min<size_t>(kLengths - 1, static_cast<size_t>(std::bit_width(size)) - 1)];
}

int64_t Report::records() const {
  return std::accumulate(records_.begin(), records_.end(), int64_t{0});
}

int64_t Report::remarks() const {
  return std::accumulate(counts_.begin(), counts_.end(), int64_t{0});
}

Result<void> Report::Verdict(bool strict) const {
  if (errors_ > 0) {
    return Error(Code::kBadInput, Number(errors_) + (errors_ == 1 ? " record is" : " records are") +
                                      " not usable, the first: " + shown_errors_[0].place + ": " +
                                      shown_errors_[0].text);
  }
  if (strict && remarks() > 0) {
    const auto kind = static_cast<size_t>(
        std::find_if(counts_.begin(), counts_.end(), [](int64_t n) { return n > 0; }) -
        counts_.begin());
    return Error(Code::kBadInput,
                 "--strict: " + Number(remarks()) +
                     " remarks, the first: " + shown_[kind][0].place + ": " + shown_[kind][0].text,
                 "mend the data, or leave --strict out");
  }
  if (records() == 0) return Error(Code::kBadInput, "there are no records in the data");
  return {};
}

std::string Report::Text() const {
  std::string text;
  std::vector<std::string> kinds;
  for (size_t kind = 0; kind < kRecordKinds; ++kind) {
    if (records_[kind] == 0) continue;
    kinds.push_back(Number(records_[kind]) + " " + Name(static_cast<RecordKind>(kind)));
  }
  text += "records    " + (kinds.empty() ? "none" : Join(kinds, ", ")) + "\n";
  text += "sequences  " + Number(examples_) + ", the longest of " + Number(longest_) + " tokens\n";
  const double share =
      tokens_ == 0 ? 0.0 : 100.0 * static_cast<double>(supervised_) / static_cast<double>(tokens_);
  text += "tokens     " + Number(tokens_) + ", supervised " + Number(supervised_) +
          Format(" (%.1f %%)\n", share);
  const int64_t most = *std::max_element(lengths_.begin(), lengths_.end());
  for (size_t b = 0; b < kLengths && most > 0; ++b) {
    if (lengths_[b] == 0) continue;
    const auto bar = static_cast<size_t>((lengths_[b] * 40 + most - 1) / most);
    text += Format("  %9s  %s %s\n", ("< " + Number(int64_t{2} << b)).c_str(),
                   std::string(bar, '#').c_str(), Number(lengths_[b]).c_str());
  }
  const auto list = [&](const std::string& title, int64_t count,
                        const std::vector<Trouble>& troubles) {
    if (count == 0) return;
    text += title + ": " + Number(count) + "\n";
    for (const Trouble& trouble : troubles) {
      text += "  " + trouble.place + ": " + trouble.text + "\n";
    }
    if (count > static_cast<int64_t>(troubles.size())) text += "  ...\n";
  };
  list("error, not usable", errors_, shown_errors_);
  for (size_t kind = 0; kind < kRemarkKinds; ++kind) {
    list(std::string("remark, ") + Describe(static_cast<RemarkKind>(kind)), counts_[kind],
         shown_[kind]);
  }
  return text;
}

Json Report::ToJson() const {
  Json json = {{"records", Json::object()}, {"sequences", examples_},   {"tokens", tokens_},
               {"supervised", supervised_}, {"longest", longest_},      {"lengths", Json::array()},
               {"errors", errors_},         {"remarks", Json::object()}};
  for (size_t kind = 0; kind < kRecordKinds; ++kind) {
    if (records_[kind] > 0) json["records"][Name(static_cast<RecordKind>(kind))] = records_[kind];
  }
  for (size_t b = 0; b < kLengths; ++b) {
    if (lengths_[b] > 0) {
      json["lengths"].push_back({{"below", int64_t{2} << b}, {"count", lengths_[b]}});
    }
  }
  for (size_t kind = 0; kind < kRemarkKinds; ++kind) {
    if (counts_[kind] > 0) json["remarks"][Describe(static_cast<RemarkKind>(kind))] = counts_[kind];
  }
  const auto list = [&](const char* level, const std::vector<Trouble>& troubles) {
    for (const Trouble& trouble : troubles) {
      json["shown"].push_back({{"level", level}, {"place", trouble.place}, {"text", trouble.text}});
    }
  };
  json["shown"] = Json::array();
  list("error", shown_errors_);
  for (const auto& troubles : shown_) list("remark", troubles);
  return json;
}

}  // namespace lode::tune

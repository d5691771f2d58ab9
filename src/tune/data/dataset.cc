#include "tune/data/dataset.h"

#include <algorithm>
#include <utility>

#include "base/text.h"
#include "tune/data/shard.h"

namespace lode::tune {
namespace {

Result<Encoded> EncodeRecord(const DataRecord& record, const Encoder& encoder, Remarks* remarks) {
  Encoded encoded;
  encoded.kind = record.kind;
  switch (record.kind) {
    case RecordKind::kPreference: {
      LODE_ASSIGN(Preference pair, encoder.EncodePreference(record, remarks));
      encoded.examples = std::move(pair.chosen);
      encoded.rejected = std::move(pair.rejected);
      break;
    }
    case RecordKind::kTask: {
      LODE_ASSIGN(encoded.task, encoder.EncodeTask(record, remarks));
      break;
    }
    default: {
      LODE_ASSIGN(encoded.examples, encoder.Encode(record, remarks));
    }
  }
  return encoded;
}

// Makes examples short enough, and keeps those that teach something.
void Keep(std::vector<Example> examples, RecordKind kind, const ReadOptions& options,
          std::vector<Example>* kept) {
  const int64_t most = options.sequence_max;
  for (Example& example : examples) {
    if (most > 0 && example.size() > most) {
      if (options.too_long == TooLong::kDrop) continue;
      if (kind == RecordKind::kText) {
        for (Example& piece : SplitText(example, most)) kept->push_back(std::move(piece));
        continue;
      }
      example.tokens.resize(static_cast<size_t>(most));
      example.weights.resize(static_cast<size_t>(most));
    }
    if (CountSupervised(example) > 0) kept->push_back(std::move(example));
  }
}

// Counts an encoded record, and remarks on what is longer than a sequence may be.
void Count(const Place& place, const Encoded& encoded, const ReadOptions& options, Report* report) {
  Remarks remarks;
  const auto check = [&](int64_t tokens) {
    if (options.sequence_max <= 0 || tokens <= options.sequence_max) return;
    remarks.push_back(
        {RemarkKind::kOverLong,
         Format("%lld tokens; a sequence may have %lld", static_cast<long long>(tokens),
                static_cast<long long>(options.sequence_max))});
  };
  report->AddRecord(encoded.kind);
  for (const auto* examples : {&encoded.examples, &encoded.rejected}) {
    for (const Example& example : *examples) {
      report->AddExample(example);
      check(example.size());
    }
  }
  if (encoded.task) {
    Example prompt = {encoded.task->prompt, std::vector<float>(encoded.task->prompt.size())};
    report->AddExample(prompt);
    check(prompt.size());
  }
  report->AddRemarks(place, remarks);
}

// A shard's documents, each a record.
Result<void> ReadShard(const std::string& file, const Encoder& encoder, const ReadOptions& options,
                       Report* report, const EncodedVisitor& visit) {
  LODE_ASSIGN(const auto shard, TokenShard::Open(file));
  LODE_TRY(shard->Check(encoder.tokenizer()));
  for (int64_t d = 0; d < shard->documents(); ++d) {
    const int64_t begin = shard->DocumentBegin(d), end = shard->DocumentBegin(d + 1);
    Example example;
    example.tokens.resize(static_cast<size_t>(end - begin));
    shard->Read(begin, example.tokens);
    for (int64_t t = begin; t < end; ++t) {
      example.weights.push_back(t == begin ? 0.0f : shard->Weight(t));
    }
    Encoded encoded;
    encoded.kind = RecordKind::kTokens;
    encoded.examples.push_back(std::move(example));
    const Place place = {file, d + 1, true, end};
    Count(place, encoded, options, report);
    LODE_TRY(visit(place, std::move(encoded)));
  }
  return {};
}

}  // namespace

Result<TooLong> ParseTooLong(const std::string& name) {
  if (name == "truncate") return TooLong::kTruncate;
  if (name == "drop") return TooLong::kDrop;
  return Error(Code::kBadInput, "long sequences cannot be treated as " + Quote(name),
               "choices: truncate, drop");
}

std::vector<Example> SplitText(const Example& text, int64_t tokens_max) {
  LODE_CHECK(tokens_max >= 2);
  std::vector<Example> pieces;
  for (int64_t begin = 0; begin + 1 < text.size(); begin += tokens_max - 1) {
    const auto from = static_cast<std::ptrdiff_t>(begin);
    const auto to = static_cast<std::ptrdiff_t>(std::min(text.size(), begin + tokens_max));
    Example piece;
    piece.tokens.assign(text.tokens.begin() + from, text.tokens.begin() + to);
    piece.weights.assign(text.weights.begin() + from, text.weights.begin() + to);
    piece.weights[0] = 0;
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

Result<void> ReadData(const std::vector<std::string>& paths, const Encoder& encoder,
                      const ReadOptions& options, Report* report, const EncodedVisitor& visit) {
  LODE_ASSIGN(const std::vector<std::string> files, FindDataFiles(paths));
  const auto take = [&](const Place& place, Result<DataRecord> record) -> Result<void> {
    if (!record.ok()) {
      report->AddError(place, record.error());
      return {};
    }
    Remarks remarks = std::move(record->remarks);
    auto encoded = EncodeRecord(*record, encoder, &remarks);
    report->AddRemarks(place, remarks);
    if (!encoded.ok()) {
      report->AddError(place, encoded.error());
      return {};
    }
    Count(place, *encoded, options, report);
    return visit(place, std::move(*encoded));
  };
  for (const std::string& file : files) {
    if (IsShard(file)) {
      LODE_TRY(ReadShard(file, encoder, options, report, visit));
    } else {
      LODE_TRY(VisitRecords(file, options.record, take));
    }
  }
  return {};
}

Result<std::vector<Example>> LoadExamples(const std::vector<std::string>& paths,
                                          const Encoder& encoder, const ReadOptions& options,
                                          bool strict, Report* report) {
  std::vector<Example> examples;
  const auto keep = [&](const Place& place, Encoded encoded) -> Result<void> {
    if (encoded.task || !encoded.rejected.empty()) {
      report->AddError(place, Error(Code::kBadInput,
                                    std::string("a record of kind ") + Name(encoded.kind) +
                                        " has no text to imitate",
                                    "preferences are for dpo, tasks for grpo"));
      return {};
    }
    Keep(std::move(encoded.examples), encoded.kind, options, &examples);
    return {};
  };
  LODE_TRY(ReadData(paths, encoder, options, report, keep));
  LODE_TRY(report->Verdict(strict));
  if (examples.empty()) {
    return Error(Code::kBadInput, "no token of the data is supervised",
                 "lode data inspect shows what is");
  }
  return examples;
}

}  // namespace lode::tune

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

namespace {

// Reads all, refuses kinds for which `fits` is false, and hands the rest to `keep`.
Result<void> Load(const std::vector<std::string>& paths, const Encoder& encoder,
                  const ReadOptions& options, bool strict, Report* report, bool (*fits)(RecordKind),
                  const std::function<void(Encoded)>& keep) {
  const auto take = [&](const Place& place, Encoded encoded) -> Result<void> {
    if (fits(encoded.kind)) {
      keep(std::move(encoded));
    } else {
      report->AddError(place, Error(Code::kBadInput,
                                    std::string("a record of kind ") + Name(encoded.kind) +
                                        " is not what this run learns from",
                                    "texts and answers are imitated (sft), preferences compared "
                                    "(dpo), tasks judged (grpo)"));
    }
    return {};
  };
  LODE_TRY(ReadData(paths, encoder, options, report, take));
  return report->Verdict(strict);
}

bool AllFit(const std::vector<Example>& examples, int64_t most) {
  return most <= 0 || std::all_of(examples.begin(), examples.end(),
                                  [&](const Example& example) { return example.size() <= most; });
}

Error NothingLeft(const char* what) {
  return Error(Code::kBadInput, std::string("the data has no ") + what + " that can be used",
               "lode data inspect shows what is there");
}

}  // namespace

Result<std::vector<Example>> LoadExamples(const std::vector<std::string>& paths,
                                          const Encoder& encoder, const ReadOptions& options,
                                          bool strict, Report* report) {
  std::vector<Example> examples;
  LODE_TRY(Load(paths, encoder, options, strict, report, IsImitated, [&](Encoded encoded) {
    Keep(std::move(encoded.examples), encoded.kind, options, &examples);
  }));
  if (examples.empty()) return NothingLeft("sequence");
  return examples;
}

Result<std::vector<Preference>> LoadPreferences(const std::vector<std::string>& paths,
                                                const Encoder& encoder, const ReadOptions& options,
                                                bool strict, Report* report) {
  std::vector<Preference> pairs;
  const auto fits = [](RecordKind kind) { return kind == RecordKind::kPreference; };
  LODE_TRY(Load(paths, encoder, options, strict, report, fits, [&](Encoded encoded) {
    const int64_t most = options.sequence_max;
    if (!AllFit(encoded.examples, most) || !AllFit(encoded.rejected, most)) return;
    pairs.push_back({std::move(encoded.examples), std::move(encoded.rejected)});
  }));
  if (pairs.empty()) return NothingLeft("pair");
  return pairs;
}

Result<std::vector<Task>> LoadTasks(const std::vector<std::string>& paths, const Encoder& encoder,
                                    const ReadOptions& options, bool strict, Report* report) {
  std::vector<Task> tasks;
  const auto fits = [](RecordKind kind) { return kind == RecordKind::kTask; };
  LODE_TRY(Load(paths, encoder, options, strict, report, fits, [&](Encoded encoded) {
    if (!encoded.task) return;
    const auto tokens = static_cast<int64_t>(encoded.task->prompt.size());
    if (options.sequence_max > 0 && tokens > options.sequence_max) return;
    tasks.push_back(*std::move(encoded.task));
  }));
  if (tasks.empty()) return NothingLeft("task");
  return tasks;
}

}  // namespace lode::tune

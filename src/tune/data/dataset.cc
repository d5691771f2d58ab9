#include "tune/data/dataset.h"

#include <utility>

#include "base/text.h"

namespace lode::tune {
namespace {

Result<Encoded> EncodeRecord(const Record& record, const Encoder& encoder, Remarks* remarks) {
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

}  // namespace

Result<void> ReadData(const std::vector<std::string>& paths, const Encoder& encoder,
                      const ReadOptions& options, Report* report, const EncodedVisitor& visit) {
  LODE_ASSIGN(const std::vector<std::string> files, FindDataFiles(paths));
  const auto take = [&](const Place& place, Result<Record> record) -> Result<void> {
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
  for (const std::string& file : files) LODE_TRY(VisitRecords(file, options.record, take));
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
    for (Example& example : encoded.examples) {
      if (CountSupervised(example) > 0) examples.push_back(std::move(example));
    }
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

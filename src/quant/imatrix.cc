#include "quant/imatrix.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/file.h"
#include "base/text.h"
#include "formats/gguf.h"
#include "formats/gguf_writer.h"
#include "quant/encode.h"

namespace lode::quant {
namespace {

using tensor::DType;
using tensor::TensorInfo;

constexpr char kSums[] = ".in_sum2";
constexpr char kCounts[] = ".counts";

Error Bad(const std::string& name, const std::string& what) {
  return Error(Code::kBadInput, name + ": " + what,
               "an importance matrix is made by lode quantize --save-imatrix, or by llama.cpp");
}

bool AllGood(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(),
                     [](float value) { return value >= 0.0f && std::isfinite(value); });
}

std::vector<float> Floats(const formats::GgufFile& file, const TensorInfo& info) {
  const auto bytes = file.View(info).bytes;
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

Result<Imatrix> FromGguf(const formats::GgufFile& file) {
  Imatrix imatrix;
  if (const auto names = file.GetStrings("imatrix.datasets"); names.ok()) {
    for (const std::string_view name : *names) imatrix.datasets.emplace_back(name);
  }
  const auto number = [&](const char* key) {
    const auto value = file.GetInt(key);
    return value.ok() && *value >= 0 && *value <= UINT32_MAX ? static_cast<uint32_t>(*value) : 0u;
  };
  imatrix.chunks = number("imatrix.chunk_count");
  imatrix.chunk_tokens = number("imatrix.chunk_size");
  for (const TensorInfo& info : file.tensors()) {
    if (!EndsWith(info.name, kSums)) continue;
    const std::string name = info.name.substr(0, info.name.size() - std::strlen(kSums));
    const TensorInfo* counts = file.Find(name + kCounts);
    if (counts == nullptr || info.dtype != DType::kF32 || counts->dtype != DType::kF32) {
      return Bad(file.path(), "the sums of " + Quote(name) + " have no counts in F32 beside them");
    }
    ImatrixEntry entry;
    entry.sums = Floats(file, info);
    const std::vector<float> stored = Floats(file, *counts);
    entry.counts.assign(stored.begin(), stored.end());
    const bool whole = !entry.counts.empty() && !entry.sums.empty() &&
                       entry.sums.size() % entry.counts.size() == 0;
    if (!whole || !AllGood(entry.sums) || !AllGood(stored)) {
      return Bad(file.path(), "the entry of " + Quote(name) + " is damaged");
    }
    imatrix.entries[name] = std::move(entry);
  }
  if (imatrix.entries.empty()) return Bad(file.path(), "is no importance matrix");
  return imatrix;
}

// i32 entries; each: i32 bytes of the name, the name, i32 calls, i32 values, the values; then, or
// not, i32 chunks, i32 bytes, the name of the text.
class LegacyReader {
 public:
  LegacyReader(std::span<const std::byte> bytes, const std::string& name)
      : bytes_(bytes), name_(name) {}

  Result<Imatrix> Read() {
    Imatrix imatrix;
    int32_t entries = 0;
    if (!Take(&entries) || entries < 1) return Bad(name_, "is no importance matrix");
    for (int32_t i = 0; i < entries; ++i) {
      std::string tensor;
      int32_t calls = 0, values = 0;
      if (!TakeText(&tensor) || tensor.empty() || !Take(&calls) || !Take(&values) || values < 1 ||
          calls < 0 || left() / sizeof(float) < static_cast<size_t>(values)) {
        return Bad(name_, Format("ends inside or is damaged at entry %d", i));
      }
      ImatrixEntry entry;
      entry.sums.resize(static_cast<size_t>(values));
      std::memcpy(entry.sums.data(), bytes_.data() + at_, entry.sums.size() * sizeof(float));
      at_ += entry.sums.size() * sizeof(float);
      if (!AllGood(entry.sums)) {
        return Bad(name_, "the entry of " + Quote(tensor) + " holds what is no mean square");
      }
      entry.counts = {calls > 0 ? static_cast<double>(calls) : 1.0};
      imatrix.entries[tensor] = std::move(entry);
    }
    int32_t chunks = 0;
    std::string dataset;
    if (Take(&chunks)) imatrix.chunks = static_cast<uint32_t>(std::max(0, chunks));
    if (TakeText(&dataset) && !dataset.empty()) imatrix.datasets.push_back(dataset);
    return imatrix;
  }

 private:
  size_t left() const { return bytes_.size() - at_; }
  bool Take(int32_t* value) {
    if (left() < sizeof(*value)) return false;
    std::memcpy(value, bytes_.data() + at_, sizeof(*value));
    at_ += sizeof(*value);
    return true;
  }
  bool TakeText(std::string* text) {
    int32_t length = 0;
    if (!Take(&length) || length < 0 || left() < static_cast<size_t>(length)) return false;
    text->assign(reinterpret_cast<const char*>(bytes_.data() + at_), static_cast<size_t>(length));
    at_ += static_cast<size_t>(length);
    return true;
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  size_t at_ = 0;
};

// Sums that an expert seen fewer times takes from the others of its stack, in rows.
constexpr double kPriorRows = 8;

Result<MatrixImportance> Fit(const ImatrixEntry& entry, const Matrix& matrix) {
  const auto cols = static_cast<size_t>(matrix.cols);
  const auto experts = static_cast<size_t>(matrix.experts);
  if (entry.sums.size() != cols * experts ||
      (entry.counts.size() != experts && entry.counts.size() != 1)) {
    return Error(Code::kBadInput,
                 Format("the importance matrix has %zu columns, but the model %zu, for ",
                        entry.sums.size(), cols * experts) +
                     Quote(matrix.slot.gguf),
                 "it was made with another model");
  }
  std::vector<double> counts(experts, entry.counts.front());
  if (entry.counts.size() == experts) counts = entry.counts;
  std::vector<double> mean(cols);
  double rows = 0;
  MatrixImportance importance;
  for (size_t e = 0; e < experts; ++e) {
    const float* sums = &entry.sums[e * cols];
    const bool zero = std::all_of(sums, sums + cols, [](float sum) { return sum == 0.0f; });
    if (experts > 1 && zero) counts[e] = 0;
    if (counts[e] == 0) importance.unreached.push_back(static_cast<int64_t>(e));
    rows += counts[e];
    for (size_t c = 0; counts[e] > 0 && c < cols; ++c) mean[c] += static_cast<double>(sums[c]);
  }
  if (rows == 0) return importance;
  std::vector<float> squares(cols);
  const double prior = experts > 1 ? kPriorRows : 0;
  for (size_t e = 0; e < experts; ++e) {
    for (size_t c = 0; c < cols; ++c) {
      const double own = static_cast<double>(counts[e] > 0 ? entry.sums[e * cols + c] : 0.0f);
      squares[c] = static_cast<float>((own + prior * mean[c] / rows) / (counts[e] + prior));
    }
    importance.experts.push_back(Importance(squares));
    if (importance.experts.back().empty()) {  // all zero: nothing to weigh by
      importance.experts.clear();
      return importance;
    }
  }
  return importance;
}

}  // namespace

Result<Imatrix> ParseImatrix(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0) {
    LODE_ASSIGN(const auto file, formats::GgufFile::FromMemory(bytes, name));
    return FromGguf(*file);
  }
  return LegacyReader(bytes, name).Read();
}

Result<Imatrix> ReadImatrix(const std::string& path) {
  LODE_ASSIGN(const auto map, MappedFile::Open(path));
  return ParseImatrix(map->bytes(), path);
}

Result<void> WriteImatrix(const Imatrix& imatrix, const std::string& path) {
  formats::GgufWriter writer;
  writer.SetString("general.type", "imatrix");
  writer.SetStrings("imatrix.datasets", std::span<const std::string>(imatrix.datasets));
  writer.SetU32("imatrix.chunk_count", imatrix.chunks);
  writer.SetU32("imatrix.chunk_size", imatrix.chunk_tokens);
  for (const auto& [name, entry] : imatrix.entries) {
    const auto count = static_cast<int64_t>(entry.counts.size());
    const auto values = static_cast<int64_t>(entry.sums.size());
    writer.AddTensor(name + kSums, DType::kF32, {count, values / std::max<int64_t>(1, count)});
    writer.AddTensor(name + kCounts, DType::kF32, {count, 1});
  }
  LODE_TRY(writer.Begin(path));
  for (const auto& [name, entry] : imatrix.entries) {
    const std::vector<float> counts(entry.counts.begin(), entry.counts.end());
    LODE_TRY(writer.Write(std::as_bytes(std::span(entry.sums))));
    LODE_TRY(writer.Write(std::as_bytes(std::span(counts))));
  }
  return writer.Finish();
}

Result<std::vector<MatrixImportance>> ImportanceFor(const Imatrix& imatrix,
                                                    const Matrices& matrices) {
  std::vector<MatrixImportance> out;
  bool any = false;
  for (const Matrix& matrix : matrices.all()) {
    const auto entry = imatrix.entries.find(matrix.slot.gguf);
    if (entry == imatrix.entries.end()) {
      out.emplace_back();
      continue;
    }
    LODE_ASSIGN(MatrixImportance importance, Fit(entry->second, matrix));
    any = true;
    out.push_back(std::move(importance));
  }
  if (!any) {
    return Error(Code::kBadInput, "no entry of the importance matrix is of this model",
                 "its first entry is " + Quote(imatrix.entries.begin()->first));
  }
  return out;
}

Calibration::Calibration(const Matrices& matrices) : matrices_(matrices) {
  for (size_t i = 0; i < matrices.all().size(); ++i) {
    const Matrix& matrix = matrices.all()[i];
    sums_.emplace_back(static_cast<size_t>(matrix.experts * matrix.cols));
    counts_.emplace_back(static_cast<size_t>(matrix.experts));
    for (int64_t e = 0; e < matrix.experts; ++e) places_[matrices.Address(i, e)] = {i, e};
  }
}

void Calibration::Inputs(const model::Weight& weight, const float* x, int64_t x_stride,
                         int64_t rows) {
  const auto place = places_.find(weight.data);
  if (place == places_.end()) return;
  const auto [matrix, expert] = place->second;
  const int64_t cols = matrices_.all()[matrix].cols;
  double* sums = &sums_[matrix][static_cast<size_t>(expert * cols)];
  for (int64_t t = 0; t < rows; ++t) {
    const float* row = x + t * x_stride;
    for (int64_t c = 0; c < cols; ++c) {
      sums[c] += static_cast<double>(row[c]) * static_cast<double>(row[c]);
    }
  }
  counts_[matrix][static_cast<size_t>(expert)] += static_cast<double>(rows);
}

Imatrix Calibration::Collected(const std::string& dataset, uint32_t chunks,
                            uint32_t chunk_tokens) const {
  Imatrix imatrix;
  imatrix.datasets = {dataset};
  imatrix.chunks = chunks;
  imatrix.chunk_tokens = chunk_tokens;
  for (size_t i = 0; i < matrices_.all().size(); ++i) {
    const bool seen =
        std::any_of(counts_[i].begin(), counts_[i].end(), [](double n) { return n > 0; });
    if (!seen) continue;  // the embedding; the MTP head when it was not run
    ImatrixEntry& entry = imatrix.entries[matrices_.all()[i].slot.gguf];
    entry.sums.assign(sums_[i].begin(), sums_[i].end());
    entry.counts = counts_[i];
  }
  return imatrix;
}

}  // namespace lode::quant

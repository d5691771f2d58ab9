#include "quant/quantize.h"

#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "base/text.h"
#include "formats/gguf_writer.h"
#include "quant/metadata.h"
#include "quant/pack.h"
#include "quant/record.h"
#include "quant/work.h"
#include "tensor/blocks.h"

namespace lode::quant {
namespace {

using formats::GgufWriter;
using tensor::DType;
using tensor::TensorInfo;

// The files of a source as they are now; a model in memory has none.
class FileStamps {
 public:
  explicit FileStamps(const tensor::TensorSource& source) {
    namespace fs = std::filesystem;
    std::set<std::string> names = {source.path()};
    for (const TensorInfo& info : source.tensors()) names.insert(info.file);
    const fs::path folder = IsFolder(source.path()) ? fs::path(source.path())
                                                    : fs::path(source.path()).parent_path();
    for (const std::string& name : names) {
      for (const std::string& path : {name, (folder / name).string()}) {
        struct stat info;
        if (::stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) continue;
        stamps_.push_back({path, info});
        break;
      }
    }
  }

  Result<void> Check() const {
    for (const auto& [path, was] : stamps_) {
      struct stat now;
      if (::stat(path.c_str(), &now) == 0 && now.st_size == was.st_size &&
          now.st_ino == was.st_ino && now.st_mtim.tv_sec == was.st_mtim.tv_sec &&
          now.st_mtim.tv_nsec == was.st_mtim.tv_nsec) {
        continue;
      }
      return Error(Code::kBadInput, Quote(path, 300) + " changed while it was read",
                   "run it again when nobody writes to it");
    }
    return {};
  }

 private:
  std::vector<std::pair<std::string, struct stat>> stamps_;
};

// Of a row, added up in order.
struct ErrorSums {
  double error = 0, size = 0, weighted_error = 0, weighted_size = 0;

  void Add(const ErrorSums& other) {
    error += other.error;
    size += other.size;
    weighted_error += other.weighted_error;
    weighted_size += other.weighted_size;
  }
};

// Eight sums side by side, so that no addition waits for the one before; columns that are left over
// come at the end. A fixed order, like every sum here.
typedef double Doubles __attribute__((vector_size(64)));
typedef float Floats __attribute__((vector_size(32)));
constexpr int64_t kLanes = 8;

void Widen(const float* source, Doubles* target) {
  Floats values;
  std::memcpy(&values, source, sizeof(values));
  *target = __builtin_convertvector(values, Doubles);
}

double Total(const Doubles& lanes) {
  double sum = 0;
  for (int64_t i = 0; i < kLanes; ++i) sum += lanes[i];
  return sum;
}

ErrorSums Compare(const float* x, const float* y, const float* importance, float scale,
                  int64_t cols) {
  Doubles error = {}, size = {}, weighted_error = {}, weighted_size = {};
  const double factor = static_cast<double>(scale);
  float tail[3][kLanes] = {};
  for (int64_t c = 0; c < cols; c += kLanes) {
    const bool whole = c + kLanes <= cols;
    for (int64_t i = c; !whole && i < cols; ++i) {
      tail[0][i - c] = x[i];
      tail[1][i - c] = y[i];
      tail[2][i - c] = importance == nullptr ? 0.0f : importance[i];
    }
    Doubles value, decoded, weight;
    Widen(whole ? x + c : tail[0], &value);
    Widen(whole ? y + c : tail[1], &decoded);
    const Doubles miss = value - decoded * factor;
    error += miss * miss;
    size += value * value;
    if (importance == nullptr) continue;
    Widen(whole ? importance + c : tail[2], &weight);
    weighted_error += weight * miss * miss;
    weighted_size += weight * value * value;
  }
  return {Total(error), Total(size), Total(weighted_error), Total(weighted_size)};
}

double Relative(double error, double size) { return size > 0 ? std::sqrt(error / size) : 0.0; }

class Quantizer {
 public:
  Quantizer(const tensor::TensorSource& in, const QuantizeOptions& options)
      : in_(in), options_(options), stamps_(in), convert_(WorkOptions(options)), work_(convert_) {}

  Result<QuantizeReport> Run(const std::string& out);

 private:
  // One tensor of the output.
  struct Item {
    enum class What : uint8_t { kMatrix, kScales, kTensor, kVector } what;
    std::string name;
    DType dtype;
    tensor::Shape shape;
    size_t matrix = 0;                 // kMatrix, kScales
    const TensorInfo* info = nullptr;  // kTensor: copied
    const SlotPlan* slot = nullptr;    // kVector: from Hugging Face
  };

  static ConvertOptions WorkOptions(const QuantizeOptions& options) {
    ConvertOptions out;
    out.threads = options.threads;
    out.progress = options.progress;
    return out;
  }
  Result<void> Choose();
  void ListGguf();
  void ListHuggingFace();
  void AddMatrix(size_t index);
  Result<void> SetMetadata(GgufWriter* writer);
  void Declare(GgufWriter* writer);
  Result<void> Write(const Item& item, const Sink& sink);
  Result<void> WriteMatrix(size_t index, const Sink& sink);
  Result<void> WriteExpert(size_t index, int64_t expert, float scale, ErrorSums* sums,
                           const Sink& sink);
  Result<float> LargestOf(size_t index, int64_t expert);
  Error NotFinite(size_t index) const;

  const tensor::TensorSource& in_;
  const QuantizeOptions& options_;
  FileStamps stamps_;
  ConvertOptions convert_;
  Work work_;
  std::optional<Matrices> matrices_;
  Choices choices_;
  std::vector<MatrixImportance> importance_;
  std::vector<std::vector<float>> scales_;  // NVFP4: of each expert, once the matrix is written
  std::vector<Item> items_;
  QuantizeReport report_;
};

Result<void> Quantizer::Choose() {
  LODE_ASSIGN(Matrices matrices, Matrices::Open(in_));
  matrices_.emplace(std::move(matrices));
  LODE_ASSIGN(choices_,
              ChooseTypes(*matrices_, options_.policy, options_.imatrix != nullptr));
  const size_t count = matrices_->all().size();
  importance_.resize(count);
  if (options_.imatrix != nullptr) {
    LODE_ASSIGN(importance_, ImportanceFor(*options_.imatrix, *matrices_));
  }
  scales_.resize(count);
  int64_t requantized = 0;
  std::vector<std::string> unknown;
  for (size_t i = 0; i < count; ++i) {
    const Matrix& matrix = matrices_->all()[i];
    const DType to = choices_.of[i].type;
    MatrixReport report;
    report.name = matrix.slot.gguf;
    report.group = GroupOf(matrix);
    report.from = matrix.stored;
    report.to = to;
    report.elements = matrix.elements();
    report.copied = to == matrix.stored && (matrices_->gguf() != nullptr || !matrix.scaled) &&
                    (matrices_->gguf() != nullptr || IsFloatType(to));
    tensor::CountBytes(to, matrix.slot.gguf_shape, &report.bytes);
    report.unreached = importance_[i].unreached;
    const bool coarse = tensor::Info(matrix.stored).block_elements > 1 ||
                        matrix.stored == DType::kF8E4M3;
    requantized += coarse && !report.copied ? 1 : 0;
    const bool weighed = tensor::Info(to).block_elements > 1 && !report.copied;
    if (options_.imatrix != nullptr && weighed && importance_[i].experts.empty() &&
        report.group != Group::kEmbedding) {
      unknown.push_back(report.name);
    }
    if (!choices_.of[i].fallback.empty()) report_.fallbacks.push_back(choices_.of[i].fallback);
    report_.parameters += report.elements;
    report_.source_bytes += static_cast<uint64_t>(
        static_cast<double>(report.elements) * tensor::Info(matrix.stored).block_bytes /
        tensor::Info(matrix.stored).block_elements);
    report_.matrices.push_back(std::move(report));
  }
  if (requantized > 0) {
    report_.warnings.push_back(Format("%lld matrices were quantized already: their errors add up; "
                                      "a source in 16 bits gives a better file",
                                      static_cast<long long>(requantized)));
  }
  if (!unknown.empty()) {
    const size_t all = unknown.size();
    if (all > 8) unknown.resize(8);
    report_.warnings.push_back(Format("nothing is known of the importance of %zu matrices: ", all) +
                               Join(unknown, ", ") + (all > 8 ? " .." : ""));
  }
  return {};
}

void Quantizer::AddMatrix(size_t index) {
  const Matrix& matrix = matrices_->all()[index];
  const MatrixReport& report = report_.matrices[index];
  items_.push_back(
      {Item::What::kMatrix, matrix.slot.gguf, report.to, matrix.slot.gguf_shape, index});
  if (report.to == DType::kNVFP4 && !report.copied) {
    items_.push_back({Item::What::kScales, matrices_->SideNames(index).front(), DType::kF32,
                      {matrix.experts}, index});
  }
}

void Quantizer::ListGguf() {
  std::map<std::string_view, size_t> matrices;
  std::set<std::string> sides;  // of matrices that are written anew
  for (size_t i = 0; i < matrices_->all().size(); ++i) {
    matrices[report_.matrices[i].name] = i;
    if (report_.matrices[i].copied) continue;
    for (const std::string& name : matrices_->SideNames(i)) sides.insert(name);
  }
  for (const TensorInfo& info : in_.tensors()) {
    if (sides.count(info.name) > 0) continue;
    if (const auto found = matrices.find(info.name); found != matrices.end()) {
      AddMatrix(found->second);
    } else {
      items_.push_back({Item::What::kTensor, info.name, info.dtype, info.shape, 0, &info});
    }
  }
}

void Quantizer::ListHuggingFace() {
  size_t matrix = 0;
  for (const SlotPlan& slot : matrices_->plan()->slots) {
    if (slot.slot.row->kind == model::Kind::kMatrix) {
      AddMatrix(matrix++);
    } else {
      items_.push_back({Item::What::kVector, slot.slot.gguf, DType::kF32, slot.slot.gguf_shape, 0,
                        nullptr, &slot});
    }
  }
}

Result<void> Quantizer::SetMetadata(GgufWriter* writer) {
  if (const auto* gguf = matrices_->gguf()) {
    for (const formats::GgufEntry& entry : gguf->entries()) {
      if (!IsOfTheFile(entry.key) && !IsOfTheRecord(entry.key)) writer->Set(entry);
    }
  } else {
    const formats::HfCheckpoint& hf = *matrices_->hugging_face();
    const model::ModelSpec& spec = matrices_->spec();
    std::string name = spec.name;
    if (name.empty()) name = std::filesystem::path(in_.path()).filename().string();
    SetModelMetadata(spec, hf.config(), name, writer);
    LODE_TRY(SetVocabulary(hf, spec, writer, &report_.warnings));
    LODE_ASSIGN(auto texts, ReadTexts(hf));
    if (&hf.root_config() != &hf.config()) texts["config.json"] = DumpJson(hf.config(), 2) + "\n";
    WriteTexts(texts, writer);
    for (std::string& warning : WarnOfOthers(spec)) report_.warnings.push_back(std::move(warning));
  }
  writer->SetU32("general.file_type", choices_.file_type);
  writer->SetU32("general.quantization_version", 2);
  if (options_.imatrix != nullptr) {
    const Imatrix& imatrix = *options_.imatrix;
    writer->SetString("quantize.imatrix.file", options_.imatrix_name);
    if (!imatrix.datasets.empty()) {
      writer->SetString("quantize.imatrix.dataset", imatrix.datasets.front());
    }
    writer->SetU32("quantize.imatrix.entries_count", static_cast<uint32_t>(imatrix.entries.size()));
    writer->SetU32("quantize.imatrix.chunks_count", imatrix.chunks);
  }
  return {};
}

void Quantizer::Declare(GgufWriter* writer) {
  uint64_t matrix_bytes = 0;
  int64_t elements_all = 0;
  for (const Item& item : items_) {
    uint64_t bytes = 0;
    int64_t elements = 0;
    tensor::CountBytes(item.dtype, item.shape, &bytes);
    tensor::CountElements(item.shape, &elements);
    elements_all += elements;
    report_.bytes += bytes;
    if (item.what == Item::What::kMatrix || item.what == Item::What::kScales) matrix_bytes += bytes;
    ++report_.types[tensor::Name(item.dtype)];
    writer->AddTensor(item.name, item.dtype, item.shape);
  }
  report_.tensors = static_cast<int64_t>(items_.size());
  report_.matrix_bits = 8.0 * static_cast<double>(matrix_bytes) /
                        static_cast<double>(std::max<int64_t>(1, report_.parameters));
  report_.bits = 8.0 * static_cast<double>(report_.bytes) /
                 static_cast<double>(std::max<int64_t>(1, elements_all));
  work_.Expect(report_.tensors, report_.bytes);
}

Error Quantizer::NotFinite(size_t index) const {
  return Error(Code::kBadInput,
               in_.path() + ": tensor " + Quote(report_.matrices[index].name) +
                   " holds numbers that are NaN or infinite",
               "the file may be damaged; `lode inspect --check` looks at all tensors");
}

// The largest magnitude, for a type with a scale of the tensor.
Result<float> Quantizer::LargestOf(size_t index, int64_t expert) {
  const Matrix& matrix = matrices_->all()[index];
  std::vector<float> largest(static_cast<size_t>(work_.pool().threads()));
  work_.pool().ParallelFor(matrix.rows, 16, [&](int64_t begin, int64_t end, int thread) {
    std::vector<float> row(static_cast<size_t>(matrix.cols));
    float most = largest[static_cast<size_t>(thread)];
    for (int64_t r = begin; r < end; ++r) {
      matrices_->Decode(index, expert * matrix.rows + r, 1, row.data());
      float lanes[kLanes] = {};  // side by side, as in Compare
      for (int64_t c = 0; c < matrix.cols; ++c) {
        float& lane = lanes[c % kLanes];
        lane = std::max(lane, std::fabs(row[static_cast<size_t>(c)]));
      }
      for (const float lane : lanes) most = std::max(most, lane);
    }
    largest[static_cast<size_t>(thread)] = most;
  });
  const float most = *std::max_element(largest.begin(), largest.end());
  if (!std::isfinite(most)) return NotFinite(index);
  return most;
}

Result<void> Quantizer::WriteExpert(size_t index, int64_t expert, float scale, ErrorSums* sums,
                                    const Sink& sink) {
  const Matrix& matrix = matrices_->all()[index];
  const DType to = report_.matrices[index].to;
  const int64_t cols = matrix.cols;
  const auto& known = importance_[index].experts;
  const float* importance =
      known.empty() ? nullptr : known[static_cast<size_t>(expert)].data();
  std::vector<ErrorSums> rows(static_cast<size_t>(matrix.rows));
  const auto turn = [&](int64_t row, int64_t count, float* scratch,
                        std::byte* out) -> Result<void> {
    matrices_->Decode(index, expert * matrix.rows + row, count, scratch);
    EncodeRows(to, scratch, count, cols, importance, scale, options_.encode, out);
    std::vector<float> back(static_cast<size_t>(cols));
    for (int64_t r = 0; r < count; ++r) {
      tensor::DecodeBlocks(to, out + r * RowBytes(to, cols), cols, back.data());
      rows[static_cast<size_t>(row + r)] =
          Compare(scratch + r * cols, back.data(), importance, scale, cols);
      if (!std::isfinite(rows[static_cast<size_t>(row + r)].size)) return NotFinite(index);
    }
    return {};
  };
  LODE_TRY(work_.Rows(matrix.rows, cols, RowBytes(to, cols), turn, sink));
  for (const ErrorSums& row : rows) sums->Add(row);
  return {};
}

Result<void> Quantizer::WriteMatrix(size_t index, const Sink& sink) {
  const Matrix& matrix = matrices_->all()[index];
  MatrixReport& report = report_.matrices[index];
  if (report.copied && matrices_->gguf() != nullptr) {
    return work_.Copy(matrices_->Stored(index), sink);
  }
  ErrorSums sums;
  for (int64_t e = 0; e < matrix.experts; ++e) {
    float scale = 1.0f;
    if (report.to == DType::kNVFP4) {
      LODE_ASSIGN(const float largest, LargestOf(index, e));
      scale = TensorScale(report.to, largest);
      scales_[index].push_back(scale);
    }
    LODE_TRY(WriteExpert(index, e, scale, &sums, sink));
  }
  report.error = Relative(sums.error, sums.size);
  if (!importance_[index].experts.empty()) {
    report.weighted = Relative(sums.weighted_error, sums.weighted_size);
  }
  return {};
}

Result<void> Quantizer::Write(const Item& item, const Sink& sink) {
  switch (item.what) {
    case Item::What::kMatrix:
      return WriteMatrix(item.matrix, sink);
    case Item::What::kScales:
      return work_.Copy(std::as_bytes(std::span<const float>(scales_[item.matrix])), sink);
    case Item::What::kTensor:
      return work_.Copy(in_.View(*item.info).bytes, sink);
    case Item::What::kVector: {
      const PartData data = DataOf(in_, *item.slot, item.slot->parts.front());
      std::vector<float> values(static_cast<size_t>(data.rows * data.cols));
      DecodeRows(data, 0, data.rows, false, values.data());
      TransformToGguf(item.slot->slot.row->transform, values);
      return work_.Copy(std::as_bytes(std::span<const float>(values)), sink);
    }
  }
  return {};
}

Result<QuantizeReport> Quantizer::Run(const std::string& out) {
  const auto start = std::chrono::steady_clock::now();
  LODE_TRY(Choose());
  if (matrices_->gguf() != nullptr) {
    ListGguf();
  } else {
    ListHuggingFace();
  }
  GgufWriter writer;
  LODE_TRY(SetMetadata(&writer));
  Declare(&writer);
  LODE_TRY(writer.Begin(out, options_.shard_bytes_max));
  const Sink sink = [&](std::span<const std::byte> bytes) { return writer.Write(bytes); };
  for (const Item& item : items_) {
    LODE_TRY(Write(item, sink));
    LODE_TRY(work_.TensorDone());
  }
  LODE_TRY(stamps_.Check());
  report_.paths = writer.paths();
  LODE_TRY(writer.Finish());
  report_.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return std::move(report_);
}

}  // namespace

Result<QuantizeReport> Quantize(const tensor::TensorSource& in, const std::string& out,
                                const QuantizeOptions& options) {
  LODE_TRY(CheckNotPacked(in));
  if (!EndsWith(out, ".gguf")) {
    return Error(Code::kBadInput, Quote(out, 300) + " is no name of a GGUF file",
                 "quantized models are written as NAME.gguf");
  }
  if (IsFolder(out)) return Error(Code::kBadInput, Quote(out, 300) + " is a folder");
  if (FileExists(out) && !options.force) {
    return Error(Code::kBadInput, Quote(out, 300) + " is there already",
                 "give another name, or --force to replace it");
  }
  return Quantizer(in, options).Run(out);
}

}  // namespace lode::quant

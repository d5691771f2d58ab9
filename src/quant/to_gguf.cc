// Everything that ends in a GGUF file.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <set>

#include "formats/gguf_writer.h"
#include "model/config.h"
#include "quant/metadata.h"
#include "quant/record.h"
#include "quant/work.h"
#include "tensor/blocks.h"

namespace lode::quant {
namespace {

using formats::GgufWriter;
using model::Transform;
using tensor::DType;
using tensor::Shape;
using tensor::TensorInfo;

// What travels in the metadata is read whole by every program that opens the file.
constexpr uint64_t kKeptBytesMax = uint64_t{256} << 20;

float LoadFloat(std::span<const std::byte> bytes, size_t index = 0) {
  float value = 0.0f;
  if (bytes.size() >= (index + 1) * sizeof(value)) {
    std::memcpy(&value, bytes.data() + index * sizeof(value), sizeof(value));
  }
  return value;
}

struct Output {
  enum class What : uint8_t { kWeight, kScale, kInputScale } what;
  std::string name;
  DType dtype;
  Shape shape;
  const SlotPlan* plan;
  uint64_t bytes = 0;
};

// Rows that are no whole blocks: F16, as standard quantizers do.
DType Fitting(DType wanted, int64_t cols, const std::string& name, ConvertReport* report) {
  const int block = tensor::Info(wanted).block_elements;
  if (cols % block == 0) return wanted;
  report->fallbacks.push_back(name + Format(": its rows of %lld are no whole blocks of %d, so it is "
                                            "f16 instead of ", static_cast<long long>(cols), block) +
                              tensor::Name(wanted));
  return DType::kF16;
}

DType MostCommon(const std::map<DType, uint64_t>& bytes) {
  DType best = DType::kF32;
  uint64_t most = 0;
  for (const auto& [dtype, count] : bytes) {
    if (count > most) {
      best = dtype;
      most = count;
    }
  }
  return best;
}

// One conversion of a checkpoint.
class ToGguf {
 public:
  ToGguf(const formats::HfCheckpoint& in, const ConvertOptions& options, ConvertReport* report)
      : in_(in), listing_(in.tensors()), options_(options), report_(*report), work_(options) {}

  Result<void> Run(const std::string& out);

 private:
  Result<void> Declare(GgufWriter* writer);
  Result<void> Remember(GgufWriter* writer);
  Result<bool> MustKeep(const TensorInfo& info);
  Result<void> WriteOutput(const Output& output, const Sink& sink);
  Result<void> WriteVector(const SlotPlan& plan, const Sink& sink);

  const formats::HfCheckpoint& in_;
  const Listing listing_;
  const ConvertOptions& options_;
  ConvertReport& report_;
  Work work_;
  Plan plan_;
  std::vector<Output> outputs_;
  bool lossy_ = false;
};

Result<void> ToGguf::Run(const std::string& out) {
  LODE_ASSIGN(const model::ModelSpec spec, model::ReadSpec(in_));
  const auto fits = [&](const SlotPlan& plan) {
    return std::all_of(plan.parts.begin(), plan.parts.end(), [&](const Part& part) {
      return FitsUe4m3(in_.View(*part.scale).bytes);
    });
  };
  LODE_ASSIGN(plan_, MakePlan(spec, listing_, in_.path(), fits));
  GgufWriter writer;
  std::string name = spec.name;
  if (name.empty()) name = std::filesystem::path(in_.path()).filename().string();
  SetModelMetadata(spec, in_.config(), name, &writer);
  LODE_TRY(SetVocabulary(in_, spec, &writer, &report_.warnings));
  LODE_TRY(Declare(&writer));
  LODE_TRY(Remember(&writer));
  for (std::string& warning : WarnOfOthers(spec)) report_.warnings.push_back(std::move(warning));
  LODE_TRY(writer.Begin(out, options_.shard_bytes_max));
  const Sink sink = [&](std::span<const std::byte> bytes) { return writer.Write(bytes); };
  for (const Output& output : outputs_) {
    LODE_TRY(WriteOutput(output, sink));
    LODE_TRY(work_.TensorDone());
  }
  report_.paths = writer.paths();
  return writer.Finish();
}

Result<void> ToGguf::Declare(GgufWriter* writer) {
  std::map<DType, uint64_t> weights;
  uint64_t bytes = 0;
  for (SlotPlan& plan : plan_.slots) {
    DType dtype = plan.dtype;
    if (options_.type.has_value() && plan.convertible()) {
      dtype = Fitting(*options_.type, plan.cols(), plan.slot.gguf, &report_);
      // A head that is no longer NVFP4 has no scale beside it (plan.cc).
      if (plan.scaled && plan.slot.row->role == model::Role::kHead) plan.inside = true;
    }
    lossy_ = lossy_ || dtype != plan.dtype;
    outputs_.push_back({Output::What::kWeight, plan.slot.gguf, dtype, plan.slot.gguf_shape, &plan});
    const auto parts = static_cast<int64_t>(plan.parts.size());
    if (plan.scaled && !plan.inside) {
      outputs_.push_back({Output::What::kScale, plan.SideName(".scale"), DType::kF32, {parts}, &plan});
    }
    if (plan.input_scales && plan.scaled && !plan.inside) {
      outputs_.push_back(
          {Output::What::kInputScale, plan.SideName(".input_scale"), DType::kF32, {parts}, &plan});
    }
  }
  for (Output& output : outputs_) {
    tensor::CountBytes(output.dtype, output.shape, &output.bytes);
    bytes += output.bytes;
    ++report_.types[tensor::Name(output.dtype)];
    if (output.what == Output::What::kWeight && output.plan->convertible()) {
      weights[output.dtype] += output.bytes;
    }
    writer->AddTensor(output.name, output.dtype, output.shape);
  }
  SetFileType(MostCommon(weights), writer);
  report_.tensors = static_cast<int64_t>(outputs_.size());
  report_.bytes = bytes;
  work_.Expect(report_.tensors, bytes);
  return {};
}

// Whether the GGUF's own tensors will not give these bytes back.
Result<bool> ToGguf::MustKeep(const TensorInfo& info) {
  const auto found = plan_.origins.find(info.name);
  if (found == plan_.origins.end()) return true;
  if (found->second.piece != Piece::kWeight) return false;
  const SlotPlan& plan = plan_.slots[found->second.slot];
  const Part& part = plan.parts[found->second.part];
  if (plan.slot.row->transform == Transform::kNegativeExp) return true;
  const PartData data = DataOf(in_, plan, part);
  if (!plan.convertible() && info.dtype == DType::kF16) {  // a NaN's bits may change on the way
    std::vector<float> values(static_cast<size_t>(data.rows * data.cols));
    std::vector<std::byte> back(info.bytes);
    DecodeRows(data, 0, data.rows, false, values.data());
    tensor::EncodeBlocks(DType::kF16, values.data(), data.rows * data.cols, back.data());
    return std::memcmp(back.data(), data.weight, back.size()) != 0;
  }
  if (!plan.scaled || plan.dtype == DType::kNVFP4) return false;
  return !Recoverable(data, plan.inside);
}

Result<void> ToGguf::Remember(GgufWriter* writer) {
  LODE_ASSIGN(auto texts, ReadTexts(in_));
  if (&in_.root_config() != &in_.config()) texts["config.json"] = DumpJson(in_.config(), 2) + "\n";
  WriteTexts(texts, writer);

  std::vector<std::string_view> names;
  uint64_t bytes_all = 0;
  std::vector<std::string> unplaced;  // no part of the model
  for (const TensorInfo& info : in_.tensors()) {
    LODE_ASSIGN(const bool keep, MustKeep(info));
    if (!keep) continue;
    names.push_back(info.name);
    bytes_all += info.bytes;
    if (info.bytes > 4096 && plan_.origins.find(info.name) == plan_.origins.end() &&
        !EndsWith(info.name, "_scale")) {
      unplaced.push_back(info.name);
    }
  }
  bool complete = false;
  LODE_ASSIGN(const Record layout, ReadLayout(in_, &complete));
  if (bytes_all > kKeptBytesMax) {
    const size_t all = unplaced.size();
    if (all > 10) unplaced.resize(10);
    report_.warnings.push_back(
        Format("%zu tensors (%s) have no place in a GGUF and are left out: ", all,
               HumanBytes(bytes_all).c_str()) + Join(unplaced, ", ") + (all > 10 ? " .." : ""));
    complete = false;
  } else if (!unplaced.empty() && (lossy_ || !complete)) {
    report_.warnings.push_back(Format("%zu tensors are no part of the model and are left out: ",
                                      unplaced.size()) + Join(unplaced, ", "));
  }
  if (lossy_ || !complete) return {};
  std::vector<std::byte> bytes;
  bytes.reserve(bytes_all);
  for (const std::string_view name : names) {
    const auto view = in_.View(*listing_.Find(name)).bytes;
    bytes.insert(bytes.end(), view.begin(), view.end());
  }
  WriteLayout(layout, writer);
  WriteKept(names, bytes, writer);
  report_.exact = true;
  return {};
}

Result<void> ToGguf::WriteVector(const SlotPlan& plan, const Sink& sink) {
  const PartData data = DataOf(in_, plan, plan.parts.front());
  std::vector<float> values(static_cast<size_t>(data.rows * data.cols));
  DecodeRows(data, 0, data.rows, false, values.data());
  TransformToGguf(plan.slot.row->transform, values);
  return work_.Copy(std::as_bytes(std::span<const float>(values)), sink);
}

Result<void> ToGguf::WriteOutput(const Output& output, const Sink& sink) {
  const SlotPlan& plan = *output.plan;
  if (output.what != Output::What::kWeight) {
    std::vector<float> values;
    for (const Part& part : plan.parts) {
      if (output.what == Output::What::kInputScale) {
        values.push_back(LoadFloat(in_.View(*part.input_scale).bytes));
      } else {
        values.push_back(DataOf(in_, plan, part).scale);
      }
    }
    return work_.Copy(std::as_bytes(std::span<const float>(values)), sink);
  }
  if (!plan.convertible()) return WriteVector(plan, sink);
  for (const Part& part : plan.parts) {
    const PartData data = DataOf(in_, plan, part);
    if (data.coding == Coding::kPlain && data.dtype == output.dtype) {
      LODE_TRY(work_.Copy(in_.View(*part.weight).bytes, sink));
      continue;
    }
    const auto turn = [&](int64_t row, int64_t count, float* scratch, std::byte* out) -> Result<void> {
      StoreRows(data, row, count, output.dtype, plan.inside, scratch, out);
      return {};
    };
    LODE_TRY(work_.Rows(data.rows, data.cols, RowBytes(output.dtype, data.cols), turn, sink));
  }
  return {};
}

// One conversion of a GGUF into another.
class Recoder {
 public:
  Recoder(const formats::GgufFile& in, const ConvertOptions& options, ConvertReport* report)
      : in_(in), options_(options), report_(*report), work_(options) {}

  Result<void> Run(const std::string& out);

 private:
  struct Output {
    const TensorInfo* info;
    DType dtype;
    float scale = 1.0f;  // to be multiplied in
  };

  Result<void> FindMatrices();
  Result<void> Declare(GgufWriter* writer);
  Result<void> WriteOutput(const Output& output, const Sink& sink);

  const formats::GgufFile& in_;
  const ConvertOptions& options_;
  ConvertReport& report_;
  Work work_;
  std::set<std::string> matrices_;  // empty without a type
  // Scales stay beside their weights, but for the head's, which others only read when it is NVFP4.
  std::string head_;
  float head_scale_ = 1.0f;
  std::set<std::string> dropped_;
  std::vector<Output> outputs_;
};

Result<void> Recoder::FindMatrices() {
  if (!options_.type.has_value()) return {};
  LODE_ASSIGN(const model::ModelSpec spec, model::ReadSpec(in_));
  for (const model::TensorSlot& slot : model::ListTensors(spec)) {
    SlotPlan plan;
    plan.slot = slot;
    if (plan.convertible()) matrices_.insert(slot.gguf);
    if (slot.row->role != model::Role::kHead) continue;
    if (const TensorInfo* scale = in_.Find(plan.SideName(".scale"))) {
      head_ = slot.gguf;
      head_scale_ = LoadFloat(in_.View(*scale).bytes);
      dropped_ = {plan.SideName(".scale"), plan.SideName(".input_scale")};
    }
  }
  return {};
}

Result<void> Recoder::Declare(GgufWriter* writer) {
  std::map<DType, uint64_t> weights;
  bool changed = !dropped_.empty();
  for (const TensorInfo& info : in_.tensors()) {
    if (dropped_.count(info.name) > 0) continue;
    Output output{&info, info.dtype, info.name == head_ ? head_scale_ : 1.0f};
    uint64_t bytes = 0;
    if (matrices_.count(info.name) > 0 && !info.shape.empty()) {
      if (!tensor::Info(info.dtype).weights) {
        return Error(Code::kUnsupported, in_.path() + ": tensor " + Quote(info.name) + " is " +
                                             tensor::Name(info.dtype) +
                                             ", which Lode does not decode");
      }
      output.dtype = Fitting(*options_.type, info.shape.back(), info.name, &report_);
      tensor::CountBytes(output.dtype, info.shape, &bytes);
      weights[output.dtype] += bytes;
    }
    changed = changed || output.dtype != info.dtype;
    tensor::CountBytes(output.dtype, info.shape, &bytes);
    report_.bytes += bytes;
    ++report_.types[tensor::Name(output.dtype)];
    writer->AddTensor(info.name, output.dtype, info.shape);
    outputs_.push_back(output);
  }
  for (const formats::GgufEntry& entry : in_.entries()) {
    if (!IsOfTheFile(entry.key) && !(changed && IsOfTheRecord(entry.key))) writer->Set(entry);
  }
  if (changed) SetFileType(MostCommon(weights), writer);
  report_.tensors = static_cast<int64_t>(outputs_.size());
  report_.exact = !changed;
  work_.Expect(report_.tensors, report_.bytes);
  return {};
}

Result<void> Recoder::WriteOutput(const Output& output, const Sink& sink) {
  const TensorInfo& info = *output.info;
  const auto bytes = in_.View(info).bytes;
  if (output.dtype == info.dtype && output.scale == 1.0f) return work_.Copy(bytes, sink);
  const int64_t cols = info.shape.back();
  const int64_t row_bytes = RowBytes(info.dtype, cols);
  const auto turn = [&](int64_t row, int64_t count, float* scratch, std::byte* out) -> Result<void> {
    const int64_t elements = count * cols;
    tensor::DecodeBlocks(info.dtype, bytes.data() + row * row_bytes, elements, scratch);
    for (int64_t i = 0; output.scale != 1.0f && i < elements; ++i) scratch[i] *= output.scale;
    tensor::EncodeBlocks(output.dtype, scratch, elements, out);
    return {};
  };
  const int64_t rows = row_bytes > 0 ? static_cast<int64_t>(bytes.size()) / row_bytes : 0;
  return work_.Rows(rows, cols, RowBytes(output.dtype, cols), turn, sink);
}

Result<void> Recoder::Run(const std::string& out) {
  LODE_TRY(FindMatrices());
  GgufWriter writer;
  LODE_TRY(Declare(&writer));
  LODE_TRY(writer.Begin(out, options_.shard_bytes_max));
  const Sink sink = [&](std::span<const std::byte> bytes) { return writer.Write(bytes); };
  for (const Output& output : outputs_) {
    LODE_TRY(WriteOutput(output, sink));
    LODE_TRY(work_.TensorDone());
  }
  report_.paths = writer.paths();
  return writer.Finish();
}

}  // namespace

bool IsOfTheFile(std::string_view key) {
  return StartsWith(key, "split.") || key == "general.alignment";
}

bool IsOfTheRecord(std::string_view key) {
  return StartsWith(key, "lode.safetensors.") || StartsWith(key, "lode.kept.");
}

std::vector<std::string> WarnOfOthers(const model::ModelSpec& spec) {
  std::vector<std::string> warnings;
  const bool mlp = model::CountLayers(spec, model::BlockKind::kMlp) > 0;
  const bool moe = model::CountLayers(spec, model::BlockKind::kMoe) > 0;
  if (mlp && moe) {
    warnings.push_back("llama.cpp does not run a model with both dense MLPs and experts");
  }
  if (model::CountLayers(spec, model::BlockKind::kAttention) == 0) {
    warnings.push_back("llama.cpp does not run a model without an attention layer");
  }
  return warnings;
}

PartData DataOf(const tensor::TensorSource& source, const SlotPlan& plan, const Part& part) {
  PartData data;
  data.coding = part.coding;
  data.dtype = part.weight->dtype;
  data.rows = plan.rows();
  data.cols = plan.cols();
  data.weight = source.View(*part.weight).bytes.data();
  if (part.coding == Coding::kFp8) data.scale = LoadFloat(source.View(*part.scale).bytes);
  if (part.coding == Coding::kFp8Rows) data.row_scales = source.View(*part.scale).bytes.data();
  if (part.coding == Coding::kNvfp4) {
    data.block_scales = reinterpret_cast<const uint8_t*>(source.View(*part.scale).bytes.data());
    data.scale = LoadFloat(source.View(*part.scale_2).bytes);
  }
  return data;
}

Result<void> HuggingFaceToGguf(const formats::HfCheckpoint& in, const std::string& out,
                               const ConvertOptions& options, ConvertReport* report) {
  return ToGguf(in, options, report).Run(out);
}

Result<void> GgufToGguf(const formats::GgufFile& in, const std::string& out,
                        const ConvertOptions& options, ConvertReport* report) {
  return Recoder(in, options, report).Run(out);
}

}  // namespace lode::quant

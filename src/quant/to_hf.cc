// Everything that ends in a Hugging Face folder.
#include <algorithm>
#include <cstring>
#include <set>

#include "base/file.h"
#include "base/json.h"
#include "formats/safetensors_writer.h"
#include "model/config.h"
#include "quant/metadata.h"
#include "quant/record.h"
#include "quant/work.h"
#include "tensor/blocks.h"

namespace lode::quant {
namespace {

using formats::GgufFile;
using model::Transform;
using tensor::DType;
using tensor::Naming;
using tensor::Shape;
using tensor::TensorInfo;
using tensor::TensorView;

constexpr const char* kIndexFile = "model.safetensors.index.json";

int64_t Elements(const Shape& shape) {
  int64_t count = 0;
  return tensor::CountElements(shape, &count) ? count : -1;
}

float LoadFloat(std::span<const std::byte> bytes, size_t index) {
  float value = 1.0f;
  if (bytes.size() >= (index + 1) * sizeof(value)) {
    std::memcpy(&value, bytes.data() + index * sizeof(value), sizeof(value));
  }
  return value;
}

// A config and a listing without weights: what a record says the checkpoint was.
class RecordedSource final : public tensor::TensorSource {
 public:
  RecordedSource(const std::string& path, Json config, const std::vector<TensorInfo>& tensors)
      : path_(path), config_(std::move(config)), tensors_(tensors), listing_(tensors) {}

  Naming naming() const override { return Naming::kHuggingFace; }
  const std::string& path() const override { return path_; }
  const Json& config() const override { return config_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  const TensorInfo* Find(std::string_view name) const override { return listing_.Find(name); }
  TensorView View(const TensorInfo& info) const override { return {info.dtype, info.shape, {}}; }
  const Listing& listing() const { return listing_; }

 private:
  std::string path_;
  Json config_;
  const std::vector<TensorInfo>& tensors_;
  Listing listing_;
};

// config.json for weights that are no longer quantized, or not as it says.
std::string WithoutQuantization(const std::string& text, std::optional<DType> type) {
  Result<Json> config = ParseJson(text);
  if (!config.ok() || !config->is_object()) return text;
  config->erase("quantization_config");
  if (type.has_value()) {
    const char* word = *type == DType::kF32 ? "float32" : *type == DType::kF16 ? "float16" : "bfloat16";
    for (const char* key : {"torch_dtype", "dtype"}) {
      if (config->contains(key)) (*config)[key] = word;
    }
  }
  return DumpJson(*config, 2) + "\n";
}

Result<void> WriteAll(const std::map<std::string, std::string>& texts, const std::string& folder) {
  for (const auto& [name, text] : texts) LODE_TRY(WriteFileAtomic(folder + "/" + name, text));
  return {};
}

// ---------------------------------------------------------------------------------------------------
// The way back: the very files that the GGUF was made from.

class Restorer {
 public:
  Restorer(const GgufFile& in, const Record& record, const RecordedSource& source, Work* work)
      : in_(in), record_(record), source_(source), work_(*work) {}

  // Errors of the record; false when the weights are no longer those of the record.
  Result<bool> Prepare(std::string* why);
  Result<void> Write(const std::string& folder, ConvertReport* report);

 private:
  bool Kept(const TensorInfo* info) const {
    return info != nullptr && record_.kept.count(info->name) > 0;
  }
  std::span<const std::byte> KeptBytes(const TensorInfo* info) const {
    return record_.kept.at(info->name);
  }
  Result<void> WriteTensor(const TensorInfo& info, const Sink& sink);
  Result<void> WriteWeight(const TensorInfo& info, const Origin& origin, const Sink& sink);
  Result<void> WriteVector(const TensorInfo& info, const SlotPlan& plan, const Sink& sink);
  Result<void> WriteBlockScales(const SlotPlan& plan, size_t part, const Sink& sink);
  PartData DataOf(const SlotPlan& plan, const Part& part) const;
  std::span<const std::byte> Stored(const SlotPlan& plan, size_t part) const;
  Error Changed(const std::string& name) const {
    return Error(Code::kBadInput,
                 in_.path() + ": tensor " + Quote(name) +
                     " holds numbers that the original could not hold: it was changed since",
                 "convert it with --type bf16, which does not go back to the original");
  }

  const GgufFile& in_;
  const Record& record_;
  const RecordedSource& source_;
  Work& work_;
  Plan plan_;
};

Result<bool> Restorer::Prepare(std::string* why) {
  LODE_ASSIGN(const model::ModelSpec spec, model::ReadSpec(source_));
  const auto is_nvfp4 = [&](const SlotPlan& plan) {
    const TensorInfo* info = in_.Find(plan.slot.gguf);
    return info != nullptr && info->dtype == DType::kNVFP4;
  };
  LODE_ASSIGN(plan_, MakePlan(spec, source_.listing(), in_.path(), is_nvfp4));
  const auto side = [&](const SlotPlan& plan, const char* suffix) {
    const std::string name = plan.SideName(suffix);
    const TensorInfo* info = in_.Find(name);
    if (info != nullptr && info->dtype == DType::kF32 &&
        Elements(info->shape) == static_cast<int64_t>(plan.parts.size())) {
      return true;
    }
    *why = "'" + name + "' is not what it was";
    return false;
  };
  for (const SlotPlan& plan : plan_.slots) {
    const TensorInfo* info = in_.Find(plan.slot.gguf);
    if (info == nullptr || info->dtype != plan.dtype ||
        Elements(info->shape) != Elements(plan.slot.gguf_shape)) {
      *why = "'" + plan.slot.gguf + "' is " +
             (info == nullptr ? "missing" : std::string("now ") + tensor::Name(info->dtype));
      return false;
    }
    if (!plan.scaled || plan.inside) continue;
    if (!side(plan, ".scale") || (plan.input_scales && !side(plan, ".input_scale"))) return false;
  }
  for (const TensorInfo& info : record_.tensors) {
    if (plan_.origins.count(info.name) == 0 && !Kept(&info)) {
      *why = "the record lacks '" + info.name + "'";
      return false;
    }
  }
  // The factors that are needed to find the codes again.
  for (const SlotPlan& plan : plan_.slots) {
    for (const Part& part : plan.parts) {
      const bool scale = part.coding == Coding::kPlain || Kept(part.scale) ||
                         (!plan.inside && part.coding == Coding::kFp8) ||
                         plan.dtype == DType::kNVFP4;
      const bool second = part.coding != Coding::kNvfp4 || !plan.inside || Kept(part.scale_2);
      if ((!scale || !second) && !Kept(part.weight)) {
        *why = "the record lacks the scales of '" + part.weight->name + "'";
        return false;
      }
    }
  }
  return true;
}

Result<void> Restorer::Write(const std::string& folder, ConvertReport* report) {
  for (const TensorInfo& info : record_.tensors) report->bytes += info.bytes;
  report->tensors = static_cast<int64_t>(record_.tensors.size());
  work_.Expect(report->tensors, report->bytes);
  for (const RecordedFile& file : record_.files) {
    const std::string path = folder + "/" + file.name;
    LODE_ASSIGN(AtomicFile out, AtomicFile::Create(path));
    const uint64_t length = file.header.size();
    LODE_TRY(out.Write(&length, sizeof(length)));
    LODE_TRY(out.Write(file.header));
    const Sink sink = [&](std::span<const std::byte> bytes) {
      return out.Write(bytes.data(), bytes.size());
    };
    for (size_t i = file.begin; i < file.end; ++i) {
      LODE_TRY(WriteTensor(record_.tensors[i], sink));
      ++report->types[tensor::Name(record_.tensors[i].dtype)];
      LODE_TRY(work_.TensorDone());
    }
    LODE_TRY(out.Commit());
    report->paths.push_back(path);
  }
  report->exact = true;
  return WriteAll(record_.texts, folder);
}

Result<void> Restorer::WriteTensor(const TensorInfo& info, const Sink& sink) {
  const auto found = plan_.origins.find(info.name);
  if (found == plan_.origins.end()) return work_.Copy(KeptBytes(&info), sink);
  const Origin& origin = found->second;
  const SlotPlan& plan = plan_.slots[origin.slot];
  switch (origin.piece) {
    case Piece::kWeight:
      return plan.convertible() ? WriteWeight(info, origin, sink) : WriteVector(info, plan, sink);
    case Piece::kBlockScales:
      return WriteBlockScales(plan, origin.part, sink);
    case Piece::kScale:
    case Piece::kScale2:
    case Piece::kInputScale: {
      const char* suffix = origin.piece == Piece::kInputScale ? ".input_scale" : ".scale";
      const auto bytes = in_.View(*in_.Find(plan.SideName(suffix))).bytes;
      return work_.Copy(bytes.subspan(origin.part * sizeof(float), sizeof(float)), sink);
    }
  }
  return {};
}

PartData Restorer::DataOf(const SlotPlan& plan, const Part& part) const {
  PartData data;
  data.coding = part.coding;
  data.dtype = part.weight->dtype;
  data.rows = plan.rows();
  data.cols = plan.cols();
  if (part.coding == Coding::kNvfp4 && plan.dtype != DType::kNVFP4 && Kept(part.scale)) {
    data.block_scales = reinterpret_cast<const uint8_t*>(KeptBytes(part.scale).data());
  }
  if (part.coding == Coding::kFp8Rows && Kept(part.scale)) {
    data.row_scales = KeptBytes(part.scale).data();
  }
  const TensorInfo* factor = part.coding == Coding::kNvfp4 ? part.scale_2 : part.scale;
  if (plan.inside && part.coding != Coding::kFp8Rows && Kept(factor)) {
    data.scale = LoadFloat(KeptBytes(factor), 0);
  }
  return data;
}

// The bytes of one part inside a GGUF tensor.
std::span<const std::byte> Restorer::Stored(const SlotPlan& plan, size_t part) const {
  const auto all = in_.View(*in_.Find(plan.slot.gguf)).bytes;
  const size_t each = all.size() / plan.parts.size();
  return all.subspan(part * each, each);
}

Result<void> Restorer::WriteWeight(const TensorInfo& info, const Origin& origin, const Sink& sink) {
  if (Kept(&info)) return work_.Copy(KeptBytes(&info), sink);
  const SlotPlan& plan = plan_.slots[origin.slot];
  const PartData data = DataOf(plan, plan.parts[origin.part]);
  const auto stored = Stored(plan, origin.part);
  if (data.coding == Coding::kPlain && data.dtype == plan.dtype) return work_.Copy(stored, sink);
  const int64_t stored_row = RowBytes(plan.dtype, data.cols);
  const auto turn = [&](int64_t row, int64_t count, float*, std::byte* out) -> Result<void> {
    const bool found = RecoverRows(data, row, count, plan.dtype, plan.inside,
                                   stored.data() + row * stored_row, out);
    if (!found) return Changed(info.name);
    return {};
  };
  return work_.Rows(data.rows, data.cols, data.row_bytes(), turn, sink);
}

Result<void> Restorer::WriteVector(const TensorInfo& info, const SlotPlan& plan, const Sink& sink) {
  const auto stored = Stored(plan, 0);
  const PartData data = DataOf(plan, plan.parts.front());
  const auto elements = static_cast<size_t>(data.rows * data.cols);
  std::vector<float> values(elements);
  if (Kept(&info)) {  // if it still means what the GGUF says
    const auto kept = KeptBytes(&info);
    tensor::DecodeBlocks(info.dtype, kept.data(), static_cast<int64_t>(elements), values.data());
    TransformToGguf(plan.slot.row->transform, values);
    if (std::memcmp(values.data(), stored.data(), stored.size()) == 0) return work_.Copy(kept, sink);
  }
  std::vector<std::byte> out(info.bytes);
  std::memcpy(values.data(), stored.data(), stored.size());
  TransformToHuggingFace(plan.slot.row->transform, values);
  if (plan.slot.row->transform == Transform::kNegativeExp) {
    tensor::EncodeBlocks(info.dtype, values.data(), static_cast<int64_t>(elements), out.data());
  } else if (!RecoverRows(data, 0, data.rows, DType::kF32, false, stored.data(), out.data())) {
    return Changed(info.name);
  }
  return work_.Copy(out, sink);
}

Result<void> Restorer::WriteBlockScales(const SlotPlan& plan, size_t part, const Sink& sink) {
  const auto stored = Stored(plan, part);
  const int64_t cols = plan.cols();
  const int64_t row_bytes = RowBytes(DType::kNVFP4, cols);
  const auto turn = [&](int64_t row, int64_t count, float*, std::byte* out) -> Result<void> {
    for (int64_t r = 0; r < count; ++r) {
      Nvfp4Scales(stored.data() + (row + r) * row_bytes, cols,
                  reinterpret_cast<uint8_t*>(out) + r * cols / 16);
    }
    return {};
  };
  return work_.Rows(plan.rows(), cols, cols / 16, turn, sink);
}

// ---------------------------------------------------------------------------------------------------
// Any other GGUF: every tensor under its usual name.

class ToFolder {
 public:
  ToFolder(const GgufFile& in, const ConvertOptions& options, ConvertReport* report, Work* work)
      : in_(in), options_(options), report_(*report), work_(*work) {}

  Result<void> Declare(const model::ModelSpec& spec);
  Result<void> Write(const std::string& folder);
  // ModelOpt's description of what is NVFP4, or empty.
  std::string QuantizationText() const;

 private:
  enum class What : uint8_t { kWeight, kBlockScales, kScale, kInputScale };
  struct Output {
    What what;
    std::string name;
    DType dtype;
    Shape shape;
    model::TensorSlot slot;
    int64_t part = 0, parts = 1;
  };

  Result<void> DeclareSlot(const model::TensorSlot& slot);
  void Add(Output output) { outputs_.push_back(std::move(output)); }
  Result<void> WriteOutput(const Output& output, const Sink& sink);
  float SideValue(const Output& output, const char* suffix) const;
  const TensorInfo* Side(const model::TensorSlot& slot, const char* suffix) const {
    SlotPlan plan;
    plan.slot = slot;
    return in_.Find(plan.SideName(suffix));
  }

  const GgufFile& in_;
  const ConvertOptions& options_;
  ConvertReport& report_;
  Work& work_;
  std::vector<Output> outputs_;
  std::vector<std::string> plain_modules_;  // matrices that are not NVFP4
  bool nvfp4_ = false;
  int64_t widened_ = 0;
};

std::string Module(const std::string& weight) {
  return EndsWith(weight, ".weight") ? weight.substr(0, weight.size() - 7) : weight;
}

Result<void> ToFolder::Declare(const model::ModelSpec& spec) {
  std::set<std::string> used;
  std::vector<std::string> missing;
  for (const model::TensorSlot& slot : model::ListTensors(spec)) {
    if (in_.Find(slot.gguf) == nullptr) {
      missing.push_back(slot.gguf);
      continue;
    }
    used.insert(slot.gguf);
    for (const char* suffix : {".scale", ".input_scale"}) {
      if (const TensorInfo* side = Side(slot, suffix)) used.insert(side->name);
    }
    LODE_TRY(DeclareSlot(slot));
  }
  if (!missing.empty()) {
    return Error(Code::kNotFound, in_.path() + Format(": %zu tensors are missing: ", missing.size()) +
                                      Join(missing, ", "));
  }
  for (const TensorInfo& info : in_.tensors()) {
    if (used.count(info.name) == 0) {
      report_.warnings.push_back("tensor " + Quote(info.name) +
                                 " is no part of the model and is left out");
    }
  }
  if (widened_ > 0) {
    report_.warnings.push_back(Format("%lld quantized tensors became F32, which holds them exactly; "
                                      "--type bf16 halves that",
                                      static_cast<long long>(widened_)));
  }
  return {};
}

Result<void> ToFolder::DeclareSlot(const model::TensorSlot& slot) {
  const TensorInfo& info = *in_.Find(slot.gguf);
  SlotPlan plan;
  plan.slot = slot;
  const bool matrix = plan.convertible();
  if (Elements(info.shape) != Elements(slot.gguf_shape) ||
      (matrix && info.shape != slot.gguf_shape)) {
    return Error(Code::kBadInput, in_.path() + ": tensor " + Quote(info.name) + " has the shape " +
                                      tensor::ToString(info.shape) + ", but " +
                                      tensor::ToString(slot.gguf_shape) + " is needed");
  }
  if (!tensor::Info(info.dtype).weights || (!matrix && !IsFloatType(info.dtype))) {
    return Error(Code::kUnsupported, in_.path() + ": tensor " + Quote(info.name) + " is " +
                                         tensor::Name(info.dtype) + ", which cannot be converted");
  }
  const bool scaled = Side(slot, ".scale") != nullptr;
  DType dtype = info.dtype;
  if (matrix) {
    if (options_.type.has_value()) {
      dtype = *options_.type;
    } else if (dtype == DType::kMXFP4 && !scaled) {
      dtype = DType::kBF16;  // a small number times a power of two
    } else if (dtype != DType::kNVFP4 && (!IsFloatType(dtype) || scaled)) {
      dtype = DType::kF32;
      ++widened_;
    }
  }
  const int64_t parts = std::max<int64_t>(1, slot.experts);
  for (int64_t p = 0; p < parts; ++p) {
    Output output{What::kWeight, slot.hugging_face.front(), dtype, slot.shape, slot, p, parts};
    if (slot.experts > 0) output.name = model::ExpertName(output.name, p);
    const std::string module = Module(output.name);
    if (dtype != DType::kNVFP4) {
      if (matrix) plain_modules_.push_back(module);
      Add(std::move(output));
      continue;
    }
    nvfp4_ = true;
    const Shape& shape = slot.shape;
    const auto side = [&](What what, const char* suffix, DType type, Shape its) {
      Add({what, module + suffix, type, std::move(its), slot, p, parts});
    };
    side(What::kWeight, ".weight", DType::kU8, {shape[0], shape[1] / 2});
    side(What::kBlockScales, ".weight_scale", DType::kF8E4M3, {shape[0], shape[1] / 16});
    side(What::kScale, ".weight_scale_2", DType::kF32, {});
    if (Side(slot, ".input_scale") != nullptr) side(What::kInputScale, ".input_scale", DType::kF32, {});
  }
  return {};
}

// One value for the tensor, or one for each expert; 1 without.
float ToFolder::SideValue(const Output& output, const char* suffix) const {
  const TensorInfo* info = Side(output.slot, suffix);
  if (info == nullptr || info->dtype != DType::kF32) return 1.0f;
  return LoadFloat(in_.View(*info).bytes,
                   Elements(info->shape) == 1 ? 0 : static_cast<size_t>(output.part));
}

Result<void> ToFolder::WriteOutput(const Output& output, const Sink& sink) {
  if (output.what == What::kScale || output.what == What::kInputScale) {
    const float value =
        SideValue(output, output.what == What::kScale ? ".scale" : ".input_scale");
    return work_.Copy(std::as_bytes(std::span(&value, 1)), sink);
  }
  const TensorInfo& info = *in_.Find(output.slot.gguf);
  const auto all = in_.View(info).bytes;
  const size_t each = all.size() / static_cast<size_t>(output.parts);
  const auto stored = all.subspan(static_cast<size_t>(output.part) * each, each);
  const int64_t cols = output.slot.shape.back();
  const int64_t rows = cols > 0 ? Elements(output.slot.shape) / cols : 0;
  const Transform transform = output.slot.row->transform;
  const float scale = SideValue(output, ".scale");
  const bool scaled = Side(output.slot, ".scale") != nullptr;
  if (info.dtype == output.dtype && !scaled && transform != Transform::kNegativeExp) {
    return work_.Copy(stored, sink);
  }
  // A vector's rows in the two formats differ, but not its elements.
  const bool vector = IsFloatType(info.dtype);
  const int64_t stored_row =
      vector ? cols * tensor::Info(info.dtype).block_bytes : RowBytes(info.dtype, cols);
  PartData nvfp4;
  nvfp4.coding = Coding::kNvfp4;
  nvfp4.rows = rows;
  nvfp4.cols = cols;
  const auto turn = [&](int64_t row, int64_t count, float* scratch, std::byte* out) -> Result<void> {
    const std::byte* source = stored.data() + row * stored_row;
    if (output.what == What::kBlockScales) {
      for (int64_t r = 0; r < count; ++r) {
        Nvfp4Scales(source + r * stored_row, cols, reinterpret_cast<uint8_t*>(out) + r * cols / 16);
      }
    } else if (output.dtype == DType::kU8) {
      RecoverRows(nvfp4, row, count, DType::kNVFP4, false, source, out);
    } else {
      const int64_t elements = count * cols;
      tensor::DecodeBlocks(info.dtype, source, elements, scratch);
      for (int64_t i = 0; scaled && i < elements; ++i) scratch[i] *= scale;
      TransformToHuggingFace(transform, {scratch, static_cast<size_t>(elements)});
      tensor::EncodeBlocks(output.dtype, scratch, elements, out);
    }
    return {};
  };
  const int64_t out_row = output.what == What::kBlockScales ? cols / 16
                          : output.dtype == DType::kU8      ? cols / 2
                                                            : RowBytes(output.dtype, cols);
  return work_.Rows(rows, cols, out_row, turn, sink);
}

Result<void> ToFolder::Write(const std::string& folder) {
  formats::SafetensorsWriter writer;
  for (const Output& output : outputs_) {
    uint64_t bytes = 0;
    tensor::CountBytes(output.dtype, output.shape, &bytes);
    report_.bytes += bytes;
    ++report_.types[tensor::Name(output.dtype)];
    writer.AddTensor(output.name, output.dtype, output.shape);
  }
  report_.tensors = static_cast<int64_t>(outputs_.size());
  work_.Expect(report_.tensors, report_.bytes);
  LODE_TRY(writer.BeginFolder(folder, options_.shard_bytes_max));
  const Sink sink = [&](std::span<const std::byte> bytes) { return writer.Write(bytes); };
  for (const Output& output : outputs_) {
    LODE_TRY(WriteOutput(output, sink));
    LODE_TRY(work_.TensorDone());
  }
  report_.paths = writer.paths();
  return writer.Finish();
}

std::string ToFolder::QuantizationText() const {
  if (!nvfp4_) return "";
  Json json = {{"producer", {{"name", "lode"}}}};
  json["quantization"] = {{"quant_algo", "NVFP4"}, {"kv_cache_quant_algo", nullptr},
                          {"group_size", 16}, {"exclude_modules", plain_modules_}};
  return DumpJson(json, 2) + "\n";
}

Result<void> Restore(const GgufFile& in, const Record& record, const std::string& folder,
                     const ConvertOptions& options, ConvertReport* report, bool* done) {
  *done = false;
  if (options.type.has_value() || record.files.empty()) return {};
  const auto config = record.texts.find("config.json");
  if (config == record.texts.end()) return {};
  LODE_ASSIGN(Json json, ParseJson(config->second));
  const RecordedSource source(in.path(), std::move(json), record.tensors);
  Work work(options);
  Restorer restorer(in, record, source, &work);
  std::string why;
  LODE_ASSIGN(const bool possible, restorer.Prepare(&why));
  if (!possible) {
    report->warnings.push_back("the GGUF was changed since it was made (" + why +
                               "), so the original files cannot be had back");
    return {};
  }
  *done = true;
  return restorer.Write(folder, report);
}

}  // namespace

Result<void> GgufToHuggingFace(const GgufFile& in, const std::string& out,
                               const ConvertOptions& options, ConvertReport* report) {
  LODE_ASSIGN(Record record, ReadRecord(in));
  bool done = false;
  LODE_TRY(Restore(in, record, out, options, report, &done));
  if (done) return {};

  LODE_ASSIGN(const model::ModelSpec spec, model::ReadSpec(in));
  Work work(options);
  ToFolder folder(in, options, report, &work);
  LODE_TRY(folder.Declare(spec));
  std::map<std::string, std::string> texts = std::move(record.texts);
  texts.erase(kIndexFile);
  texts.erase("hf_quant_config.json");
  if (texts.count("tokenizer.json") == 0) {
    LODE_ASSIGN(auto made, TokenizerTexts(in, &report->warnings));
    texts.merge(made);
  }
  const auto config = texts.find("config.json");
  if (config == texts.end()) {
    texts["config.json"] = ConfigText(spec, in);
  } else {
    config->second = WithoutQuantization(config->second, options.type);
  }
  const std::string quantization = folder.QuantizationText();
  if (!quantization.empty()) texts["hf_quant_config.json"] = quantization;
  LODE_TRY(WriteAll(texts, out));
  return folder.Write(out);
}

Result<void> HuggingFaceToHuggingFace(const formats::HfCheckpoint& in, const std::string& out,
                                      const ConvertOptions& options, ConvertReport* report) {
  const Listing listing(in.tensors());
  LODE_ASSIGN(const model::ModelSpec spec, model::ReadSpec(in));
  LODE_ASSIGN(const Plan plan, MakePlan(spec, listing, in.path(), [](const SlotPlan&) { return false; }));
  std::set<std::string_view> factors;  // not needed any more once they are multiplied in
  if (options.type.has_value()) {
    for (const SlotPlan& slot : plan.slots) {
      for (const Part& part : slot.parts) {
        for (const TensorInfo* info : {part.scale, part.scale_2, part.input_scale}) {
          if (info != nullptr) factors.insert(info->name);
        }
      }
    }
  }
  struct Output {
    const TensorInfo* info;
    const SlotPlan* slot = nullptr;  // of a matrix that is converted
    const Part* part = nullptr;
  };
  std::vector<Output> outputs;
  formats::SafetensorsWriter writer;
  for (const TensorInfo& info : in.tensors()) {
    if (factors.count(info.name) > 0) continue;
    Output output{&info};
    DType dtype = info.dtype;
    Shape shape = info.shape;
    const auto found = plan.origins.find(info.name);
    if (options.type.has_value() && found != plan.origins.end() &&
        found->second.piece == Piece::kWeight && plan.slots[found->second.slot].convertible()) {
      output.slot = &plan.slots[found->second.slot];
      output.part = &output.slot->parts[found->second.part];
      if (dtype == DType::kU8) shape.back() *= 2;
      dtype = *options.type;
    }
    uint64_t bytes = 0;
    tensor::CountBytes(dtype, shape, &bytes);
    report->bytes += bytes;
    ++report->types[tensor::Name(dtype)];
    writer.AddTensor(info.name, dtype, shape);
    outputs.push_back(output);
  }
  report->tensors = static_cast<int64_t>(outputs.size());
  report->exact = !options.type.has_value();
  LODE_ASSIGN(auto texts, ReadTexts(in));
  texts.erase(kIndexFile);
  if (&in.root_config() != &in.config()) texts["config.json"] = DumpJson(in.config(), 2) + "\n";
  if (options.type.has_value()) {
    texts.erase("hf_quant_config.json");
    texts["config.json"] = WithoutQuantization(texts["config.json"], options.type);
  }
  LODE_TRY(WriteAll(texts, out));
  Work work(options);
  work.Expect(report->tensors, report->bytes);
  LODE_TRY(writer.BeginFolder(out, options.shard_bytes_max));
  const Sink sink = [&](std::span<const std::byte> bytes) { return writer.Write(bytes); };
  for (const Output& output : outputs) {
    if (output.slot == nullptr) {
      LODE_TRY(work.Copy(in.View(*output.info).bytes, sink));
    } else {
      const PartData data = DataOf(in, *output.slot, *output.part);
      const auto turn = [&](int64_t row, int64_t count, float* scratch,
                            std::byte* rows) -> Result<void> {
        DecodeRows(data, row, count, true, scratch);
        tensor::EncodeBlocks(*options.type, scratch, count * data.cols, rows);
        return {};
      };
      LODE_TRY(work.Rows(data.rows, data.cols, RowBytes(*options.type, data.cols), turn, sink));
    }
    LODE_TRY(work.TensorDone());
  }
  report->paths = writer.paths();
  return writer.Finish();
}

}  // namespace lode::quant

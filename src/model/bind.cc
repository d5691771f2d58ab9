#include "model/bind.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "base/text.h"
#include "kernels/ops.h"
#include "kernels/panel.h"
#include "model/config.h"
#include "model/fields.h"
#include "model/tensors.h"
#include "tensor/blocks.h"

namespace lode::model {
namespace {

using tensor::DType;
using tensor::Naming;
using tensor::TensorInfo;
using tensor::TensorSource;
using tensor::TensorView;

std::string Without(const std::string& name, std::string_view suffix) {
  return EndsWith(name, suffix) ? name.substr(0, name.size() - suffix.size()) : name;
}

class Binder {
 public:
  Binder(Model* model) : model_(*model), source_(*model->source) {}

  Result<void> BindSlot(const TensorSlot& slot);
  // Names of what is missing; a name may stand for several experts.
  const std::vector<std::string>& missing() const { return missing_; }
  int64_t missing_count() const { return missing_count_; }

 private:
  bool gguf() const { return source_.naming() == Naming::kGguf; }
  Error Bad(const std::string& name, const std::string& what, Code code = Code::kBadInput) const {
    return Error(code, source_.path() + ": tensor " + Quote(name) + ": " + what);
  }

  // A tensor that the model needs is not there: noted, or an error when something else stands for it.
  Result<void> Absent(const std::string& name);
  // The tensor under the first of its names, or nullptr.
  const TensorInfo* Find(const TensorSlot& slot, int64_t expert, std::string* name) const;
  Result<std::vector<float>> Vector(const TensorSlot& slot, const TensorInfo& info);
  Result<Weight> Matrix(const TensorInfo& info, const tensor::Shape& shape);
  Result<void> Place(const TensorInfo& info, std::span<const std::byte> bytes, Weight* w);
  Result<void> ApplyHuggingFaceScales(const TensorInfo& info, const tensor::Shape& shape,
                                      Weight* w);
  Result<float> Scalar(const TensorInfo& info, size_t index = 0);
  Result<void> BindExperts(const TensorSlot& slot, std::vector<Weight>* weights);
  void Note(const Weight& weight);

  Model& model_;
  const TensorSource& source_;
  std::vector<std::string> missing_;
  int64_t missing_count_ = 0;
};

// "...experts.{0-5,9}.up_proj.weight"
std::string ExpertRanges(const std::string& pattern, const std::vector<int64_t>& experts) {
  std::string list;
  for (size_t i = 0; i < experts.size(); ++i) {
    const size_t begin = i;
    while (i + 1 < experts.size() && experts[i + 1] == experts[i] + 1) ++i;
    list += (list.empty() ? "" : ",") + std::to_string(experts[begin]);
    if (i > begin) list += "-" + std::to_string(experts[i]);
  }
  if (experts.size() > 1) list = "{" + list + "}";
  const size_t at = pattern.find("{e}");
  return at == std::string::npos ? pattern : pattern.substr(0, at) + list + pattern.substr(at + 3);
}

const TensorInfo* Binder::Find(const TensorSlot& slot, int64_t expert, std::string* name) const {
  if (gguf()) {
    *name = slot.gguf;
    return source_.Find(slot.gguf);
  }
  for (const std::string& pattern : slot.hugging_face) {
    const std::string candidate = slot.experts > 0 ? ExpertName(pattern, expert) : pattern;
    if (const TensorInfo* info = source_.Find(candidate)) {
      *name = candidate;
      return info;
    }
  }
  *name =
      slot.experts > 0 ? ExpertName(slot.hugging_face.front(), expert) : slot.hugging_face.front();
  return nullptr;
}

Result<std::vector<float>> Binder::Vector(const TensorSlot& slot, const TensorInfo& info) {
  int64_t want = 0;
  int64_t have = 0;
  LODE_CHECK(tensor::CountElements(slot.shape, &want));
  if (!tensor::CountElements(info.shape, &have) || have != want) {
    return Bad(info.name, "has the shape " + tensor::ToString(info.shape) + ", but " +
                              tensor::ToString(gguf() ? slot.gguf_shape : slot.shape) +
                              " is needed");
  }
  const DType dtype = info.dtype;
  if (dtype != DType::kF32 && dtype != DType::kF16 && dtype != DType::kBF16) {
    return Bad(info.name, std::string("is ") + tensor::Name(dtype) +
                              ", but such a small tensor must be F32, F16 or BF16");
  }
  std::vector<float> values(static_cast<size_t>(want));
  tensor::DecodeBlocks(dtype, source_.View(info).bytes.data(), want, values.data());
  if (slot.row->transform == Transform::kNegativeExp && !gguf()) {
    for (float& x : values) x = static_cast<float>(-std::exp(static_cast<double>(x)));
  }
  if (slot.row->role == Role::kMambaConv) {  // [C, K] -> [K, C]
    const int64_t channels = slot.shape.front();
    const int64_t taps = slot.shape.back();
    std::vector<float> turned(values.size());
    for (int64_t c = 0; c < channels; ++c) {
      for (int64_t k = 0; k < taps; ++k) {
        turned[static_cast<size_t>(k * channels + c)] = values[static_cast<size_t>(c * taps + k)];
      }
    }
    values = std::move(turned);
  }
  model_.vector_bytes += values.size() * sizeof(float);
  return values;
}

Result<float> Binder::Scalar(const TensorInfo& info, size_t index) {
  const tensor::DTypeInfo& type = tensor::Info(info.dtype);
  const TensorView view = source_.View(info);
  const auto bytes = static_cast<size_t>(type.block_bytes);
  const bool plain =
      info.dtype == DType::kF32 || info.dtype == DType::kBF16 || info.dtype == DType::kF16;
  if (!plain || view.bytes.size() < (index + 1) * bytes) {
    return Bad(info.name, "is not the scale it should be: F32, F16 or BF16");
  }
  float value;
  tensor::DecodeBlocks(info.dtype, view.bytes.data() + index * bytes, 1, &value);
  return value;
}

Result<void> Binder::ApplyHuggingFaceScales(const TensorInfo& info, const tensor::Shape& shape,
                                            Weight* w) {
  const std::string module = Without(info.name, ".weight");
  const TensorInfo* scale = source_.Find(module + ".weight_scale");
  if (info.dtype == DType::kF8E4M3) {
    if (scale == nullptr) {
      if (source_.Find(module + ".weight_scale_inv") != nullptr) {
        return Bad(info.name, "FP8 with a scale per block of 128 is not supported",
                   Code::kUnsupported);
      }
      return Bad(module + ".weight_scale", "is missing beside the FP8 weight", Code::kNotFound);
    }
    int64_t count = 0;
    tensor::CountElements(scale->shape, &count);
    if (count == 1) {
      LODE_ASSIGN(w->scale, Scalar(*scale));
      return {};
    }
    if (count != shape[0] || scale->dtype != DType::kF32) {
      return Bad(scale->name, "has the shape " + tensor::ToString(scale->shape) +
                                  ", but one scale for the tensor or one per row is needed");
    }
    auto scales = std::make_unique<std::vector<float>>(static_cast<size_t>(count));
    std::memcpy(scales->data(), source_.View(*scale).bytes.data(), scales->size() * sizeof(float));
    w->row_scales = scales->data();
    model_.vector_bytes += scales->size() * sizeof(float);
    model_.row_scales.push_back(std::move(scales));
    return {};
  }
  // NVFP4: two codes a byte, an E4M3 scale per 16 columns, one scale for the tensor.
  const TensorInfo* second = source_.Find(module + ".weight_scale_2");
  if (scale == nullptr || second == nullptr || scale->dtype != DType::kF8E4M3) {
    return Bad(info.name,
               "is U8 without the NVFP4 scales '.weight_scale' (F8_E4M3) and '.weight_scale_2': a "
               "quantization that Lode does not know",
               Code::kUnsupported);
  }
  if (shape[1] % 16 != 0 || scale->shape != tensor::Shape{shape[0], shape[1] / 16}) {
    return Bad(scale->name, "has the shape " + tensor::ToString(scale->shape) +
                                ", which does not fit the weight");
  }
  w->block_scales = reinterpret_cast<const uint8_t*>(source_.View(*scale).bytes.data());
  model_.weight_bytes += source_.View(*scale).bytes.size();
  LODE_ASSIGN(w->scale, Scalar(*second));
  return {};
}

Result<Weight> Binder::Matrix(const TensorInfo& info, const tensor::Shape& shape) {
  Weight w;
  w.rows = shape[0];
  w.cols = shape[1];
  const bool packed = !gguf() && info.dtype == DType::kU8;  // ModelOpt's NVFP4
  if (!gguf() && source_.Find(Without(info.name, ".weight") + ".pre_quant_scale") != nullptr) {
    return Bad(info.name, "has a scale on its input ('pre_quant_scale'), which Lode does not apply",
               Code::kUnsupported);
  }
  const tensor::Shape stored = packed ? tensor::Shape{shape[0], shape[1] / 2} : shape;
  if (info.shape != stored) {
    return Bad(info.name, "has the shape " + tensor::ToString(info.shape) + ", but " +
                              tensor::ToString(stored) + " is needed");
  }
  const TensorView view = source_.View(info);
  w.dtype = info.dtype;
  LODE_TRY(Place(info, view.bytes, &w));
  model_.weight_bytes += view.bytes.size();
  if (packed || (!gguf() && info.dtype == DType::kF8E4M3)) {
    LODE_TRY(ApplyHuggingFaceScales(info, shape, &w));
  } else if (!tensor::Info(info.dtype).weights) {
    return Bad(info.name,
               std::string("is ") + tensor::Name(info.dtype) +
                   ", which Lode does not know as a weight type",
               Code::kUnsupported);
  }
  if (gguf()) {
    if (const TensorInfo* scale = source_.Find(Without(info.name, ".weight") + ".scale")) {
      LODE_ASSIGN(w.scale, Scalar(*scale));
    }
  }
  return w;
}

// Where the weight's bytes are: rows of blocks, or panels as `lode pack` wrote them.
Result<void> Binder::Place(const TensorInfo& info, std::span<const std::byte> bytes, Weight* w) {
  if (!info.packed) {
    w->data = bytes.data();
    w->row_bytes = static_cast<int64_t>(bytes.size()) / std::max<int64_t>(1, w->rows);
    return {};
  }
  if (kernels::PanelFormatOf(*w) == kernels::PanelFormat::kNone ||
      static_cast<uint64_t>(kernels::PackedBytes(*w)) > bytes.size()) {
    return Bad(info.name, "is packed, but not as this version of Lode packs");
  }
  w->packed = bytes.data();
  w->row_bytes = static_cast<int64_t>(bytes.size()) / std::max<int64_t>(1, w->rows);  // nominal
  return {};
}

void Binder::Note(const Weight& weight) {
  const tensor::DTypeInfo& info = tensor::Info(weight.dtype);
  if (info.block_bytes * 8 < 16 * info.block_elements) model_.quantized = true;
  if (weight.dtype == DType::kBF16) model_.any_bf16 = true;
}

Result<void> Binder::BindExperts(const TensorSlot& slot, std::vector<Weight>* weights) {
  std::string name;
  const TensorInfo* first = Find(slot, 0, &name);
  const TensorInfo* stacked = gguf() ? first : nullptr;
  if (!gguf() && first == nullptr) {
    for (const std::string& pattern : slot.hugging_face) {
      if (stacked == nullptr) stacked = source_.Find(StackedName(pattern));
    }
  }
  if (stacked == nullptr && gguf()) return Absent(name);
  if (stacked != nullptr) {
    tensor::Shape want = slot.shape;
    want.insert(want.begin(), slot.experts);
    if (stacked->shape != want) {
      return Bad(stacked->name, "has the shape " + tensor::ToString(stacked->shape) + ", but " +
                                    tensor::ToString(want) + " is needed");
    }
    if (!tensor::Info(stacked->dtype).weights || (!gguf() && stacked->dtype == DType::kF8E4M3)) {
      return Bad(stacked->name,
                 std::string("is a stack of ") + tensor::Name(stacked->dtype) +
                     ", which Lode does not know",
                 Code::kUnsupported);
    }
    const TensorView view = source_.View(*stacked);
    const auto each = static_cast<int64_t>(view.bytes.size()) / slot.experts;
    const TensorInfo* scales = source_.Find(Without(stacked->name, ".weight") + ".scale");
    int64_t scale_count = 0;
    if (scales != nullptr) tensor::CountElements(scales->shape, &scale_count);
    for (int64_t e = 0; e < slot.experts; ++e) {
      Weight w;
      w.dtype = stacked->dtype;
      w.rows = slot.shape[0];
      w.cols = slot.shape[1];
      LODE_TRY(Place(*stacked,
                     view.bytes.subspan(static_cast<size_t>(e * each), static_cast<size_t>(each)),
                     &w));
      if (scales != nullptr) {
        LODE_ASSIGN(w.scale, Scalar(*scales, scale_count == 1 ? 0 : static_cast<size_t>(e)));
      }
      weights->push_back(w);
    }
    model_.weight_bytes += view.bytes.size();
    Note(weights->front());
    return {};
  }
  std::vector<int64_t> absent;
  for (int64_t e = 0; e < slot.experts; ++e) {
    const TensorInfo* info = Find(slot, e, &name);
    if (info == nullptr) {
      if (absent.empty()) LODE_TRY(Absent(name));  // says whether something else stands for it
      absent.push_back(e);
      continue;
    }
    LODE_ASSIGN(Weight w, Matrix(*info, slot.shape));
    Note(w);
    weights->push_back(w);
  }
  if (!absent.empty()) {  // one name for all of the stack
    missing_.back() = ExpertRanges(slot.hugging_face.front(), absent);
    missing_count_ += static_cast<int64_t>(absent.size()) - 1;
  }
  return {};
}

Result<void> Binder::Absent(const std::string& name) {
  const std::string module = Without(name, ".weight");
  for (const char* other : {".weight_packed", ".qweight", ".weight_format"}) {
    if (!gguf() && source_.Find(module + other) != nullptr) {
      return Bad(module + other, "stands for the weight in a quantization that Lode does not know",
                 Code::kUnsupported);
    }
  }
  const std::string why = source_.WhyAbsent(name);
  if (!why.empty()) return Bad(name, why, Code::kUnsupported);
  missing_.push_back(name);
  ++missing_count_;
  return {};
}

Result<void> Binder::BindSlot(const TensorSlot& slot) {
  if (slot.experts > 0) {
    return BindExperts(slot, ExpertsOf(&model_, slot));
  }
  std::string name;
  const TensorInfo* info = Find(slot, 0, &name);
  if (info == nullptr) {
    return Absent(name);
  }
  if (slot.row->kind == Kind::kVector) {
    std::vector<float>* target = VectorOf(&model_, slot);
    LODE_CHECK(target != nullptr);
    LODE_ASSIGN(*target, Vector(slot, *info));
    return {};
  }
  Weight* target = MatrixOf(&model_, slot);
  LODE_CHECK(target != nullptr);
  LODE_ASSIGN(*target, Matrix(*info, slot.shape));
  Note(*target);
  return {};
}

}  // namespace

Result<std::unique_ptr<Model>> Bind(std::shared_ptr<const TensorSource> source) {
  auto model = std::make_unique<Model>();
  model->source = std::move(source);
  LODE_ASSIGN(model->spec, ReadSpec(*model->source));
  for (const LayerSpec& spec : model->spec.layers)
    model->layers.push_back({spec, {}, {}, {}, {}, {}});
  for (const LayerSpec& spec : model->spec.mtp) {
    model->mtp.layers.push_back({spec, {}, {}, {}, {}, {}});
  }
  Binder binder(model.get());
  for (const TensorSlot& slot : ListTensors(model->spec)) LODE_TRY(binder.BindSlot(slot));
  if (!binder.missing().empty()) {
    constexpr size_t kNamesMax = 2000;  // more than any release has; a message must end somewhere
    std::vector<std::string> names = binder.missing();
    std::string more;
    if (names.size() > kNamesMax) {
      more = Format(" and %zu more", names.size() - kNamesMax);
      names.resize(kNamesMax);
    }
    const int64_t count = binder.missing_count();
    return Error(Code::kNotFound,
                 model->source->path() +
                     (count == 1 ? ": a tensor is missing: "
                                 : ": " + std::to_string(count) + " tensors are missing: ") +
                     Join(names, ", ") + more,
                 "the file is incomplete or of another model; download it again");
  }
  if (model->spec.tied_head) model->head = model->embedding;
  return model;
}

bool CanFuseExperts(const Model& model) {
  const auto fused = [](const Layer& layer) {
    return layer.moe.up.empty() || kernels::CanRunExperts(layer.moe.up, layer.moe.down);
  };
  return std::all_of(model.layers.begin(), model.layers.end(), fused) &&
         std::all_of(model.mtp.layers.begin(), model.mtp.layers.end(), fused);
}

std::vector<std::string> FindBadNumbers(const TensorSource& source, ThreadPool* pool,
                                        const std::function<bool(uint64_t bytes)>& progress) {
  constexpr int64_t kPiece = 1 << 16;  // elements, a multiple of every block
  struct Piece {
    size_t tensor;
    int64_t begin, count;
  };
  struct Tally {
    std::atomic<int64_t> nans{0}, infinities{0};
  };
  std::vector<Piece> pieces;
  const std::vector<TensorInfo>& tensors = source.tensors();
  std::vector<Tally> tallies(tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    int64_t count = 0;
    if (tensors[i].packed || !tensor::Info(tensors[i].dtype).weights ||
        !tensor::CountElements(tensors[i].shape, &count)) {
      continue;
    }
    for (int64_t at = 0; at < count; at += kPiece) {
      pieces.push_back({i, at, std::min(kPiece, count - at)});
    }
  }
  ThreadPool alone(1);
  if (pool == nullptr) pool = &alone;
  std::vector<std::vector<float>> values(static_cast<size_t>(pool->threads()),
                                         std::vector<float>(kPiece));
  const auto look = [&](const Piece& piece, float* decoded) {
    const TensorInfo& info = tensors[piece.tensor];
    const tensor::DTypeInfo& type = tensor::Info(info.dtype);
    const TensorView view = source.View(info);
    tensor::DecodeBlocks(info.dtype,
                         view.bytes.data() + piece.begin / type.block_elements * type.block_bytes,
                         piece.count, decoded);
    int64_t nans = 0;
    int64_t infinities = 0;
    for (int64_t j = 0; j < piece.count; ++j) {
      nans += std::isnan(decoded[j]);
      infinities += std::isinf(decoded[j]);
    }
    if (nans > 0) tallies[piece.tensor].nans += nans;
    if (infinities > 0) tallies[piece.tensor].infinities += infinities;
  };
  constexpr size_t kBatch = 1024;  // pieces between two reports
  uint64_t bytes = 0;
  for (size_t begin = 0; begin < pieces.size(); begin += kBatch) {
    const size_t count = std::min(kBatch, pieces.size() - begin);
    pool->Run(static_cast<int64_t>(count), [&](int64_t chunk, int thread) {
      look(pieces[begin + static_cast<size_t>(chunk)], values[static_cast<size_t>(thread)].data());
    });
    for (size_t i = begin; i < begin + count; ++i) {
      const tensor::DTypeInfo& type = tensor::Info(tensors[pieces[i].tensor].dtype);
      bytes += static_cast<uint64_t>(pieces[i].count / type.block_elements * type.block_bytes);
    }
    if (progress && !progress(bytes)) break;
  }
  std::vector<std::string> findings;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t nans = tallies[i].nans;
    const int64_t infinities = tallies[i].infinities;
    if (nans == 0 && infinities == 0) continue;
    int64_t count = 0;
    tensor::CountElements(tensors[i].shape, &count);
    findings.push_back(Format("tensor %s (%s): %lld NaN and %lld infinite of %lld values",
                              Quote(tensors[i].name).c_str(), tensors[i].file.c_str(),
                              static_cast<long long>(nans), static_cast<long long>(infinities),
                              static_cast<long long>(count)));
  }
  return findings;
}

}  // namespace lode::model

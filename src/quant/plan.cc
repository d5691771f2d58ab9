#include "quant/plan.h"

#include <algorithm>

#include "base/text.h"
#include "tensor/dtype.h"

namespace lode::quant {
namespace {

using model::Kind;
using model::Role;
using model::TensorSlot;
using tensor::DType;
using tensor::TensorInfo;

constexpr int kNvfp4Columns = 64;  // GGUF's super-block

std::string Module(const std::string& weight) {
  return EndsWith(weight, ".weight") ? weight.substr(0, weight.size() - 7) : weight;
}

bool IsFloat(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kF16 || dtype == DType::kBF16;
}

int64_t Elements(const TensorInfo& info) {
  int64_t count = 0;
  return tensor::CountElements(info.shape, &count) ? count : -1;
}

// Vectors and the router stay F32 in GGUF: they are small, others compute with them in F32 only, and
// every F16 and BF16 is an F32.
bool StaysF32(const TensorSlot& slot) {
  return slot.row->kind == Kind::kVector || slot.row->role == Role::kRouter;
}

// Programs that read GGUF apply a ".scale" where they multiply with a matrix; for an embedding there
// is no product, for the latent projections llama.cpp does not look for one, and for the head only
// when it is NVFP4.
bool ScalesGoInside(Role role, bool nvfp4) {
  return role == Role::kEmbedding || role == Role::kLatentDown || role == Role::kLatentUp ||
         (role == Role::kHead && !nvfp4);
}

class Planner {
 public:
  Planner(const Listing& listing, const std::string& path,
          const std::function<bool(const SlotPlan&)>& fits)
      : listing_(listing), path_(path), fits_(fits) {}

  Result<void> Add(const TensorSlot& slot, Plan* plan);
  const std::vector<std::string>& missing() const { return missing_; }

 private:
  Error Bad(const std::string& name, const std::string& what, Code code = Code::kBadInput) const {
    return Error(code, path_ + ": tensor " + Quote(name) + ": " + what);
  }
  Result<void> AddPart(const TensorInfo& weight, const tensor::Shape& shape, SlotPlan* plan);
  Result<void> Choose(SlotPlan* plan);
  void NoteOrigins(size_t index, Plan* plan);

  const Listing& listing_;
  const std::string& path_;
  const std::function<bool(const SlotPlan&)>& fits_;
  std::vector<std::string> missing_;
};

Result<void> Planner::AddPart(const TensorInfo& weight, const tensor::Shape& shape,
                              SlotPlan* plan) {
  Part part;
  part.weight = &weight;
  int64_t want = 1;
  tensor::CountElements(shape, &want);
  if (StaysF32(plan->slot)) {
    if (!IsFloat(weight.dtype)) {
      return Bad(weight.name, std::string("is ") + tensor::Name(weight.dtype) +
                                  ", but such a small tensor must be F32, F16 or BF16");
    }
    if (Elements(weight) != want) {
      return Bad(weight.name, "has the shape " + tensor::ToString(weight.shape) + ", but " +
                                  tensor::ToString(shape) + " is needed");
    }
    plan->parts.push_back(part);
    return {};
  }
  tensor::Shape stored = shape;
  if (weight.dtype == DType::kU8 && stored.back() % 2 == 0) stored.back() /= 2;
  if (weight.shape != stored) {
    return Bad(weight.name, "has the shape " + tensor::ToString(weight.shape) + ", but " +
                                tensor::ToString(stored) + " is needed");
  }
  const std::string module = Module(weight.name);
  if (weight.dtype == DType::kF8E4M3 || weight.dtype == DType::kU8) {
    part.scale = listing_.Find(module + ".weight_scale");
    part.input_scale = listing_.Find(module + ".input_scale");
    if (part.input_scale != nullptr &&
        (part.input_scale->dtype != DType::kF32 || Elements(*part.input_scale) != 1)) {
      part.input_scale = nullptr;  // of another kind: not ours to place, it is remembered
    }
  }
  if (weight.dtype == DType::kF8E4M3) {
    if (part.scale == nullptr) {
      const bool blocks = listing_.Find(module + ".weight_scale_inv") != nullptr;
      return blocks ? Bad(weight.name, "FP8 with a scale per block of 128 is not supported",
                          Code::kUnsupported)
                    : Bad(module + ".weight_scale", "is missing beside the FP8 weight",
                          Code::kNotFound);
    }
    const int64_t scales = Elements(*part.scale);
    if (part.scale->dtype != DType::kF32 || (scales != 1 && scales != shape[0])) {
      return Bad(part.scale->name,
                 "is not one F32 scale for the tensor or one per row, as FP8 needs it");
    }
    part.coding = scales == 1 ? Coding::kFp8 : Coding::kFp8Rows;
  } else if (weight.dtype == DType::kU8) {
    part.scale_2 = listing_.Find(module + ".weight_scale_2");
    if (part.scale == nullptr || part.scale_2 == nullptr) {
      return Bad(weight.name,
                 "is U8 without the NVFP4 scales '.weight_scale' and '.weight_scale_2': a "
                 "quantization that Lode does not know",
                 Code::kUnsupported);
    }
    const bool good = part.scale->dtype == DType::kF8E4M3 && shape.size() == 2 &&
                      shape[1] % 16 == 0 &&
                      part.scale->shape == tensor::Shape{shape[0], shape[1] / 16} &&
                      part.scale_2->dtype == DType::kF32 && Elements(*part.scale_2) == 1;
    if (!good) return Bad(part.scale->name, "does not fit the NVFP4 weight");
    part.coding = Coding::kNvfp4;
  } else if (!IsFloat(weight.dtype)) {
    return Bad(weight.name, std::string("is ") + tensor::Name(weight.dtype) +
                                ", which Lode does not know as a weight type",
               Code::kUnsupported);
  }
  plan->parts.push_back(part);
  return {};
}

// The smallest type that holds every number: E4M3 has 4 significant bits and an FP4 times an E4M3 at
// most 6, so BF16 with its 8 holds both; a product with a scale is an F32.
Result<void> Planner::Choose(SlotPlan* plan) {
  plan->dtype = DType::kF32;
  if (StaysF32(plan->slot)) return {};
  bool all_nvfp4 = true;
  bool bf16_holds = true;
  bool rows = false;
  bool same = true;
  plan->input_scales = true;
  for (const Part& part : plan->parts) {
    const bool plain = part.coding == Coding::kPlain;
    plan->scaled = plan->scaled || !plain;
    all_nvfp4 = all_nvfp4 && part.coding == Coding::kNvfp4;
    rows = rows || part.coding == Coding::kFp8Rows;
    bf16_holds = bf16_holds && (!plain || part.weight->dtype == DType::kBF16);
    same = same && part.weight->dtype == plan->parts.front().weight->dtype;
    plan->input_scales = plan->input_scales && part.input_scale != nullptr;
  }
  if (!plan->scaled) {
    if (same) plan->dtype = plan->parts.front().weight->dtype;
    return {};
  }
  const bool nvfp4 = all_nvfp4 && plan->cols() % kNvfp4Columns == 0 && fits_(*plan);
  plan->inside = rows || ScalesGoInside(plan->slot.row->role, nvfp4);
  if (plan->inside) {
    plan->input_scales = false;
    return {};
  }
  if (nvfp4) {
    plan->dtype = DType::kNVFP4;
  } else if (bf16_holds) {
    plan->dtype = DType::kBF16;
  }
  return {};
}

void Planner::NoteOrigins(size_t index, Plan* all) {
  const SlotPlan& plan = all->slots[index];
  for (size_t p = 0; p < plan.parts.size(); ++p) {
    const Part& part = plan.parts[p];
    const auto note = [&](const TensorInfo* info, Piece piece) {
      if (info != nullptr) all->origins[info->name] = {index, p, piece};
    };
    note(part.weight, Piece::kWeight);
    if (plan.inside) continue;  // the factors are lost in the products: all remembered
    if (part.coding == Coding::kFp8) note(part.scale, Piece::kScale);
    if (plan.dtype == DType::kNVFP4) note(part.scale, Piece::kBlockScales);
    note(part.scale_2, Piece::kScale2);
    if (plan.input_scales) note(part.input_scale, Piece::kInputScale);
  }
}

Result<void> Planner::Add(const TensorSlot& slot, Plan* all) {
  SlotPlan plan;
  plan.slot = slot;
  const auto find = [&](const auto& name_of) -> const TensorInfo* {
    for (const std::string& pattern : slot.hugging_face) {
      if (const TensorInfo* info = listing_.Find(name_of(pattern))) return info;
    }
    return nullptr;
  };
  if (slot.experts == 0) {
    const TensorInfo* info = find([](const std::string& name) { return name; });
    if (info == nullptr) {
      missing_.push_back(slot.hugging_face.front());
      return {};
    }
    LODE_TRY(AddPart(*info, slot.shape, &plan));
  } else if (const TensorInfo* stacked = find(model::StackedName)) {
    tensor::Shape shape = slot.shape;
    shape.insert(shape.begin(), slot.experts);
    if (!IsFloat(stacked->dtype)) {
      return Bad(stacked->name, std::string("a stack of experts in ") +
                                    tensor::Name(stacked->dtype) + " is not supported",
                 Code::kUnsupported);
    }
    LODE_TRY(AddPart(*stacked, shape, &plan));
  } else {
    for (int64_t e = 0; e < slot.experts; ++e) {
      const TensorInfo* info =
          find([&](const std::string& pattern) { return model::ExpertName(pattern, e); });
      if (info == nullptr) {
        missing_.push_back(model::ExpertName(slot.hugging_face.front(), e));
        continue;
      }
      LODE_TRY(AddPart(*info, slot.shape, &plan));
    }
  }
  if (!missing_.empty()) return {};
  LODE_TRY(Choose(&plan));
  all->slots.push_back(std::move(plan));
  NoteOrigins(all->slots.size() - 1, all);
  return {};
}

}  // namespace

Listing::Listing(const std::vector<TensorInfo>& tensors) : tensors_(tensors) {
  index_.reserve(tensors.size());
  for (const TensorInfo& info : tensors) index_.emplace(info.name, &info);
}

const TensorInfo* Listing::Find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : found->second;
}

bool SlotPlan::convertible() const { return !StaysF32(slot); }

int64_t SlotPlan::cols() const { return slot.shape.back(); }

int64_t SlotPlan::rows() const {
  int64_t elements = 1;
  tensor::CountElements(slot.gguf_shape, &elements);
  return elements / static_cast<int64_t>(parts.size()) / std::max<int64_t>(1, cols());
}

std::string SlotPlan::SideName(const char* suffix) const { return Module(slot.gguf) + suffix; }

Result<Plan> MakePlan(const model::ModelSpec& spec, const Listing& listing, const std::string& path,
                      const std::function<bool(const SlotPlan&)>& fits) {
  Plan plan;
  Planner planner(listing, path, fits);
  for (const TensorSlot& slot : model::ListTensors(spec)) LODE_TRY(planner.Add(slot, &plan));
  if (!planner.missing().empty()) {
    std::vector<std::string> names = planner.missing();
    const size_t all = names.size();
    constexpr size_t kListedMax = 50;
    if (all > kListedMax) names.resize(kListedMax);
    return Error(Code::kNotFound,
                 path + Format(": %zu tensors are missing: ", all) + Join(names, ", ") +
                     (all > kListedMax ? Format(" and %zu more", all - kListedMax) : ""),
                 "the download may be incomplete");
  }
  return plan;
}

}  // namespace lode::quant

#include "api/bench_cost.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

namespace lode::api {
namespace {

double Bytes(const kernels::Weight& weight) {
  const double scales =
      weight.block_scales != nullptr ? static_cast<double>(weight.rows * weight.cols) / 16.0 : 0.0;
  return static_cast<double>(weight.rows * weight.row_bytes) + scales;
}

double Elements(const kernels::Weight& weight) {
  return static_cast<double>(weight.rows) * static_cast<double>(weight.cols);
}

bool IsQuantized(const kernels::Weight& weight) {
  return weight.block_scales != nullptr || tensor::Info(weight.dtype).block_elements > 1;
}

bool IsHalf(tensor::DType dtype) {
  return dtype == tensor::DType::kBF16 || dtype == tensor::DType::kF8E4M3 ||
         dtype == tensor::DType::kF8E5M2;
}

// Every matrix of a layer that all rows multiply, then the experts'.
std::vector<const kernels::Weight*> DenseOf(const model::Layer& layer) {
  const model::MoeWeights& moe = layer.moe;
  std::vector<const kernels::Weight*> all = {
      &layer.mamba2.in,     &layer.mamba2.out,      &layer.attention.query,
      &layer.attention.key, &layer.attention.value, &layer.attention.out,
      &layer.mlp.up,        &layer.mlp.down,        &moe.router,
      &moe.shared_up,       &moe.shared_down,       &moe.latent_down,
      &moe.latent_up};
  std::erase_if(all, [](const kernels::Weight* weight) { return weight->rows == 0; });
  return all;
}

}  // namespace

Cost& Cost::operator+=(const Cost& other) {
  bytes += other.bytes;
  int8 += other.int8;
  bf16 += other.bf16;
  f32 += other.f32;
  return *this;
}

double ExpectedExperts(double experts, double top_k, double rows) {
  if (experts <= 0.0) return 0.0;
  return experts * (1.0 - std::pow(1.0 - std::min(1.0, top_k / experts), rows));
}

void CostModel::AddMatrix(const kernels::Weight& weight, Cost* cost) const {
  cost->bytes += Bytes(weight);
  const double flops = 2.0 * Elements(weight);
  switch (numerics_.activations) {
    case model::Activations::kF32:
      cost->f32 += flops;
      return;
    case model::Activations::kBF16:
      cost->bf16 += flops;
      return;
    case model::Activations::kNative:
      break;
  }
  (IsQuantized(weight) ? cost->int8 : IsHalf(weight.dtype) ? cost->bf16 : cost->f32) += flops;
}

void CostModel::AddLayer(const model::Layer& layer) {
  for (const kernels::Weight* weight : DenseOf(layer)) AddMatrix(*weight, &dense_);
  switch (layer.spec.kind) {
    case model::BlockKind::kMamba2: {
      const model::Mamba2Spec& m = layer.spec.mamba2;
      dense_.f32 += 5.0 * static_cast<double>(m.inner() * m.state) +
                    2.0 * static_cast<double>(m.taps * m.conv_dim());
      break;
    }
    case model::BlockKind::kAttention: {
      const double flops = 4.0 * static_cast<double>(layer.spec.attention.q_width());
      (numerics_.kv == kernels::KvType::kF32 ? key_.f32 : key_.bf16) += flops;
      break;
    }
    case model::BlockKind::kMlp:
      break;
    case model::BlockKind::kMoe: {
      if (layer.moe.up.empty()) break;
      Experts experts;
      experts.count = static_cast<double>(layer.spec.moe.experts);
      experts.top_k = static_cast<double>(layer.spec.moe.top_k);
      AddMatrix(layer.moe.up[0], &experts.one);
      AddMatrix(layer.moe.down[0], &experts.one);
      experts_.push_back(experts);
      break;
    }
  }
}

CostModel::CostModel(const model::Model& model, const model::Numerics& numerics)
    : numerics_(numerics) {
  for (const model::Layer& layer : model.layers) AddLayer(layer);
  AddMatrix(model.head, &head_);
  const model::StateLayout layout = model::MakeStateLayout(model.spec, numerics);
  key_.bytes = static_cast<double>(layout.page_bytes) / static_cast<double>(kernels::kPageTokens);
  sequence_.bytes = 2.0 * static_cast<double>(layout.slot_bytes);
  embedding_row_bytes_ = static_cast<double>(model.embedding.row_bytes);

  std::map<tensor::DType, double> elements;
  elements[model.head.dtype] += Elements(model.head);
  weight_bytes_ = Bytes(model.head);
  for (const model::Layer& layer : model.layers) {
    for (const kernels::Weight* weight : DenseOf(layer)) {
      elements[weight->dtype] += Elements(*weight);
      weight_bytes_ += Bytes(*weight);
    }
    for (const auto* list : {&layer.moe.up, &layer.moe.down}) {
      for (const kernels::Weight& weight : *list) {
        elements[weight.dtype] += Elements(weight);
        weight_bytes_ += Bytes(weight);
      }
    }
  }
  const auto most =
      std::max_element(elements.begin(), elements.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  weight_type_ = tensor::Name(most->first);
}

Cost CostModel::Step(int64_t sequences, int64_t rows_each, int64_t depth,
                     int64_t logit_rows) const {
  const auto s = static_cast<double>(sequences);
  const auto t = static_cast<double>(rows_each);
  const auto d = static_cast<double>(depth);
  const double rows = s * t;
  Cost cost;
  const auto add_flops = [&](const Cost& each, double times) {
    cost.int8 += each.int8 * times;
    cost.bf16 += each.bf16 * times;
    cost.f32 += each.f32 * times;
  };
  cost.bytes = dense_.bytes + rows * embedding_row_bytes_ + s * sequence_.bytes +
               s * (d + 2.0 * t) * key_.bytes;
  add_flops(dense_, rows);
  // Row i of a sequence sees d + i + 1 keys.
  add_flops(key_, s * (t * d + t * (t + 1.0) / 2.0));
  for (const Experts& experts : experts_) {
    cost.bytes += ExpectedExperts(experts.count, experts.top_k, rows) * experts.one.bytes;
    add_flops(experts.one, rows * experts.top_k);
  }
  if (logit_rows > 0) {
    cost.bytes += head_.bytes;
    add_flops(head_, static_cast<double>(logit_rows));
  }
  return cost;
}

}  // namespace lode::api

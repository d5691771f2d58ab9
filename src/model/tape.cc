#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"
#include "model/backward.h"

namespace lode::model {
namespace {

// Calls take(member, floats) for what a layer of this kind leaves in its buffers.
template <class Take>
void ForEachBuffer(const LayerSpec& layer, int64_t width, int64_t rows, const Take& take) {
  take(&LayerTape::u, rows * width);
  switch (layer.kind) {
    case BlockKind::kMamba2: {
      const Mamba2Spec& m = layer.mamba2;
      take(&LayerTape::wide, rows * m.projection());
      take(&LayerTape::conv, rows * m.conv_dim());
      take(&LayerTape::dt, rows * m.heads);
      take(&LayerTape::scanned, rows * m.inner());
      take(&LayerTape::mixed, rows * m.inner());
      break;
    }
    case BlockKind::kAttention: {
      const AttentionSpec& a = layer.attention;
      take(&LayerTape::wide, rows * (a.q_width() + 2 * a.kv_width()));
      take(&LayerTape::mixed, rows * a.q_width());
      break;
    }
    case BlockKind::kMlp:
      take(&LayerTape::wide, rows * layer.mlp.width);
      break;
    case BlockKind::kMoe: {
      const MoeSpec& e = layer.moe;
      const int64_t input = e.latent > 0 ? e.latent : width;
      take(&LayerTape::wide, rows * e.shared_width);
      take(&LayerTape::latent, rows * input);
      take(&LayerTape::router, rows * e.experts);
      take(&LayerTape::slot_weights, rows * e.top_k);
      take(&LayerTape::gathered, rows * e.top_k * input);
      take(&LayerTape::expert_mid, rows * e.top_k * e.width);
      take(&LayerTape::expert_out, rows * e.top_k * input);
      break;
    }
  }
}

int64_t Align(int64_t floats) { return (floats + 15) / 16 * 16; }

int64_t LayerFloats(const LayerSpec& layer, int64_t width, int64_t rows) {
  int64_t floats = 0;
  ForEachBuffer(layer, width, rows,
                [&](float* LayerTape::*, int64_t count) { floats += Align(count); });
  if (layer.kind == BlockKind::kMoe) floats += 2 * Align(rows * layer.moe.top_k);
  return floats;
}

// The buffers of a layer from `at` on.
void Place(const LayerSpec& layer, int64_t width, int64_t rows, float* at, LayerTape* tape) {
  ForEachBuffer(layer, width, rows, [&](float* LayerTape::*buffer, int64_t count) {
    tape->*buffer = at;
    at += Align(count);
  });
  if (layer.kind != BlockKind::kMoe) return;
  tape->expert_ids = reinterpret_cast<int32_t*>(at);
  tape->slot_rows = reinterpret_cast<int32_t*>(at + Align(rows * layer.moe.top_k));
}

int64_t TapeFloats(const ModelSpec& spec, int64_t rows, bool recompute) {
  const int64_t each = Align(rows * spec.width);
  int64_t sum = 0, largest = 0;
  for (const LayerSpec& layer : spec.layers) {
    const int64_t floats = LayerFloats(layer, spec.width, rows);
    sum += floats;
    largest = std::max(largest, floats);
  }
  return (recompute ? largest : sum) + std::ssize(spec.layers) * each;
}

}  // namespace

uint64_t Tape::Bytes(const ModelSpec& spec, int64_t rows_max, bool recompute) {
  return static_cast<uint64_t>(TapeFloats(spec, rows_max, recompute)) * sizeof(float);
}

Tape::Tape(Runner* runner, int64_t rows_max, bool recompute)
    : runner_(runner), recompute_(recompute), memory_(nullptr, std::free) {
  const ModelSpec& spec = runner->model().spec;
  memory_.reset(static_cast<std::byte*>(
      std::aligned_alloc(64, Bytes(spec, rows_max, recompute))));
  LODE_CHECK(memory_ != nullptr);
  auto* at = reinterpret_cast<float*>(memory_.get());
  layers_.resize(spec.layers.size());
  const int64_t each = Align(rows_max * spec.width);
  for (LayerTape& layer : layers_) {
    layer.x = at;
    at += each;
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    Place(spec.layers[i], spec.width, rows_max, at, &layers_[i]);
    if (!recompute) at += LayerFloats(spec.layers[i], spec.width, rows_max);
  }
  const Workspace& w = runner->workspace();
  own_ = {nullptr,        w.u,        w.wide,       w.mixed,      w.conv,
          w.dt,           w.scanned,  w.latent,     w.router,     w.slot_weights,
          w.gathered,     w.expert_mid, w.expert_out, w.expert_ids, w.slot_rows};
  runner->BetweenLayers([this] { Keep(); });
}

Tape::~Tape() {
  Use(own_);
  runner_->BetweenLayers(nullptr);
}

void Tape::Use(const LayerTape& b) {
  Workspace& w = runner_->workspace();
  w.u = b.u;
  w.wide = b.wide;
  w.mixed = b.mixed;
  w.conv = b.conv;
  w.dt = b.dt;
  w.scanned = b.scanned;
  w.latent = b.latent;
  w.router = b.router;
  w.slot_weights = b.slot_weights;
  w.gathered = b.gathered;
  w.expert_mid = b.expert_mid;
  w.expert_out = b.expert_out;
  w.expert_ids = b.expert_ids;
  w.slot_rows = b.slot_rows;
}

// Before each layer, and once more before the head.
void Tape::Keep() {
  const size_t floats = static_cast<size_t>(rows_ * runner_->model().spec.width);
  const float* x = runner_->workspace().x;
  if (next_ < layers_.size()) {
    std::memcpy(layers_[next_].x, x, floats * sizeof(float));
    Use(layers_[next_]);
  } else if (next_ == layers_.size()) {
    Use(own_);
  }
  ++next_;
}

const LayerTape& Tape::Layer(int64_t index, std::span<const SequenceView> sequences) {
  const LayerTape& layer = layers_[static_cast<size_t>(index)];
  if (recompute_) {
    Workspace& w = runner_->workspace();
    std::memcpy(w.x, layer.x,
                static_cast<size_t>(rows_ * runner_->model().spec.width) * sizeof(float));
    next_ = static_cast<size_t>(index);
    runner_->ForwardLayer(index, rows_, sequences);
    Use(own_);
  }
  return layer;
}

}  // namespace lode::model

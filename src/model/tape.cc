#include <algorithm>
#include <cstring>

#include "model/backward.h"

namespace lode::model {
namespace {

// What a layer of this kind leaves in its buffers.
void CarveLayer(const LayerSpec& layer, int64_t width, int64_t rows, Carver* carver,
                LayerTape* b) {
  b->u = carver->Take<float>(rows * width);
  switch (layer.kind) {
    case BlockKind::kMamba2: {
      const Mamba2Spec& m = layer.mamba2;
      b->wide = carver->Take<float>(rows * m.projection());
      b->conv = carver->Take<float>(rows * m.conv_dim());
      b->dt = carver->Take<float>(rows * m.heads);
      b->scanned = carver->Take<float>(rows * m.inner());
      b->mixed = carver->Take<float>(rows * m.inner());
      break;
    }
    case BlockKind::kAttention: {
      const AttentionSpec& a = layer.attention;
      b->wide = carver->Take<float>(rows * (a.q_width() + 2 * a.kv_width()));
      b->mixed = carver->Take<float>(rows * a.q_width());
      break;
    }
    case BlockKind::kMlp:
      b->wide = carver->Take<float>(rows * layer.mlp.width);
      break;
    case BlockKind::kMoe: {
      const MoeSpec& e = layer.moe;
      const int64_t input = e.latent > 0 ? e.latent : width;
      b->wide = carver->Take<float>(rows * e.shared_width);
      b->latent = carver->Take<float>(rows * input);
      b->router = carver->Take<float>(rows * e.experts);
      b->slot_weights = carver->Take<float>(rows * e.top_k);
      b->gathered = carver->Take<float>(rows * e.top_k * input);
      b->expert_mid = carver->Take<float>(rows * e.top_k * e.width);
      b->expert_out = carver->Take<float>(rows * e.top_k * input);
      b->expert_ids = carver->Take<int32_t>(rows * e.top_k);
      b->slot_rows = carver->Take<int32_t>(rows * e.top_k);
      break;
    }
  }
}

// All layers; returns the bytes of the whole. With `recompute` they share what they leave.
uint64_t CarveTape(const ModelSpec& spec, int64_t rows, bool recompute, std::byte* memory,
                   std::vector<LayerTape>* layers) {
  layers->resize(spec.layers.size());
  Carver carver(memory);
  for (LayerTape& layer : *layers) layer.x = carver.Take<float>(rows * spec.width);
  uint64_t end = carver.bytes();
  for (size_t i = 0; i < layers->size(); ++i) {
    Carver next = carver;
    CarveLayer(spec.layers[i], spec.width, rows, &next, &(*layers)[i]);
    end = std::max(end, next.bytes());
    if (!recompute) carver = next;
  }
  return end;
}

}  // namespace

uint64_t Tape::Bytes(const ModelSpec& spec, int64_t rows_max, bool recompute) {
  std::vector<LayerTape> layers;
  return CarveTape(spec, rows_max, recompute, nullptr, &layers);
}

Tape::Tape(Runner* runner, int64_t rows_max, bool recompute)
    : runner_(runner),
      recompute_(recompute),
      memory_(AllocateAligned(Bytes(runner->model().spec, rows_max, recompute))) {
  CarveTape(runner->model().spec, rows_max, recompute, memory_.get(), &layers_);
  own_ = used();
  runner->BetweenLayers([this] { Keep(); });
}

Tape::~Tape() {
  used() = own_;
  runner_->BetweenLayers(nullptr);
}

// Before each layer, and once more before the head.
void Tape::Keep() {
  const size_t floats = static_cast<size_t>(rows_ * runner_->model().spec.width);
  const float* x = runner_->workspace().x;
  if (next_ < layers_.size()) {
    std::memcpy(layers_[next_].x, x, floats * sizeof(float));
    used() = layers_[next_];
  } else if (next_ == layers_.size()) {
    used() = own_;
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
    used() = own_;
  }
  return layer;
}

}  // namespace lode::model

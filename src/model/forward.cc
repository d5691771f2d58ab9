#include "model/forward.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace lode::model {
namespace {

// The widths that decide how much memory a row needs: the largest over all layers, never those of
// the first.
struct Widths {
  int64_t wide = 0, mixed = 0, conv = 0, heads = 0, latent = 0, experts = 0;
  int64_t slots = 0, slot_input = 0, slot_mid = 0;  // top_k; floats for all of a row's slots
  int64_t input = 0;                                // of a product, beside the stream itself
};

Widths WidthsOf(const ModelSpec& spec) {
  Widths w;
  const auto raise = [](int64_t* at, int64_t value) { *at = std::max(*at, value); };
  const auto add = [&](const LayerSpec& layer) {
    const Mamba2Spec& m = layer.mamba2;
    const AttentionSpec& a = layer.attention;
    switch (layer.kind) {
      case BlockKind::kMamba2:
        raise(&w.wide, m.projection());
        raise(&w.mixed, m.inner());
        raise(&w.input, m.inner());
        raise(&w.conv, m.conv_dim());
        raise(&w.heads, m.heads);
        break;
      case BlockKind::kAttention:
        raise(&w.wide, a.q_width() + 2 * a.kv_width());
        raise(&w.mixed, a.q_width());
        raise(&w.input, a.q_width());
        break;
      case BlockKind::kMlp:
        raise(&w.wide, layer.mlp.width);
        raise(&w.input, layer.mlp.width);
        break;
      case BlockKind::kMoe: {
        const int64_t input = layer.moe.latent > 0 ? layer.moe.latent : spec.width;
        raise(&w.wide, layer.moe.shared_width);
        raise(&w.input, std::max(layer.moe.shared_width, input));
        raise(&w.latent, input);
        raise(&w.experts, layer.moe.experts);
        raise(&w.slots, layer.moe.top_k);
        raise(&w.slot_input, layer.moe.top_k * input);
        raise(&w.slot_mid, layer.moe.top_k * layer.moe.width);
        break;
      }
    }
  };
  for (const LayerSpec& layer : spec.layers) add(layer);
  for (const LayerSpec& layer : spec.mtp) add(layer);
  return w;
}

// The one list behind Bytes and the constructor.
void Carve(const ModelSpec& spec, const Numerics& numerics, int64_t rows, Carver* carver,
           PassBuffers* b) {
  const Widths w = WidthsOf(spec);
  b->x = carver->Take<float>(rows * spec.width);
  b->u = carver->Take<float>(rows * spec.width * 2);
  b->hidden = carver->Take<float>(rows * spec.width);
  b->wide = carver->Take<float>(rows * w.wide);
  b->mixed = carver->Take<float>(rows * w.mixed);
  b->conv = carver->Take<float>(rows * w.conv);
  b->dt = carver->Take<float>(rows * w.heads);
  b->latent = carver->Take<float>(rows * w.latent);
  b->router = carver->Take<float>(rows * w.experts);
  b->slot_weights = carver->Take<float>(rows * w.slots);
  // Fused experts keep their inputs as bytes or bfloat16, and one sum for each token.
  const int64_t share = numerics.fused_experts ? 2 : 1;
  b->gathered = carver->Take<float>(rows * w.slot_input / share);
  b->expert_mid = carver->Take<float>(rows * w.slot_mid / share);
  b->expert_out = carver->Take<float>(rows * (numerics.fused_experts ? w.latent : w.slot_input));
  b->expert_ids = carver->Take<int32_t>(rows * w.slots);
  b->slot_rows = carver->Take<int32_t>(rows * w.slots);
  carver->Take<std::byte>(64);  // a margin
}

uint64_t BufferBytes(const ModelSpec& spec, const Numerics& numerics, int64_t rows) {
  Carver carver(nullptr);
  PassBuffers none;
  Carve(spec, numerics, rows, &carver, &none);
  return carver.bytes();
}

}  // namespace

uint64_t Workspace::Bytes(const ModelSpec& spec, const Numerics& numerics, int64_t rows_max,
                          int threads) {
  return BufferBytes(spec, numerics, rows_max) +
         kernels::Context::ScratchBytes(threads, ScratchFloats(spec, numerics, rows_max),
                                        ActivationBytes(spec, numerics, rows_max));
}

int64_t Workspace::ActivationBytes(const ModelSpec& spec, const Numerics& numerics,
                                   int64_t rows_max) {
  if (numerics.activations != Activations::kNative) return 0;
  const Widths w = WidthsOf(spec);
  const auto bytes = [&](int64_t cols, kernels::Precision precision) {
    return kernels::MatMulActivationBytes(rows_max, cols, precision);
  };
  // One product: of the stream (twice as wide at the MTP head), a block's middle, the latent space.
  const int64_t widest = std::max(spec.mtp.empty() ? spec.width : 2 * spec.width, w.input);
  const int64_t one = std::max(bytes(widest, kernels::Precision::kNative),
                               bytes(widest, kernels::Precision::kNativeWide));
  // Query, key and value share the stream, and may want it in both precisions as whole numbers and
  // as bfloat16, each being of a type of its own.
  const int64_t shared = 2 * (bytes(spec.width, kernels::Precision::kNative) +
                              bytes(spec.width, kernels::Precision::kNativeWide));
  return std::max(one, shared);
}

int64_t Workspace::ScratchFloats(const ModelSpec& spec, const Numerics& numerics,
                                 int64_t rows_max) {
  int64_t floats = kernels::MatMulScratchFloats(rows_max);
  const auto add = [&](const LayerSpec& layer) {
    if (layer.kind == BlockKind::kAttention) {
      floats =
          std::max(floats, kernels::AttentionScratchFloats(ShapeOf(layer.attention, numerics)));
    } else if (layer.kind == BlockKind::kMamba2) {
      const Mamba2Spec& m = layer.mamba2;
      floats = std::max(
          floats, kernels::ScanScratchFloats({m.heads, m.head_dim, m.groups, m.state}));
    }
  };
  for (const LayerSpec& layer : spec.layers) add(layer);
  for (const LayerSpec& layer : spec.mtp) add(layer);
  return floats;
}

Workspace::Workspace(const ModelSpec& spec, const Numerics& numerics, int64_t rows, int threads)
    : rows_max(rows), memory_(AllocateAligned(BufferBytes(spec, numerics, rows))) {
  Carver carver(memory_.get());
  Carve(spec, numerics, rows, &carver, this);
}

Runner::Runner(const Model& model, const Numerics& numerics, ThreadPool* pool, int64_t rows_max)
    : model_(model),
      numerics_(numerics),
      layout_(MakeStateLayout(model.spec, numerics)),
      workspace_(model.spec, numerics, rows_max, pool->threads()),
      context_(pool, Workspace::ScratchFloats(model.spec, numerics, rows_max),
               Workspace::ActivationBytes(model.spec, numerics, rows_max)) {}

namespace {

// Matrices below this are so small a part of a real model's arithmetic that their inputs get twice
// the precision; and small models, which forgive less, get it everywhere but in their experts.
constexpr int64_t kSmallMatrix = int64_t{1} << 20;  // elements

kernels::Precision PrecisionOf(const Numerics& numerics, const Weight& weight) {
  if (numerics.activations != Activations::kNative) return kernels::Precision::kF32;
  return weight.rows * weight.cols < kSmallMatrix ? kernels::Precision::kNativeWide
                                                  : kernels::Precision::kNative;
}

void ObservedMatMul(InputObserver* observer, kernels::Context& context,
                    std::span<const kernels::MatMulJob> jobs) {
  if (observer != nullptr) {
    for (const kernels::MatMulJob& job : jobs) {
      observer->Inputs(*job.weight, job.x, job.x_stride, job.rows);
    }
  }
  kernels::MatMul(context, jobs);
}

}  // namespace

void BlockRun::MatMul(std::span<const kernels::MatMulJob> jobs, bool exact) {
  const StackMemory::Scope scope(&kernels.memory());
  std::pmr::vector<kernels::MatMulJob> all(jobs.begin(), jobs.end(), &kernels.memory());
  for (kernels::MatMulJob& job : all) {
    job.precision = exact ? kernels::Precision::kF32 : PrecisionOf(numerics, *job.weight);
  }
  ObservedMatMul(observer, kernels, all);
}

BlockRun Runner::RunOf(int64_t rows, std::span<const SequenceView> sequences) {
  return {context_,  workspace_, numerics_,
          rows,      sequences,  static_cast<float>(model_.spec.norm_epsilon),
          observer_};
}

Mamba2Place Runner::PlaceOf(size_t layer) const {
  return {layout_.conv_offset[layer], layout_.state_offset[layer], layout_.trial_offset[layer]};
}

void Runner::Replay(std::span<const SequenceView> sequences) {
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const Layer& layer = model_.layers[i];
    if (layer.spec.kind != BlockKind::kMamba2) continue;
    BlockRun run = RunOf(0, sequences);
    Mamba2Recurrence(run, layer.spec.mamba2, layer.mamba2, PlaceOf(i));
  }
}

void Runner::RunLayer(const Layer& layer, int64_t index, bool mtp, int64_t rows,
                      std::span<const SequenceView> sequences) {
  const int64_t width = model_.spec.width;
  const auto at = static_cast<size_t>(index);
  Workspace& w = workspace_;
  if (between_layers_) between_layers_();
  BlockRun run = RunOf(rows, sequences);
  kernels::RmsNorm(context_, w.x, width, layer.norm.data(), run.epsilon, rows, width, w.u, width);
  switch (layer.spec.kind) {
    case BlockKind::kMamba2:
      Mamba2Forward(run, layer.spec.mamba2, layer.mamba2, PlaceOf(at), width);
      break;
    case BlockKind::kAttention:
      AttentionForward(run, layer.spec.attention, layer.attention,
                       mtp ? layout_.mtp_page_offset[at] : layout_.page_offset[at], mtp, width);
      break;
    case BlockKind::kMlp:
      MlpForward(run, layer.spec.mlp, layer.mlp, width);
      break;
    case BlockKind::kMoe:
      MoeForward(run, layer.spec.moe, layer.moe, width);
      break;
  }
}

void Runner::ForwardLayer(int64_t index, int64_t rows, std::span<const SequenceView> sequences) {
  RunLayer(model_.layers[static_cast<size_t>(index)], index, false, rows, sequences);
}

void Runner::Forward(const Batch& batch) {
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  const int64_t width = model_.spec.width;
  LODE_CHECK(rows <= workspace_.rows_max);
  EmbedForward(context_, model_.embedding, batch.tokens, workspace_.x, width);
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    RunLayer(model_.layers[i], static_cast<int64_t>(i), false, rows, batch.sequences);
  }
  kernels::RmsNorm(context_, workspace_.x, width, model_.final_norm.data(),
                   static_cast<float>(model_.spec.norm_epsilon), rows, width, workspace_.hidden,
                   width);
  Logits(batch);
}

void Runner::MtpForward(const float* hidden, const Batch& batch) {
  const auto rows = static_cast<int64_t>(batch.tokens.size());
  const int64_t width = model_.spec.width;
  const auto epsilon = static_cast<float>(model_.spec.norm_epsilon);
  const MtpHead& head = model_.mtp;
  LODE_CHECK(rows <= workspace_.rows_max);
  LODE_CHECK(!head.layers.empty());
  Workspace& w = workspace_;
  EmbedForward(context_, model_.embedding, batch.tokens, w.x, width);
  // The embedding half comes first.
  kernels::RmsNorm(context_, w.x, width, head.embedding_norm.data(), epsilon, rows, width, w.u,
                   2 * width);
  kernels::RmsNorm(context_, hidden, width, head.hidden_norm.data(), epsilon, rows, width,
                   w.u + width, 2 * width);
  if (numerics_.activations == Activations::kBF16) {
    kernels::RoundToBF16(context_, w.u, rows * 2 * width);
  }
  const kernels::MatMulJob join = {&head.projection,
                                   w.u,
                                   2 * width,
                                   w.x,
                                   width,
                                   rows,
                                   kernels::Epilogue::kStore,
                                   PrecisionOf(numerics_, head.projection)};
  ObservedMatMul(observer_, context_, {&join, 1});
  for (size_t i = 0; i < head.layers.size(); ++i) {
    RunLayer(head.layers[i], static_cast<int64_t>(i), true, rows, batch.sequences);
  }
  kernels::RmsNorm(context_, w.x, width, head.final_norm.data(), epsilon, rows, width, w.hidden,
                   width);
  Logits(batch);
}

void Runner::Logits(const Batch& batch) {
  const int64_t width = model_.spec.width;
  const auto rows = static_cast<int64_t>(batch.logit_rows.size());
  if (rows == 0) return;
  if (between_layers_) between_layers_();
  Workspace& w = workspace_;
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(w.u + i * width, w.hidden + batch.logit_rows[static_cast<size_t>(i)] * width,
                static_cast<size_t>(width) * sizeof(float));
  }
  HeadOfU(rows, batch.logits);
}

void Runner::Head(const float* hidden, int64_t rows, float* logits) {
  LODE_CHECK(rows <= workspace_.rows_max);
  if (rows == 0) return;
  if (between_layers_) between_layers_();
  std::memcpy(workspace_.u, hidden,
              static_cast<size_t>(rows * model_.spec.width) * sizeof(float));
  HeadOfU(rows, logits);
}

// Of rows that lie in work.u.
void Runner::HeadOfU(int64_t rows, float* logits) {
  const int64_t width = model_.spec.width;
  Workspace& w = workspace_;
  if (numerics_.activations == Activations::kBF16) {
    kernels::RoundToBF16(context_, w.u, rows * width);
  }
  // Errors of the head's inputs meet the logits directly, and for few rows memory is the limit
  // anyway.
  const bool native = numerics_.activations == Activations::kNative;
  const kernels::MatMulJob job = {
      &model_.head,
      w.u,
      width,
      logits,
      model_.spec.vocabulary,
      rows,
      kernels::Epilogue::kStore,
      native ? kernels::Precision::kNativeWide : kernels::Precision::kF32};
  ObservedMatMul(observer_, context_, {&job, 1});
}

}  // namespace lode::model

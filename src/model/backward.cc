#include "model/backward.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "model/backward_run.h"

namespace lode::model {
namespace {

constexpr int64_t kLossRows = 256;  // whose logits are in memory at once, at most

// The largest of what layers need.
struct Sizes {
  int64_t wide = 0, mixed = 0, conv = 0, heads = 0, latent = 0, experts = 0, top_k = 0;
  int64_t slot_input = 0, slot_mid = 0, groups = 0, shared = 0, scratch = 0;
  int64_t turned = 0;        // floats of all dy^T of one call of Linear
  uint64_t packed = 0;       // bytes of all inputs in panels
  int64_t product_rows = 0;  // of a product: batch rows, or outputs of a matrix
};

class SizesOf {
 public:
  SizesOf(const ModelSpec& spec, int64_t rows, int64_t sequences)
      : rows_(rows), sequences_(sequences) {
    Product(spec.width, spec.vocabulary, std::min(rows, kLossRows));
    for (const LayerSpec& layer : spec.layers) Layer(layer, spec.width);
  }
  const Sizes& sizes() const { return s_; }

 private:
  static void Raise(int64_t* at, int64_t value) { *at = std::max(*at, value); }

  void Product(int64_t inputs, int64_t outputs, int64_t rows) {
    Raise(&s_.turned, outputs * rows);
    s_.packed = std::max(s_.packed, kernels::PackedMatrixBytes(inputs, rows, tensor::DType::kF32));
    Raise(&s_.product_rows, std::max(outputs, rows));
  }

  void Layer(const LayerSpec& layer, int64_t width) {
    switch (layer.kind) {
      case BlockKind::kMamba2: {
        const Mamba2Spec& m = layer.mamba2;
        const kernels::ScanShape shape = {m.heads, m.head_dim, m.groups, m.state};
        Raise(&s_.wide, m.projection());
        Raise(&s_.mixed, m.inner());
        Raise(&s_.conv, m.conv_dim());
        Raise(&s_.heads, m.heads);
        Raise(&s_.groups, m.groups);
        Raise(&s_.shared, kernels::ScanBackwardSharedFloats(shape, sequences_));
        Raise(&s_.scratch, std::max(m.inner(), kernels::ScanBackwardScratchFloats(shape, rows_)));
        Product(m.inner(), width, rows_);
        Product(width, m.projection(), rows_);
        break;
      }
      case BlockKind::kAttention: {
        const AttentionSpec& a = layer.attention;
        Raise(&s_.wide, a.q_width() + 2 * a.kv_width());
        Raise(&s_.mixed, a.q_width());
        Raise(&s_.scratch,
              kernels::AttentionBackwardScratchFloats(
                  {a.heads, a.kv_heads, a.head_dim, kernels::KvType::kF32}, rows_));
        Product(a.q_width(), width, rows_);
        Product(width, std::max(a.q_width(), a.kv_width()), rows_);
        break;
      }
      case BlockKind::kMlp:
        Raise(&s_.wide, layer.mlp.width);
        Product(layer.mlp.width, width, rows_);
        Product(width, layer.mlp.width, rows_);
        break;
      case BlockKind::kMoe:
        Moe(layer.moe, width);
        break;
    }
  }

  void Moe(const MoeSpec& e, int64_t width) {
    const int64_t input = e.latent > 0 ? e.latent : width, slots = rows_ * e.top_k;
    Raise(&s_.wide, e.shared_width);
    Raise(&s_.latent, input);
    Raise(&s_.experts, e.experts);
    Raise(&s_.top_k, e.top_k);
    Raise(&s_.slot_input, e.top_k * input);
    Raise(&s_.slot_mid, e.top_k * e.width);
    Product(width, e.experts, rows_);
    Product(width, std::max(input, e.shared_width), rows_);
    Product(std::max(input, e.shared_width), width, rows_);
    // All experts at once: their rows together, each one's padded to a record.
    const auto experts = [&](int64_t inputs, int64_t outputs) {
      Raise(&s_.turned, outputs * slots + 16 * e.experts);
      const int64_t padded = slots + kernels::kRecordCols * e.experts;
      const uint64_t bytes = kernels::PackedMatrixBytes(inputs, padded, tensor::DType::kF32);
      s_.packed = std::max(s_.packed, bytes + 64 * static_cast<uint64_t>(e.experts));
      Raise(&s_.product_rows, std::max(outputs, rows_));
    };
    experts(e.width, input);
    experts(input, e.width);
  }

  Sizes s_;
  int64_t rows_, sequences_;
};

void Carve(const ModelSpec& spec, const Sizes& s, int64_t rows, Carver* carver,
           BackwardBuffers* b) {
  b->dx = carver->Take<float>(rows * spec.width);
  b->du = carver->Take<float>(rows * spec.width);
  b->dwide = carver->Take<float>(rows * s.wide);
  b->dmixed = carver->Take<float>(rows * s.mixed);
  b->dconv = carver->Take<float>(rows * s.conv);
  b->ddt = carver->Take<float>(rows * s.heads);
  b->da = carver->Take<float>(s.heads);
  b->latent = carver->Take<float>(rows * s.latent);
  b->router = carver->Take<float>(rows * s.experts);
  b->slots = carver->Take<float>(rows * s.top_k);
  b->gathered = carver->Take<float>(rows * s.slot_input);
  b->mid = carver->Take<float>(rows * s.slot_mid);
  b->out = carver->Take<float>(rows * s.slot_input);
  b->inverse = carver->Take<float>(rows * std::max<int64_t>(1, s.groups));
  b->shared = carver->Take<float>(s.shared);
  b->turned = carver->Take<float>(s.turned);
  b->packed = carver->Take<std::byte>(static_cast<int64_t>(s.packed));
  b->logits = carver->Take<float>(std::min(rows, kLossRows) * spec.vocabulary);
  b->hidden = carver->Take<float>(std::min(rows, kLossRows) * spec.width);
  b->packed_bytes = s.packed;
  b->turned_floats = s.turned;
}

uint64_t BufferBytes(const ModelSpec& spec, const Sizes& s, int64_t rows) {
  Carver carver(nullptr);
  BackwardBuffers none;
  Carve(spec, s, rows, &carver, &none);
  return carver.bytes();
}

int64_t ScratchFloats(const Sizes& s) {
  return std::max(s.scratch, kernels::MatMulScratchFloats(s.product_rows));
}

}  // namespace

struct Backward::Space {
  Space(Runner* runner, const Sizes& s, int64_t rows)
      : context(&runner->kernels().pool(), ScratchFloats(s)),
        memory(AllocateAligned(BufferBytes(runner->model().spec, s, rows))),
        rows_max(rows) {
    Carver carver(memory.get());
    Carve(runner->model().spec, s, rows, &carver, &buffers);
  }

  kernels::Context context;
  AlignedMemory memory;
  BackwardBuffers buffers;
  int64_t rows_max;
};

void BackwardRun::Linear(std::span<const LinearGrad> products) {
  const StackMemory::Scope scope(&kernels.memory());
  std::pmr::vector<Weight> inputs(products.size(), &kernels.memory());
  std::pmr::vector<kernels::MatMulJob> jobs(&kernels.memory());
  float* turned = work.turned;
  std::byte* packed = work.packed;
  for (size_t i = 0; i < products.size(); ++i) {
    const LinearGrad& p = products[i];
    if (p.dx != nullptr) {
      jobs.push_back({&p.grad->turned, p.dy, p.dy_stride, p.dx, p.dx_stride, p.rows,
                      p.add ? kernels::Epilogue::kAdd : kernels::Epilogue::kStore,
                      kernels::Precision::kNative});
    }
    if (p.grad->dw == nullptr) continue;
    // The batch is what is summed over: dw = dy^T x has `outputs` rows, and x is the weight.
    kernels::Transpose(kernels, p.dy, p.dy_stride, p.rows, p.outputs, turned, p.rows);
    inputs[i] = kernels::PackTransposed(kernels, p.x, p.x_stride, p.rows, p.inputs,
                                        tensor::DType::kF32, packed);
    jobs.push_back({&inputs[i], turned, p.rows, p.grad->dw, p.inputs, p.outputs,
                    kernels::Epilogue::kAdd, kernels::Precision::kNative});
    turned += p.outputs * p.rows;
    packed += Align(kernels::PackedMatrixBytes(p.inputs, p.rows, tensor::DType::kF32));
    LODE_CHECK(turned <= work.turned + work.turned_floats);
    LODE_CHECK(packed <= work.packed + Align(work.packed_bytes));
  }
  kernels::MatMul(kernels, jobs);
}

uint64_t Backward::Bytes(const ModelSpec& spec, int64_t rows_max, int64_t sequences_max,
                         int threads) {
  const SizesOf sizes(spec, rows_max, sequences_max);
  return BufferBytes(spec, sizes.sizes(), rows_max) +
         kernels::Context::ScratchBytes(threads, ScratchFloats(sizes.sizes()));
}

Backward::Backward(Runner* runner, int64_t rows_max, int64_t sequences_max)
    : runner_(runner),
      space_(std::make_unique<Space>(
          runner, SizesOf(runner->model().spec, rows_max, sequences_max).sizes(), rows_max)) {}

Backward::~Backward() = default;

void Backward::Loss(std::span<const int32_t> rows, const int32_t* targets,
                    const float* coefficients, int64_t all_rows, ModelGrad* grad,
                    float* log_probabilities, float* entropies) {
  const ModelSpec& spec = runner_->model().spec;
  BackwardBuffers& w = space_->buffers;
  const int64_t width = spec.width;
  LODE_CHECK(all_rows <= space_->rows_max);
  std::fill_n(w.dx, all_rows * width, 0.0f);
  const auto floats = static_cast<size_t>(width) * sizeof(float);
  const LayerTape none;
  const BackwardOptions options;
  BackwardRun run = {space_->context, w, none, options, all_rows, width, {}, 0.0f, {}};
  const int64_t piece = std::min(kLossRows, space_->rows_max);
  for (int64_t begin = 0; begin < std::ssize(rows); begin += piece) {
    const int64_t count = std::min(piece, std::ssize(rows) - begin);
    LogitsOf(rows.subspan(static_cast<size_t>(begin), static_cast<size_t>(count)));
    kernels::CrossEntropy(space_->context, w.logits, count, spec.vocabulary, targets + begin,
                          coefficients + begin, log_probabilities + begin,
                          entropies == nullptr ? nullptr : entropies + begin);
    // du is free until the layers' turn.
    run.Linear({w.hidden, width, w.logits, spec.vocabulary, count, width,
                spec.vocabulary, &grad->head, w.du, width});
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(w.dx + rows[static_cast<size_t>(begin + i)] * width, w.du + i * width, floats);
    }
  }
}

void Backward::LogitsOf(std::span<const int32_t> rows) {
  const int64_t width = runner_->model().spec.width;
  const BackwardBuffers& w = space_->buffers;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(w.hidden + static_cast<int64_t>(i) * width,
                runner_->workspace().hidden + rows[i] * width,
                static_cast<size_t>(width) * sizeof(float));
  }
  runner_->Head(w.hidden, std::ssize(rows), w.logits);
}

void Backward::LogProbabilities(std::span<const int32_t> rows, const int32_t* targets,
                                float* log_probabilities) {
  const auto piece = static_cast<size_t>(std::min(kLossRows, space_->rows_max));
  const std::vector<float> none(piece, 0.0f);
  for (size_t begin = 0; begin < rows.size(); begin += piece) {
    const size_t count = std::min(piece, rows.size() - begin);
    LogitsOf(rows.subspan(begin, count));
    kernels::CrossEntropy(space_->context, space_->buffers.logits, static_cast<int64_t>(count),
                          runner_->model().spec.vocabulary, targets + begin, none.data(),
                          log_probabilities + begin, nullptr);
  }
}

double Backward::Run(std::span<const int32_t> tokens, std::span<const SequenceView> sequences,
                     Tape* tape, const BackwardOptions& options, ModelGrad* grad) {
  const Model& model = runner_->model();
  BackwardBuffers& w = space_->buffers;
  kernels::Context& context = space_->context;
  const int64_t width = model.spec.width;
  const auto rows = static_cast<int64_t>(tokens.size());
  const auto epsilon = static_cast<float>(model.spec.norm_epsilon);
  std::vector<kernels::RowRange> ranges;
  for (const SequenceView& s : sequences) ranges.push_back(s.rows);

  // Of the final norm: dx holds what is felt of its output, and becomes what is felt of the stream.
  std::copy_n(w.dx, rows * width, w.du);
  std::fill_n(w.dx, rows * width, 0.0f);
  kernels::RmsNormBackward(context, runner_->workspace().x, width, model.final_norm.data(), epsilon,
                           w.du, width, rows, width, w.dx, width, grad->final_norm, w.inverse);
  double balance = 0.0;
  for (int64_t i = std::ssize(model.layers) - 1; i >= 0; --i) {
    const auto at = static_cast<size_t>(i);
    const model::Layer& layer = model.layers[at];
    const LayerTape& kept = tape->Layer(i, sequences);
    const LayerGrad& own = grad->layers[at];
    BackwardRun run = {context, w,      kept,    options, rows,
                       width,   ranges, epsilon, runner_->numerics().kv};
    if (options.loads != nullptr) run.loads = &(*options.loads)[at];
    switch (layer.spec.kind) {
      case BlockKind::kMamba2:
        Mamba2Backward(run, layer.spec.mamba2, layer.mamba2, own.mamba2);
        break;
      case BlockKind::kAttention:
        AttentionBackward(run, layer.spec.attention, own.attention);
        break;
      case BlockKind::kMlp:
        MlpBackward(run, layer.spec.mlp, own.mlp);
        break;
      case BlockKind::kMoe:
        MoeBackward(run, layer.spec.moe, own.moe);
        break;
    }
    balance += run.balance_loss;
    kernels::RmsNormBackward(context, kept.x, width, layer.norm.data(), epsilon, w.du, width, rows,
                             width, w.dx, width, own.norm, w.inverse);
  }
  kernels::EmbedBackward(context, tokens, w.dx, width, width, grad->embedding);
  return balance;
}

}  // namespace lode::model

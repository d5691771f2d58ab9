// The routed experts of a layer as four regions of work (kernels/ops.h has the contract):
//   1  tokens split   quantize each token once; clear y
//   2  experts split  gather the tokens of each expert as tiles
//   3  panels split   up; the epilogue makes 32 sums one block of the second product's input, in
//   place 4  columns split  down; a thread owns columns of y and walks the experts in ascending
//   order, so that
//                     the weighted sum has one order at every batch size, without buffers
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/matmul_parts.h"
#include "kernels/ops.h"

namespace lode::kernels {
namespace {

constexpr int64_t kAloneTokens = 4;  // fewer are prepared by the caller, without waking anyone

PanelFormat CommonFormat(std::span<const Weight> weights) {
  const PanelFormat format = PanelFormatOf(weights.front());
  for (const Weight& w : weights) {
    if (PanelFormatOf(w) != format) return PanelFormat::kNone;
  }
  return format;
}

// Bytes of one token's input of `cols` columns.
int64_t TokenBytes(PanelFormat format, int64_t cols) {
  return RecordsOf(cols) * (IsInteger(format) ? IntBlockBytes(false) : kRecordCols * 2);
}

// Copies token-wise blocks (tiles of one) into token j of a tile of m.
void CopyIntoTile(const uint8_t* token, int64_t blocks, int64_t m, int64_t j, uint8_t* tile) {
  for (int64_t b = 0; b < blocks; ++b) {
    std::memcpy(tile + j * 32, token, 32);
    for (int64_t i = 0; i < 4; ++i) {  // s, n, n0, f
      std::memcpy(tile + m * 32 + (i * m + j) * 4, token + 32 + i * 4, 4);
    }
    token += IntBlockBytes(false);
    tile += m * IntBlockBytes(false);
  }
}

// Calls body(first token, tokens of the tile, index) for each tile of `tokens`.
template <class Body>
void ForEachTile(int64_t tokens, const Body& body) {
  const int64_t tiles = TilesOf(tokens, kIntTile);
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t begin = TileBegin(tokens, tiles, t);
    body(begin, TileBegin(tokens, tiles, t + 1) - begin);
  }
}

class ExpertRun {
 public:
  ExpertRun(Context* context, const ExpertsJob& job)
      : context_(*context),
        job_(job),
        kernels_(PanelKernelsFor(ActiveIsa())),
        up_format_(CommonFormat(job.up)),
        down_format_(CommonFormat(job.down)),
        width_(job.up.front().rows),
        input_bytes_(TokenBytes(up_format_, job.up.front().cols)),
        mid_bytes_(TokenBytes(down_format_, width_)),
        used_(&context->memory()),
        begin_(&context->memory()),
        token_(&context->memory()),
        weight_(&context->memory()) {}

  void Run() {
    Group();
    Quantize();
    Gather();
    Up();
    Down();
  }

 private:
  void Group();
  void Quantize();
  void Gather();
  void Up();
  void Down();

  uint8_t* Token(int64_t t) {
    return reinterpret_cast<uint8_t*>(context_.activations()) + t * input_bytes_;
  }
  int64_t Count(int64_t e) const { return begin_[Index(e) + 1] - begin_[Index(e)]; }
  static size_t Index(int64_t i) { return static_cast<size_t>(i); }
  // The first expert's input. A single token needs no gathering: it is a tile of its own.
  PanelInput Input(PanelFormat format, const uint8_t* data, int64_t token_bytes, int64_t count) {
    PanelInput input;
    input.tokens = count;
    if (IsInteger(format)) {
      input.tiles = data;
    } else {
      input.rows = reinterpret_cast<const uint16_t*>(data);
      input.stride = token_bytes / 2;
    }
    return input;
  }
  const uint8_t* Gathered(int64_t e) {
    return Count(e) == 1 ? Token(token_[Index(begin_[Index(e)])])
                         : job_.gathered + begin_[Index(e)] * input_bytes_;
  }
  void StoreMid(int64_t e, int64_t panel, float* sums);

  Context& context_;
  const ExpertsJob& job_;
  const PanelKernels& kernels_;
  PanelFormat up_format_, down_format_;
  int64_t width_, input_bytes_, mid_bytes_;
  std::pmr::vector<int64_t> used_;   // experts with tokens, ascending
  std::pmr::vector<int64_t> begin_;  // slots of an expert, by expert
  std::pmr::vector<int32_t> token_;  // of a slot, ascending inside an expert
  std::pmr::vector<float> weight_;   // of a slot
};

void ExpertRun::Group() {
  const auto experts = static_cast<int64_t>(job_.up.size());
  const int64_t slots = job_.rows * job_.top_k;
  begin_.assign(Index(experts) + 1, 0);
  for (int64_t i = 0; i < slots; ++i) ++begin_[Index(job_.expert_ids[i]) + 1];
  for (int64_t e = 0; e < experts; ++e) {
    if (begin_[Index(e) + 1] > 0) used_.push_back(e);
    begin_[Index(e) + 1] += begin_[Index(e)];
  }
  token_.resize(Index(slots));
  weight_.resize(Index(slots));
  std::pmr::vector<int64_t> next(begin_.begin(), begin_.end() - 1, &context_.memory());
  for (int64_t i = 0; i < slots; ++i) {
    const auto at = Index(next[Index(job_.expert_ids[i])]++);
    token_[at] = static_cast<int32_t>(i / job_.top_k);
    weight_[at] = job_.weights[i];
  }
}

void ExpertRun::Quantize() {
  const int64_t cols = job_.up.front().cols;
  const int64_t outputs = job_.down.front().rows;
  LODE_CHECK(job_.rows * input_bytes_ <= context_.activation_bytes());
  const auto run = [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* x = job_.x + t * job_.x_stride;
      if (IsInteger(up_format_)) {
        QuantizeToken(x, cols, false, 1, 0, Token(t));
      } else {
        ToBF16Row(x, cols, input_bytes_ / 2, reinterpret_cast<uint16_t*>(Token(t)), nullptr);
      }
      std::fill_n(job_.y + t * job_.y_stride, outputs, 0.0f);
    }
  };
  if (job_.rows <= kAloneTokens) {
    run(0, job_.rows, 0);
  } else {
    context_.pool().ParallelFor(job_.rows, 1, run);
  }
}

void ExpertRun::Gather() {
  const auto run = [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t e = used_[Index(i)];
      const int64_t count = Count(e);
      if (count == 1) continue;
      const int32_t* tokens = &token_[Index(begin_[Index(e)])];
      uint8_t* target = job_.gathered + begin_[Index(e)] * input_bytes_;
      if (!IsInteger(up_format_)) {
        for (int64_t j = 0; j < count; ++j) {
          std::memcpy(target + j * input_bytes_, Token(tokens[j]), Index(input_bytes_));
        }
        continue;
      }
      const int64_t blocks = input_bytes_ / IntBlockBytes(false);
      ForEachTile(count, [&](int64_t first, int64_t m) {
        for (int64_t j = 0; j < m; ++j) {
          CopyIntoTile(Token(tokens[first + j]), blocks, m, j, target + first * input_bytes_);
        }
      });
    }
  };
  const auto used = static_cast<int64_t>(used_.size());
  if (job_.rows <= kAloneTokens) {
    run(0, used, 0);
  } else {
    context_.pool().ParallelFor(used, 1, run);
  }
}

// 32 sums of each token become one block of the second product's input.
void ExpertRun::StoreMid(int64_t e, int64_t panel, float* sums) {
  const Weight& up = job_.up[Index(e)];
  const int64_t row0 = panel * kPanelRows;
  const int64_t real = std::min(kPanelRows, width_ - row0);
  float scales[kPanelRows] = {};
  if (up.row_scales != nullptr) std::copy_n(up.row_scales + row0, real, scales);
  const float* row_scales = up.row_scales != nullptr ? scales : nullptr;
  uint8_t* mid = job_.mid + begin_[Index(e)] * mid_bytes_;
  ForEachTile(Count(e), [&](int64_t first, int64_t m) {
    for (int64_t j = 0; j < m; ++j) {
      float* token = sums + (first + j) * kPanelRows;
      ReluSquaredScaled(token, row_scales, up.scale);
      if (IsInteger(down_format_)) {
        QuantizeToken(token, kPanelRows, false, m, j,
                      mid + first * mid_bytes_ + panel * m * IntBlockBytes(false));
      } else {
        ToBF16Row(token, kPanelRows, kPanelRows,
                  reinterpret_cast<uint16_t*>(mid + (first + j) * mid_bytes_) + row0, nullptr);
      }
    }
  });
}

void ExpertRun::Up() {
  const int64_t panels = PanelsOf(width_);
  const int64_t items = static_cast<int64_t>(used_.size()) * panels;
  context_.pool().ParallelFor(items, 1, [&](int64_t begin, int64_t end, int thread) {
    float* scratch = context_.scratch(thread);
    float* sums = scratch + kPanelScratchFloats;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t e = used_[Index(i / panels)];
      RunPanelProduct(kernels_, job_.up[Index(e)], up_format_, i % panels,
                      Input(up_format_, Gathered(e), input_bytes_, Count(e)), scratch, sums);
      StoreMid(e, i % panels, sums);
    }
  });
}

void ExpertRun::Down() {
  const int64_t outputs = job_.down.front().rows;
  context_.pool().ParallelFor(PanelsOf(outputs), 1, [&](int64_t begin, int64_t end, int thread) {
    float* scratch = context_.scratch(thread);
    float* sums = scratch + kPanelScratchFloats;
    for (const int64_t e : used_) {
      const Weight& down = job_.down[Index(e)];
      const PanelInput input =
          Input(down_format_, job_.mid + begin_[Index(e)] * mid_bytes_, mid_bytes_, Count(e));
      for (int64_t panel = begin; panel < end; ++panel) {
        RunPanelProduct(kernels_, down, down_format_, panel, input, scratch, sums);
        const int64_t row0 = panel * kPanelRows;
        const int64_t count = std::min(kPanelRows, outputs - row0);
        const float* scales = down.row_scales != nullptr ? down.row_scales + row0 : nullptr;
        for (int64_t j = 0; j < Count(e); ++j) {
          const auto slot = Index(begin_[Index(e)] + j);
          AddWeighted(sums + j * kPanelRows, scales, down.scale, weight_[slot], count,
                      job_.y + token_[slot] * job_.y_stride + row0);
        }
      }
    }
    if (job_.residual == nullptr) return;
    const int64_t row0 = begin * kPanelRows;
    const int64_t count = std::min(end * kPanelRows, outputs) - row0;
    for (int64_t t = 0; t < job_.rows; ++t) {
      AddWeighted(job_.y + t * job_.y_stride + row0, nullptr, 1.0f, 1.0f, count,
                  job_.residual + t * job_.y_stride + row0);
    }
  });
}

}  // namespace

bool CanRunExperts(std::span<const Weight> up, std::span<const Weight> down) {
  if (up.empty()) return false;
  const PanelFormat first = CommonFormat(up), second = CommonFormat(down);
  if (first == PanelFormat::kNone || second == PanelFormat::kNone) return false;
  if (TakesFloats(first) || TakesFloats(second)) return false;
  // The rooms for inputs are sized in floats: very narrow experts would not fit their padding.
  const auto fits = [](PanelFormat format, int64_t cols) {
    return TokenBytes(format, cols) <= cols * 2;
  };
  return fits(first, up.front().cols) && fits(second, down.front().cols);
}

void RoutedExperts(Context& context, const ExpertsJob& job) {
  LODE_CHECK(CanRunExperts(job.up, job.down));
  const StackMemory::Scope scope(&context.memory());
  ExpertRun(&context, job).Run();
}

}  // namespace lode::kernels

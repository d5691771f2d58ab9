// Matrices of a training step as panels (kernels/panel.h), as they lie or turned round, so that the
// products of the gradients are the same kernel as those of the forward pass.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "kernels/grad.h"
#include "tensor/scalar.h"

namespace lode::kernels {
namespace {

constexpr int64_t kTile = 32;  // columns and rows of a block that is turned in the cache

// A matrix in panels: `outputs` rows of `inputs` columns.
class PanelWriter {
 public:
  PanelWriter(int64_t outputs, int64_t inputs, tensor::DType type, std::byte* out)
      : outputs_(outputs), inputs_(inputs), records_(RecordsOf(inputs)), type_(type), out_(out) {
    LODE_CHECK(type == tensor::DType::kF32 || type == tensor::DType::kBF16);
  }

  int64_t panels() const { return PanelsOf(outputs_); }

  // One panel; at(output, input) is asked for what lies inside the matrix.
  template <class At>
  void Write(int64_t panel, const At& at) const {
    const int64_t first = panel * kPanelRows, padded = records_ * kRecordCols;
    const int64_t rows = std::min(kPanelRows, outputs_ - first);
    const auto value = [&](int64_t row, int64_t column) {
      return row < rows && column < inputs_ ? at(first + row, column) : 0.0f;
    };
    if (type_ == tensor::DType::kF32) {
      auto* to = reinterpret_cast<float*>(out_) + panel * padded * kPanelRows;
      for (int64_t k = 0; k < padded; ++k) {
        for (int64_t r = 0; r < kPanelRows; ++r) *to++ = value(r, k);
      }
      return;
    }
    auto* to = reinterpret_cast<uint16_t*>(out_) + panel * padded * kPanelRows;
    for (int64_t k = 0; k < padded; k += 2) {
      for (int64_t r = 0; r < kPanelRows; ++r) {
        *to++ = tensor::FloatToBf16(value(r, k));
        *to++ = tensor::FloatToBf16(value(r, k + 1));
      }
    }
  }

  // The same of m^T, m [inputs, outputs] with stride: whole panels are copied row by row.
  void WriteTurned(int64_t panel, const float* m, int64_t stride) const {
    const int64_t first = panel * kPanelRows;
    if (type_ != tensor::DType::kF32 || first + kPanelRows > outputs_) {
      Write(panel, [&](int64_t output, int64_t input) { return m[input * stride + output]; });
      return;
    }
    const int64_t padded = records_ * kRecordCols;
    auto* to = reinterpret_cast<float*>(out_) + panel * padded * kPanelRows;
    for (int64_t k = 0; k < inputs_; ++k, to += kPanelRows) {
      std::memcpy(to, m + k * stride + first, kPanelRows * sizeof(float));
    }
    std::fill_n(to, (padded - inputs_) * kPanelRows, 0.0f);
  }

  Weight weight() const {
    Weight w;
    w.dtype = type_;
    w.rows = outputs_;
    w.cols = inputs_;
    w.packed = out_;
    return w;
  }

 private:
  int64_t outputs_, inputs_, records_;
  tensor::DType type_;
  std::byte* out_;
};

}  // namespace

uint64_t PackedMatrixBytes(int64_t outputs, int64_t inputs, tensor::DType type) {
  Weight w;
  w.dtype = type;
  w.rows = outputs;
  w.cols = inputs;
  return static_cast<uint64_t>(PackedBytes(w));
}

Weight PackTransposed(Context& context, const float* m, int64_t stride, int64_t rows, int64_t cols,
                      tensor::DType type, std::byte* out) {
  const PanelWriter writer(cols, rows, type, out);
  context.pool().ParallelFor(writer.panels(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) writer.WriteTurned(p, m, stride);
  });
  return writer.weight();
}

Weight PackRows(Context& context, const float* m, int64_t stride, int64_t rows, int64_t cols,
                tensor::DType type, std::byte* out) {
  const PanelWriter writer(rows, cols, type, out);
  context.pool().ParallelFor(writer.panels(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) {
      writer.Write(p, [&](int64_t output, int64_t input) { return m[output * stride + input]; });
    }
  });
  return writer.weight();
}

void Transpose(Context& context, const float* x, int64_t x_stride, int64_t rows, int64_t cols,
               float* y, int64_t y_stride) {
  context.pool().ParallelFor((cols + kTile - 1) / kTile, 1, [&](int64_t begin, int64_t end, int) {
    const int64_t last = std::min(cols, end * kTile);
    for (int64_t t = 0; t < rows; t += kTile) {
      const int64_t until = std::min(rows, t + kTile);
      for (int64_t c = begin * kTile; c < last; ++c) {
        for (int64_t i = t; i < until; ++i) y[c * y_stride + i] = x[i * x_stride + c];
      }
    }
  });
}

}  // namespace lode::kernels

// Token embedding: a row of a matrix, decoded.
#include "model/forward.h"

namespace lode::model {

void EmbedForward(kernels::Context& kernels, const Weight& embedding,
                  std::span<const int32_t> tokens, float* x, int64_t x_stride) {
  kernels.pool().ParallelFor(
      static_cast<int64_t>(tokens.size()), 8, [&](int64_t begin, int64_t end, int) {
        for (int64_t t = begin; t < end; ++t) {
          const int64_t row = tokens[static_cast<size_t>(t)];
          float* target = x + t * x_stride;
          kernels::DecodeColumns(embedding, row, 0, embedding.cols, target);
          const float scale =
              embedding.row_scales != nullptr ? embedding.row_scales[row] : embedding.scale;
          if (scale != 1.0f) {
            for (int64_t i = 0; i < embedding.cols; ++i) target[i] *= scale;
          }
        }
      });
}

}  // namespace lode::model

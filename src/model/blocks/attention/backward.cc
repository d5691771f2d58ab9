#include "model/backward_run.h"

namespace lode::model {

void AttentionBackward(BackwardRun& run, const AttentionSpec& spec, const AttentionGrad& grad) {
  const LayerTape& t = run.tape;
  BackwardBuffers& w = run.work;
  const int64_t q_width = spec.q_width(), kv_width = spec.kv_width();
  const int64_t stride = q_width + 2 * kv_width;
  run.Linear({t.mixed, q_width, w.dx, run.width, run.rows, q_width, run.width, &grad.out, w.dmixed,
              q_width});
  const float* k = t.wide + q_width;
  float* dk = w.dwide + q_width;
  const kernels::AttentionGradients gradients = {w.dwide, dk, dk + kv_width, stride, stride};
  kernels::AttentionBackward(run.kernels, {spec.heads, spec.kv_heads, spec.head_dim, run.kv},
                             run.sequences, t.wide, stride, k, k + kv_width, stride, t.mixed,
                             q_width, w.dmixed, q_width, gradients);
  const auto back = [&](const float* dy, int64_t outputs, const MatrixGrad& matrix, bool add) {
    run.Linear({t.u, run.width, dy, stride, run.rows, run.width, outputs, &matrix, w.du, run.width,
                add});
  };
  back(w.dwide, q_width, grad.query, false);
  back(dk, kv_width, grad.key, true);
  back(dk + kv_width, kv_width, grad.value, true);
}

}  // namespace lode::model

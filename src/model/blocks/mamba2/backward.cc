#include <algorithm>

#include "model/backward_run.h"

namespace lode::model {

void Mamba2Backward(BackwardRun& run, const Mamba2Spec& spec, const Mamba2Weights& weights,
                    const Mamba2Grad& grad) {
  const LayerTape& t = run.tape;
  BackwardBuffers& w = run.work;
  const int64_t inner = spec.inner(), conv_dim = spec.conv_dim(), stride = spec.projection();
  const int64_t shared = spec.groups * spec.state;
  run.Linear({t.mixed, inner, w.dx, run.width, run.rows, inner, run.width, &grad.out, w.dmixed,
              inner});
  kernels::GatedRmsNormBackward(run.kernels, t.scanned, inner, t.wide, stride, weights.norm.data(),
                                run.epsilon, run.rows, inner, spec.groups, w.dmixed, inner, w.dwide,
                                stride, grad.norm, w.inverse);
  std::fill_n(w.da, spec.heads, 0.0f);
  const float* b = t.conv + inner;
  kernels::SelectiveScanBackward(
      run.kernels, {spec.heads, spec.head_dim, spec.groups, spec.state}, run.sequences, t.conv, b,
      b + shared, conv_dim, t.dt, spec.heads, weights.a.data(), weights.d.data(), w.dmixed, inner,
      w.shared,
      {w.dconv, w.dconv + inner, w.dconv + inner + shared, conv_dim, w.ddt, w.da, grad.d});
  for (int64_t h = 0; h < spec.heads; ++h) grad.a[h] += w.da[h];
  const int64_t dt = inner + conv_dim;
  kernels::SoftplusBackward(run.kernels, t.wide + dt, stride, weights.dt_bias.data(), w.ddt,
                            spec.heads, run.rows, spec.heads, w.dwide + dt, stride, grad.dt_bias);
  kernels::CausalConvSiluBackward(run.kernels, run.sequences, t.wide + inner, stride,
                                  weights.conv.data(), weights.conv_bias.data(), spec.taps,
                                  conv_dim, w.dconv, conv_dim, w.dwide + inner, stride, grad.conv,
                                  grad.conv_bias);
  run.Linear({t.u, run.width, w.dwide, stride, run.rows, run.width, stride, &grad.in, w.du,
              run.width});
}

}  // namespace lode::model

// Mamba-2 (Dao & Gu 2024, "Transformers are SSMs", section 7): project, convolve, scan, gate, project.
#include "model/forward.h"

#include <vector>

namespace lode::model {

void Mamba2Forward(BlockRun& run, const Mamba2Spec& spec, const Mamba2Weights& weights,
                   int64_t conv_offset, int64_t state_offset, int64_t width) {
  Workspace& w = run.work;
  const int64_t inner = spec.inner();
  const int64_t conv_dim = spec.conv_dim();
  const int64_t stride = spec.projection();

  // z | x B C | dt
  run.Round(w.u, run.rows * width);
  const kernels::MatMulJob project = {&weights.in, w.u, width, w.wide, stride, run.rows};
  run.MatMul(project);

  std::vector<kernels::ConvSequence> conv;
  std::vector<kernels::ScanSequence> scan;
  for (const SequenceView& s : run.sequences) {
    conv.push_back({s.rows, reinterpret_cast<const float*>(s.slot_source + conv_offset),
                    reinterpret_cast<float*>(s.slot_target + conv_offset)});
    scan.push_back({s.rows, reinterpret_cast<const float*>(s.slot_source + state_offset),
                    reinterpret_cast<float*>(s.slot_target + state_offset)});
  }
  kernels::CausalConvSilu(run.kernels, conv, w.wide + inner, stride, weights.conv.data(),
                          weights.conv_bias.data(), spec.taps, conv_dim, w.conv, conv_dim);
  kernels::Softplus(run.kernels, w.wide + inner + conv_dim, stride, weights.dt_bias.data(),
                    run.rows, spec.heads, w.dt, spec.heads);
  const float* b = w.conv + inner;
  const float* c = b + spec.groups * spec.state;
  kernels::SelectiveScan(run.kernels, {spec.heads, spec.head_dim, spec.groups, spec.state}, scan,
                         w.conv, b, c, conv_dim, w.dt, spec.heads, weights.a.data(),
                         weights.d.data(), w.mixed, inner);
  // The gate multiplies before the norm.
  kernels::GatedRmsNorm(run.kernels, w.mixed, inner, w.wide, stride, weights.norm.data(),
                        run.epsilon, run.rows, inner, spec.groups);
  run.Round(w.mixed, run.rows * inner);
  const kernels::MatMulJob out = {&weights.out,           w.mixed, inner, w.x, width, run.rows,
                                  kernels::Epilogue::kAdd};
  run.MatMul(out);
}

}  // namespace lode::model

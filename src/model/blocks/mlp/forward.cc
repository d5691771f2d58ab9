// down(relu(up(u))^2) (So et al. 2021, "Primer"); no gate.
#include "model/forward.h"

namespace lode::model {

void MlpForward(BlockRun& run, const MlpSpec& spec, const MlpWeights& weights, int64_t width) {
  Workspace& w = run.work;
  run.Round(w.u, run.rows * width);
  const kernels::MatMulJob up = {&weights.up, w.u, width, w.wide, spec.width, run.rows,
                                 kernels::Epilogue::kReluSquared};
  run.MatMul(up);
  run.Round(w.wide, run.rows * spec.width);
  const kernels::MatMulJob down = {&weights.down, w.wide, spec.width, w.x, width, run.rows,
                                   kernels::Epilogue::kAdd};
  run.MatMul(down);
}

}  // namespace lode::model

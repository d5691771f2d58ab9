#include "model/backward_run.h"

namespace lode::model {

void MlpBackward(BackwardRun& run, const MlpSpec& spec, const MlpGrad& grad) {
  const LayerTape& t = run.tape;
  BackwardBuffers& w = run.work;
  run.Linear({t.wide, spec.width, w.dx, run.width, run.rows, spec.width, run.width, &grad.down,
              w.dwide, spec.width});
  kernels::ReluSquaredBackward(run.kernels, t.wide, run.rows * spec.width, w.dwide);
  run.Linear({t.u, run.width, w.dwide, spec.width, run.rows, run.width, spec.width, &grad.up, w.du,
              run.width});
}

}  // namespace lode::model

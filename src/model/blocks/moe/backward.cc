#include <vector>

#include "model/backward_run.h"

namespace lode::model {
namespace {

// The rows of each expert in the tape's `gathered`: [begin[e], begin[e + 1]).
std::vector<int64_t> Begins(const MoeSpec& spec, int64_t rows, const int32_t* ids) {
  std::vector<int64_t> begin(static_cast<size_t>(spec.experts) + 1, 0);
  for (int64_t i = 0; i < rows * spec.top_k; ++i) ++begin[static_cast<size_t>(ids[i]) + 1];
  for (size_t e = 1; e < begin.size(); ++e) begin[e] += begin[e - 1];
  return begin;
}

// From dsum [R, X], what is felt of the weighted sum of experts, to the gradients of the experts,
// of their inputs by slot (w.gathered), and of the slots' weights (w.slots).
void ExpertsBackward(BackwardRun& run, const MoeSpec& spec, const MoeGrad& grad, const float* dsum,
                     int64_t input) {
  const LayerTape& t = run.tape;
  BackwardBuffers& w = run.work;
  kernels::SlotDots(run.kernels, t.expert_out, input, dsum, input, t.slot_rows, run.rows,
                    spec.top_k, input, w.slots);
  kernels::CombineExpertsBackward(run.kernels, t.slot_rows, t.slot_weights, dsum, input, run.rows,
                                  spec.top_k, input, w.out, input);
  const std::vector<int64_t> begin = Begins(spec, run.rows, t.expert_ids);
  for (size_t e = 0; run.loads != nullptr && e + 1 < begin.size(); ++e) {
    (*run.loads)[e] += begin[e + 1] - begin[e];
  }
  std::vector<LinearGrad> products;
  const auto each = [&](const float* x, int64_t inputs, const float* dy, int64_t outputs,
                        const std::vector<MatrixGrad>& matrices, float* dx) {
    products.clear();
    for (size_t e = 0; e + 1 < begin.size(); ++e) {
      const int64_t count = begin[e + 1] - begin[e];
      if (count == 0) continue;
      products.push_back({x + begin[e] * inputs, inputs, dy + begin[e] * outputs, outputs, count,
                          inputs, outputs, &matrices[e], dx + begin[e] * inputs, inputs});
    }
    run.Linear(products);
  };
  each(t.expert_mid, spec.width, w.out, input, grad.down, w.mid);
  kernels::ReluSquaredBackward(run.kernels, t.expert_mid, run.rows * spec.top_k * spec.width,
                               w.mid);
  each(t.gathered, input, w.mid, spec.width, grad.up, w.gathered);
}

}  // namespace

void MoeBackward(BackwardRun& run, const MoeSpec& spec, const MoeGrad& grad) {
  const LayerTape& t = run.tape;
  BackwardBuffers& w = run.work;
  const bool latent = spec.latent > 0;
  const int64_t input = latent ? spec.latent : run.width;
  const float* dsum = w.dx;
  if (latent) {
    run.Linear({t.latent, input, w.dx, run.width, run.rows, input, run.width, &grad.latent_up,
                w.latent, input});
    dsum = w.latent;
  }
  ExpertsBackward(run, spec, grad, dsum, input);
  // What the experts' inputs feel, in the latent space or as du itself.
  float* dinput = latent ? w.latent : w.du;
  kernels::GatherSum(run.kernels, w.gathered, input, t.slot_rows, run.rows, spec.top_k, input,
                     /*add=*/false, dinput, input);
  if (latent) {
    run.Linear({t.u, run.width, w.latent, input, run.rows, run.width, input, &grad.latent_down,
                w.du, run.width});
  }
  run.balance_loss += kernels::RouteBackward(
      run.kernels, {spec.experts, spec.top_k, spec.normalize, spec.scale}, run.sequences, t.router,
      t.expert_ids, w.slots, run.options.balance, w.router);
  MatrixGrad router = grad.router;
  if (run.options.router_frozen) router.dw = nullptr;
  run.Linear({t.u, run.width, w.router, spec.experts, run.rows, run.width, spec.experts, &router,
              w.du, run.width, /*add=*/true});
  if (spec.shared_width == 0) return;
  run.Linear({t.wide, spec.shared_width, w.dx, run.width, run.rows, spec.shared_width, run.width,
              &grad.shared_down, w.dwide, spec.shared_width});
  kernels::ReluSquaredBackward(run.kernels, t.wide, run.rows * spec.shared_width, w.dwide);
  run.Linear({t.u, run.width, w.dwide, spec.shared_width, run.rows, run.width, spec.shared_width,
              &grad.shared_up, w.du, run.width, /*add=*/true});
}

}  // namespace lode::model

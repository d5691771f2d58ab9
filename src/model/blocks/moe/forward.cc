// Mixture of experts: the router and the shared expert read the full width; routed experts work in the
// latent space when there is one. The weighted sum has one order at every batch size: experts by
// ascending id, then the up-projection of the sum, then the shared expert.
#include "model/forward.h"

#include <cstring>
#include <vector>

#include "base/check.h"

namespace lode::model {
namespace {

// Rows sorted by expert: rows of expert e are [begin[e], begin[e + 1]) of `gathered`.
std::pmr::vector<int64_t> GroupByExpert(const MoeSpec& spec, int64_t rows,
                                        const int32_t* expert_ids, int32_t* slot_rows,
                                        StackMemory* memory) {
  std::pmr::vector<int64_t> begin(static_cast<size_t>(spec.experts) + 1, 0, memory);
  const int64_t slots = rows * spec.top_k;
  for (int64_t i = 0; i < slots; ++i) ++begin[static_cast<size_t>(expert_ids[i]) + 1];
  for (size_t e = 1; e < begin.size(); ++e) begin[e] += begin[e - 1];
  std::pmr::vector<int64_t> next(begin.begin(), begin.end() - 1, memory);
  for (int64_t i = 0; i < slots; ++i) {
    slot_rows[i] = static_cast<int32_t>(next[static_cast<size_t>(expert_ids[i])]++);
  }
  return begin;
}

// The shared expert: an MLP on the full width, for every token, added last.
void SharedForward(BlockRun& run, const MoeSpec& spec, const MoeWeights& weights, int64_t width) {
  Workspace& w = run.work;
  const kernels::MatMulJob up = {&weights.shared_up,
                                 w.u,
                                 width,
                                 w.wide,
                                 spec.shared_width,
                                 run.rows,
                                 kernels::Epilogue::kReluSquared};
  run.MatMul(up);
  run.Round(w.wide, run.rows * spec.shared_width);
  const kernels::MatMulJob down = {
      &weights.shared_down,   w.wide, spec.shared_width, w.x, width, run.rows,
      kernels::Epilogue::kAdd};
  run.MatMul(down);
}

// The latent sum [rows, input] back to the model's width, added to the stream.
void LatentUp(BlockRun& run, const MoeWeights& weights, float* sum, int64_t input, int64_t width) {
  run.Round(sum, run.rows * input);
  const kernels::MatMulJob up = {&weights.latent_up,     sum, input, run.work.x, width, run.rows,
                                 kernels::Epilogue::kAdd};
  run.MatMul(up);
}

// The routed experts as single products, in the precision of the reference modes: for those modes, for
// types without a packed form, and where somebody observes. The weighted sum goes to work.latent.
void ExpertsByProducts(BlockRun& run, const MoeSpec& spec, const MoeWeights& weights,
                       const float* source, int64_t input) {
  Workspace& w = run.work;
  StackMemory* memory = &run.kernels.memory();
  const StackMemory::Scope scope(memory);
  const auto begin = GroupByExpert(spec, run.rows, w.expert_ids, w.slot_rows, memory);
  const int64_t slots = run.rows * spec.top_k;
  run.kernels.pool().ParallelFor(slots, 16, [&](int64_t from, int64_t to, int) {
    for (int64_t i = from; i < to; ++i) {
      std::memcpy(w.gathered + w.slot_rows[i] * input, source + i / spec.top_k * input,
                  static_cast<size_t>(input) * sizeof(float));
    }
  });
  std::pmr::vector<kernels::MatMulJob> jobs(memory);
  for (int64_t e = 0; e < spec.experts; ++e) {
    const auto at = static_cast<size_t>(e);
    const int64_t count = begin[at + 1] - begin[at];
    if (count == 0) continue;
    jobs.push_back({&weights.up[at], w.gathered + begin[at] * input, input,
                    w.expert_mid + begin[at] * spec.width, spec.width, count,
                    kernels::Epilogue::kReluSquared});
  }
  run.MatMul(jobs, /*exact=*/true);
  run.Round(w.expert_mid, slots * spec.width);
  jobs.clear();
  for (int64_t e = 0; e < spec.experts; ++e) {
    const auto at = static_cast<size_t>(e);
    const int64_t count = begin[at + 1] - begin[at];
    if (count == 0) continue;
    jobs.push_back({&weights.down[at], w.expert_mid + begin[at] * spec.width, spec.width,
                    w.expert_out + begin[at] * input, input, count});
  }
  run.MatMul(jobs, /*exact=*/true);

  kernels::CombineExperts(run.kernels, w.expert_out, input, w.slot_rows, w.slot_weights, run.rows,
                          spec.top_k, input, w.latent, input);
}

}  // namespace

void MoeForward(BlockRun& run, const MoeSpec& spec, const MoeWeights& weights, int64_t width) {
  Workspace& w = run.work;
  const int64_t input = spec.latent > 0 ? spec.latent : width;

  // The router's inputs are never rounded.
  const kernels::MatMulJob route = {&weights.router, w.u, width, w.router, spec.experts, run.rows};
  run.MatMul(route, /*exact=*/true);
  kernels::RouteTopK(run.kernels, w.router, weights.bias.data(), run.rows, spec.experts, spec.top_k,
                     spec.normalize, static_cast<float>(spec.scale), w.expert_ids, w.slot_weights);
  run.Round(w.u, run.rows * width);

  const float* source = w.u;
  if (spec.latent > 0) {
    const kernels::MatMulJob down = {&weights.latent_down, w.u, width, w.latent, input, run.rows};
    run.MatMul(down);
    run.Round(w.latent, run.rows * input);
    source = w.latent;
  }
  if (run.native() && run.observer == nullptr && kernels::CanRunExperts(weights.up, weights.down)) {
    // y is the latent space's sum, or the layer's own, which joins the stream at once.
    float* y = spec.latent > 0 ? w.expert_out : w.latent;
    kernels::RoutedExperts(
        run.kernels,
        {weights.up, weights.down, source, input, run.rows, w.expert_ids, w.slot_weights,
         spec.top_k, y, input, spec.latent > 0 ? nullptr : w.x,
         reinterpret_cast<uint8_t*>(w.gathered), reinterpret_cast<uint8_t*>(w.expert_mid)});
    if (spec.latent > 0) LatentUp(run, weights, y, input, width);
  } else {
    LODE_CHECK(!run.numerics.fused_experts);  // there would be no room
    ExpertsByProducts(run, spec, weights, source, input);
    if (spec.latent > 0) {
      LatentUp(run, weights, w.latent, input, width);
    } else {
      kernels::AddRows(run.kernels, w.latent, width, w.x, width, run.rows, width);
    }
  }
  if (spec.shared_width > 0) SharedForward(run, spec, weights, width);
}

}  // namespace lode::model

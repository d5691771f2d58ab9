// Grouped-query attention (Ainslie et al. 2023), causal, without any encoding of positions.
#include <vector>

#include "model/forward.h"

namespace lode::model {

void AttentionForward(BlockRun& run, const AttentionSpec& spec, const AttentionWeights& weights,
                      int64_t page_offset, bool mtp, int64_t width) {
  Workspace& w = run.work;
  const int64_t q_width = spec.q_width();
  const int64_t kv_width = spec.kv_width();
  const int64_t stride = q_width + 2 * kv_width;
  float* k = w.wide + q_width;
  float* v = k + kv_width;

  run.Round(w.u, run.rows * width);
  const kernels::MatMulJob project[] = {{&weights.query, w.u, width, w.wide, stride, run.rows},
                                        {&weights.key, w.u, width, k, stride, run.rows},
                                        {&weights.value, w.u, width, v, stride, run.rows}};
  run.MatMul(project);

  const StackMemory::Scope scope(&run.kernels.memory());
  std::pmr::vector<kernels::AttentionSequence> sequences(&run.kernels.memory());
  for (const SequenceView& s : run.sequences) {
    sequences.push_back({s.rows, s.position, mtp ? s.mtp_pages : s.pages, page_offset});
  }
  kernels::Attention(run.kernels, ShapeOf(spec, run.numerics), sequences, w.wide, stride, k, v,
                     stride, w.mixed, q_width);
  run.Round(w.mixed, run.rows * q_width);
  const kernels::MatMulJob out = {&weights.out, w.mixed, q_width, w.x, width, run.rows,
                                  kernels::Epilogue::kAdd};
  run.MatMul(out);
}

}  // namespace lode::model

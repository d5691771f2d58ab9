// Mamba-2 (Dao & Gu 2024, "Transformers are SSMs", section 7): project, convolve, scan, gate, project.
#include "model/forward.h"

#include <algorithm>
#include <vector>

namespace lode::model {
namespace {

// One layer's part of a sequence's trial.
struct LayerTrial {
  LayerTrial(const SequenceView& s, const Mamba2Spec& spec, int64_t trial_offset)
      : raw(s.trial.rows + s.trial.rows_max * trial_offset),
        convolved(raw + s.trial.rows_max * spec.conv_dim()),
        dt(convolved + s.trial.rows_max * spec.conv_dim()) {}
  float* raw;        // [W, C]
  float* convolved;  // [W, C]
  float* dt;         // [W, H]
};

void CopyRows(const float* from, int64_t from_stride, int64_t rows, int64_t width, float* to) {
  for (int64_t t = 0; t < rows; ++t) std::copy_n(from + t * from_stride, width, to + t * width);
}

}  // namespace

void Mamba2Recurrence(BlockRun& run, const Mamba2Spec& spec, const Mamba2Weights& weights,
                      const Mamba2Place& place) {
  Workspace& w = run.work;
  const int64_t inner = spec.inner();
  const int64_t conv_dim = spec.conv_dim();
  const int64_t stride = spec.projection();
  const float* raw = w.wide + inner;
  StackMemory* memory = &run.kernels.memory();
  const StackMemory::Scope scope(memory);
  std::pmr::vector<kernels::ConvSequence> conv(memory);
  std::pmr::vector<kernels::ScanSequence> scan(memory);
  for (const SequenceView& s : run.sequences) {
    kernels::ConvSequence c = {s.rows,
                               reinterpret_cast<const float*>(s.slot_source + place.conv),
                               reinterpret_cast<float*>(s.slot_target + place.conv)};
    kernels::ScanSequence h = {s.rows,
                               reinterpret_cast<const float*>(s.slot_source + place.state),
                               reinterpret_cast<float*>(s.slot_target + place.state)};
    if (s.trial.replay_count > 0) {
      const LayerTrial trial(s, spec, place.trial);
      c.replay = trial.raw + s.trial.replay_begin * conv_dim;
      h.replay = trial.convolved + s.trial.replay_begin * conv_dim;
      h.replay_dt = trial.dt + s.trial.replay_begin * spec.heads;
      c.replay_rows = h.replay_rows = s.trial.replay_count;
    }
    c.keep = h.keep = s.keep;
    conv.push_back(c);
    scan.push_back(h);
  }
  kernels::CausalConvSilu(run.kernels, conv, raw, stride, weights.conv.data(),
                          weights.conv_bias.data(), spec.taps, conv_dim, w.conv, conv_dim);
  kernels::Softplus(run.kernels, raw + conv_dim, stride, weights.dt_bias.data(), run.rows,
                    spec.heads, w.dt, spec.heads);
  const float* b = w.conv + inner;
  const float* c = b + spec.groups * spec.state;
  kernels::SelectiveScan(run.kernels, {spec.heads, spec.head_dim, spec.groups, spec.state}, scan,
                         w.conv, b, c, conv_dim, w.dt, spec.heads, weights.a.data(),
                         weights.d.data(), w.mixed, inner);
  // What was to be replayed has been; its place is free for the rows of this trial.
  for (const SequenceView& s : run.sequences) {
    if (s.keep) continue;
    const LayerTrial trial(s, spec, place.trial);
    const int64_t t = s.rows.begin;
    CopyRows(raw + t * stride, stride, s.rows.count, conv_dim, trial.raw);
    CopyRows(w.conv + t * conv_dim, conv_dim, s.rows.count, conv_dim, trial.convolved);
    CopyRows(w.dt + t * spec.heads, spec.heads, s.rows.count, spec.heads, trial.dt);
  }
}

void Mamba2Forward(BlockRun& run, const Mamba2Spec& spec, const Mamba2Weights& weights,
                   const Mamba2Place& place, int64_t width) {
  Workspace& w = run.work;
  const int64_t inner = spec.inner();
  const int64_t stride = spec.projection();

  // z | x B C | dt
  run.Round(w.u, run.rows * width);
  const kernels::MatMulJob project = {&weights.in, w.u, width, w.wide, stride, run.rows};
  run.MatMul(project);
  Mamba2Recurrence(run, spec, weights, place);
  if (w.scanned != nullptr) std::copy_n(w.mixed, run.rows * inner, w.scanned);
  // The gate multiplies before the norm.
  kernels::GatedRmsNorm(run.kernels, w.mixed, inner, w.wide, stride, weights.norm.data(),
                        run.epsilon, run.rows, inner, spec.groups);
  run.Round(w.mixed, run.rows * inner);
  const kernels::MatMulJob out = {&weights.out,           w.mixed, inner, w.x, width, run.rows,
                                  kernels::Epilogue::kAdd};
  run.MatMul(out);
}

}  // namespace lode::model

// Matrix products: each job's inputs are brought into the form its weight wants, once for all jobs that
// share them; then the panels of all jobs are one region of work.
#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/matmul_parts.h"
#include "kernels/isa.h"
#include "kernels/ops.h"

namespace lode::kernels {
namespace {

constexpr int64_t kAloneValues = 1 << 14;  // inputs that the caller prepares without waking anyone

// A product and its inputs. Inputs that several jobs share are made by the first of them.
struct Prepared {
  const MatMulJob* job;
  PanelFormat format;
  PanelInput input;
  bool owner;
};

PanelFormat FormatFor(const MatMulJob& job) {
  const PanelFormat format = PanelFormatOf(*job.weight);
  // One order in every precision; but portable code has no fused multiply-add.
  if (TakesFloats(format)) {
    const bool packed = job.weight->packed != nullptr && ActiveIsa() != Isa::kPortable;
    return packed ? format : PanelFormat::kNone;
  }
  return job.precision == Precision::kF32 ? PanelFormat::kNone : format;
}

bool SameInput(const Prepared& a, const MatMulJob& job, PanelFormat format, bool wide) {
  return a.format != PanelFormat::kNone && IsInteger(a.format) == IsInteger(format) &&
         a.job->x == job.x && a.job->x_stride == job.x_stride && a.job->rows == job.rows &&
         a.job->weight->cols == job.weight->cols && a.input.wide == wide;
}

int64_t InputBytes(PanelFormat format, bool wide, int64_t tokens, int64_t cols) {
  const int64_t records = RecordsOf(cols);
  return tokens * records * (IsInteger(format) ? IntBlockBytes(wide) : wide ? 128 : 64);
}

PanelInput Place(PanelFormat format, bool wide, int64_t tokens, int64_t cols, std::byte* at) {
  PanelInput input;
  input.tokens = tokens;
  input.wide = wide;
  if (IsInteger(format)) {
    input.tiles = reinterpret_cast<const uint8_t*>(at);
  } else {
    const int64_t width = RecordsOf(cols) * kRecordCols;
    input.rows = reinterpret_cast<const uint16_t*>(at);
    input.stride = wide ? 2 * width : width;
    input.low_offset = wide ? width : 0;
  }
  return input;
}

// Tokens [begin, end) of an input.
void Prepare(const Prepared& p, int64_t begin, int64_t end) {
  const MatMulJob& job = *p.job;
  const int64_t cols = job.weight->cols;
  if (!IsInteger(p.format)) {
    const int64_t width = RecordsOf(cols) * kRecordCols;
    for (int64_t t = begin; t < end; ++t) {
      auto* row = const_cast<uint16_t*>(p.input.rows) + t * p.input.stride;
      ToBF16Row(job.x + t * job.x_stride, cols, width, row, p.input.wide ? row + width : nullptr);
    }
    return;
  }
  const int64_t tiles = TilesOf(job.rows, kIntTile);
  const int64_t token_bytes = RecordsOf(cols) * IntBlockBytes(p.input.wide);
  int64_t tile = std::max<int64_t>(0, begin * tiles / job.rows - 1);
  for (int64_t t = begin; t < end; ++t) {
    while (TileBegin(job.rows, tiles, tile + 1) <= t) ++tile;
    const int64_t first = TileBegin(job.rows, tiles, tile);
    const int64_t m = TileBegin(job.rows, tiles, tile + 1) - first;
    QuantizeToken(job.x + t * job.x_stride, cols, p.input.wide, m, t - first,
                  const_cast<uint8_t*>(p.input.tiles) + first * token_bytes);
  }
}

// Fills `prepared` and quantizes what is new in it.
void PrepareAll(Context& context, std::span<const MatMulJob> jobs,
                std::pmr::vector<Prepared>* prepared) {
  std::byte* at = context.activations();
  int64_t tokens = 0;
  int64_t values = 0;
  for (const MatMulJob& job : jobs) {
    if (job.rows == 0) continue;
    Prepared p = {&job, FormatFor(job), {}, false};
    const bool wide = job.precision == Precision::kNativeWide;
    if (p.format != PanelFormat::kNone && !TakesFloats(p.format)) {
      const auto same = std::find_if(
          prepared->begin(), prepared->end(),
          [&](const Prepared& other) { return SameInput(other, job, p.format, wide); });
      if (same != prepared->end()) {
        p.input = same->input;
      } else {
        p.owner = true;
        p.input = Place(p.format, wide, job.rows, job.weight->cols, at);
        at += InputBytes(p.format, wide, job.rows, job.weight->cols);
        LODE_CHECK(at <= context.activations() + context.activation_bytes());
        tokens += job.rows;
        values += job.rows * job.weight->cols;
      }
    }
    prepared->push_back(p);
  }
  const auto prepare = [&](int64_t begin, int64_t end, int) {
    int64_t first = 0;
    for (const Prepared& p : *prepared) {
      if (!p.owner) continue;
      const int64_t from = std::max(begin, first), to = std::min(end, first + p.job->rows);
      if (from < to) Prepare(p, from - first, to - first);
      first += p.job->rows;
    }
  };
  if (values <= kAloneValues) {
    prepare(0, tokens, 0);
  } else {
    context.pool().ParallelFor(tokens, 1, prepare);
  }
}

}  // namespace

int64_t MatMulScratchFloats(int64_t rows) {
  return std::max(DecodedScratchFloats(rows), rows * kPanelRows + kPanelScratchFloats);
}

int64_t MatMulActivationBytes(int64_t rows, int64_t cols, Precision precision) {
  if (precision == Precision::kF32) return 0;
  const bool wide = precision == Precision::kNativeWide;
  return std::max(InputBytes(PanelFormat::kQ8_0, wide, rows, cols),
                  InputBytes(PanelFormat::kBF16, wide, rows, cols));
}

void MatMul(Context& context, std::span<const MatMulJob> jobs) {
  const StackMemory::Scope scope(&context.memory());
  std::pmr::vector<Prepared> prepared(&context.memory());
  prepared.reserve(jobs.size());
  PrepareAll(context, jobs, &prepared);
  int64_t panels = 0;
  for (const Prepared& p : prepared) panels += PanelsOf(p.job->weight->rows);
  const PanelKernels& kernels = PanelKernelsFor(ActiveIsa());
  context.pool().ParallelFor(panels, 1, [&](int64_t begin, int64_t end, int thread) {
    float* scratch = context.scratch(thread);
    int64_t first = 0;  // of the current job
    for (const Prepared& p : prepared) {
      const int64_t count = PanelsOf(p.job->weight->rows);
      for (int64_t i = std::max(begin, first); i < std::min(end, first + count); ++i) {
        if (p.format == PanelFormat::kNone) {
          RunDecodedPanel(*p.job, i - first, scratch);
        } else if (TakesFloats(p.format)) {
          RunFloatPanel(kernels, *p.job->weight, p.format, i - first, p.job->x, p.job->x_stride,
                        p.job->rows, scratch);
          FinishPanel(*p.job, i - first, scratch);
        } else {
          float* sums = scratch + kPanelScratchFloats;
          RunPanelProduct(kernels, *p.job->weight, p.format, i - first, p.input, scratch, sums);
          FinishPanel(*p.job, i - first, sums);
        }
      }
      first += count;
      if (first >= end) break;
    }
  });
}

}  // namespace lode::kernels

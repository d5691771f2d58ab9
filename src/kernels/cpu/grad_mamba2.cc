// The recurrence differentiated, in chunks of kScanChunk tokens: inside a chunk everything is a
// product of small matrices; between chunks only the state and its gradient pass. A thread owns the
// heads of a group in one sequence, so that what they share (B and C) is summed in their order.
//
// With s_i the running sum of dt A in a chunk, M_ij = exp(s_i - s_j) for j <= i else 0, K = C B^T,
// U = dt x, h the state that the chunk starts with and dh' what is felt of the one it ends with:
//   dU = (M K)^T dy + diag(e^(S - s)) B dh'      dh = e^S dh' + (diag(e^s) C)^T dy
//   dC = (M G) B + diag(e^s) dy h^T              with G = dy U^T
//   dB = (M G)^T C + diag(e^(S - s)) U dh'^T
// No decay above one occurs, and the gradient of s is summed from terms of one sign pattern (ref/
// grad.h checks the sums), never as a difference of large numbers.
#include <algorithm>

#include "kernels/cpu/grad_scratch.h"
#include "kernels/cpu/targets.h"
#include "kernels/grad.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/grad_mamba2.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/products-inl.h"

#ifndef LODE_KERNELS_CPU_GRAD_MAMBA2_ONCE_
#define LODE_KERNELS_CPU_GRAD_MAMBA2_ONCE_
namespace lode::kernels {

// One head in one sequence: its columns of x, dy and dt, its group's of b and c.
struct ScanGradHead {
  int64_t rows, head_dim, state;
  const float *x, *b, *c;
  int64_t stride;
  const float* dt;
  int64_t dt_stride;
  const float* dy;
  int64_t dy_stride;
  float a, d;
  float *dx, *db, *dc;
  int64_t dstride;
  float* ddt;  // with heads between rows
  int64_t ddt_stride;
  bool first;  // of its group: db and dc are written, not added to
  float *da, *dd;
};

// Where a thread's scratch has what: all rows padded to multiples of 16.
struct ScanGradScratch {
  ScanGradScratch(int64_t head_dim, int64_t state, float* memory)
      : p(RoundUp(head_dim, 16)), n(RoundUp(state, 16)), pieces(memory) {
    constexpr int64_t q = kScanChunk;
    for (float** rows : {&x, &u, &dy, &du}) *rows = pieces.Take(q * p);
    for (float** rows : {&b, &c, &eb, &ec, &db, &dc}) *rows = pieces.Take(q * n);
    for (float** square : {&k, &g, &m}) *square = pieces.Take(q * q);
    for (float** row : {&steps, &sums, &from, &to, &da}) *row = pieces.Take(q);
    for (float** like_state : {&dh, &turned}) *like_state = pieces.Take(n * p);
    b_t = pieces.Take(n * q);
    u_t = pieces.Take(p * q);
    states = pieces.Take(0);  // the last: [chunks][n * p]
  }
  int64_t p, n;
  ScratchPieces pieces;
  float *x, *u, *dy, *du;   // [q, p]
  float *b, *c, *db, *dc;   // [q, n]
  float *eb, *ec;           // B and C with the decays to the chunk's end and from its beginning
  float *k, *g, *m;         // [q, q]
  float *steps, *sums, *from, *to, *da;
  float *dh, *turned;       // [n, p], and a state or dh turned round
  float *b_t, *u_t;         // [n, q], [p, q]
  float* states;
};

}  // namespace lode::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {

constexpr int64_t kQ = kScanChunk;

HWY_INLINE float ExpScalar(float x) { return hn::GetLane(ExpV(hn::Set(DF(), x))); }

// Rows [first, first + q) as the chunk's matrices.
HWY_INLINE void LoadScanChunk(const ScanGradHead& head, int64_t first, int64_t q,
                              ScanGradScratch* s) {
  float sum = 0.0f;
  for (int64_t i = 0; i < q; ++i) {
    s->steps[i] = head.dt[(first + i) * head.dt_stride];
    sum += s->steps[i] * head.a;
    s->sums[i] = sum;
  }
  for (int64_t i = 0; i < q; ++i) {
    s->from[i] = ExpScalar(s->sums[i]);
    s->to[i] = ExpScalar(sum - s->sums[i]);
  }
  const int64_t at = first * head.stride;
  CopyScaled(head.x + at, head.stride, q, head.head_dim, nullptr, s->x, s->p);
  CopyScaled(head.x + at, head.stride, q, head.head_dim, s->steps, s->u, s->p);
  CopyScaled(head.b + at, head.stride, q, head.state, nullptr, s->b, s->n);
  CopyScaled(head.b + at, head.stride, q, head.state, s->to, s->eb, s->n);
}

// The states that the chunks start with.
HWY_INLINE void ScanStates(const ScanGradHead& head, ScanGradScratch* s) {
  const int64_t size = s->n * s->p;
  std::fill_n(s->states, size, 0.0f);
  float* state = s->states;
  for (int64_t first = 0; first + kQ < head.rows; first += kQ, state += size) {
    LoadScanChunk(head, first, kQ, s);
    const float decay = s->from[kQ - 1];
    for (int64_t i = 0; i < size; ++i) state[size + i] = state[i] * decay;
    Product(s->n, s->p, kQ, {s->eb, 1, s->n}, s->u, s->p, true, state + size, s->p);
  }
}

// M, and with it G -> M G and K -> M K; da gets what the decays inside the chunk feel.
HWY_INLINE void WeighByDecay(int64_t q, ScanGradScratch* s) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < q; ++i) {
    const VF si = hn::Set(d, s->sums[i]);
    for (int64_t j = 0; j < kQ; j += L) {
      const VF decay = ExpV(hn::Min(hn::Zero(d), hn::Sub(si, hn::LoadU(d, s->sums + j))));
      const VF inside = hn::IfThenElseZero(
          hn::Le(hn::Iota(d, static_cast<float>(j)), hn::Set(d, static_cast<float>(i))), decay);
      const VF mk = hn::Mul(inside, hn::LoadU(d, s->k + i * kQ + j));
      const VF g = hn::LoadU(d, s->g + i * kQ + j);
      hn::StoreU(hn::Mul(mk, g), d, s->m + i * kQ + j);
      hn::StoreU(mk, d, s->k + i * kQ + j);
      hn::StoreU(hn::Mul(inside, g), d, s->g + i * kQ + j);
    }
    // sum over j < k of E_ij, felt by every k <= i
    float run = 0.0f;
    for (int64_t k = 0; k <= i; ++k) {
      s->da[k] += run;
      run += s->m[i * kQ + k];
    }
  }
}

// out[t] (= or +=) rows [q, width] of `from`
HWY_INLINE void StoreRows(const float* from, int64_t padded, int64_t q, int64_t width, bool add,
                          float* out, int64_t stride) {
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t t = 0; t < q; ++t) {
    for (int64_t i = 0; i < width; i += L) {
      VF v = hn::LoadU(d, from + t * padded + i);
      if (add) v = hn::Add(LoadPadded(out + t * stride, i, width), v);
      StorePadded(v, out + t * stride, i, width);
    }
  }
}

// dC and dB, and what their parts across the chunk's border say of the decays.
HWY_INLINE void ScanGradBC(int64_t q, const float* state, ScanGradScratch* s) {
  TransposeSmall(state, s->p, s->n, s->p, s->turned, s->n);
  Product(q, s->n, s->p, {s->dy, s->p, 1}, s->turned, s->n, false, s->dc, s->n);
  TransposeSmall(s->dh, s->p, s->n, s->p, s->turned, s->n);
  Product(q, s->n, s->p, {s->u, s->p, 1}, s->turned, s->n, false, s->db, s->n);
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  float after = 0.0f;  // sum over j < k of v_j
  for (int64_t i = 0; i < q; ++i) {
    const VF from = hn::Set(d, s->from[i]), to = hn::Set(d, s->to[i]);
    for (int64_t j = 0; j < s->n; j += L) {
      float* dc = s->dc + i * s->n + j;
      float* db = s->db + i * s->n + j;
      hn::StoreU(hn::Mul(from, hn::LoadU(d, dc)), d, dc);
      hn::StoreU(hn::Mul(to, hn::LoadU(d, db)), d, db);
    }
    s->da[i] += after;
    after += DotPadded(s->b + i * s->n, s->db + i * s->n, s->n);
  }
  float before = 0.0f;  // sum over i >= k of r_i
  for (int64_t i = q - 1; i >= 0; --i) {
    before += DotPadded(s->c + i * s->n, s->dc + i * s->n, s->n);
    s->da[i] += before;
  }
  Product(q, s->n, q, {s->g, kQ, 1}, s->b, s->n, true, s->dc, s->n);
  Product(q, s->n, q, {s->g, 1, kQ}, s->c, s->n, true, s->db, s->n);
}

void ScanGradChunk(const ScanGradHead& head, int64_t first, int64_t q, const float* state,
                   ScanGradScratch* s) {
  LoadScanChunk(head, first, q, s);
  CopyScaled(head.c + first * head.stride, head.stride, q, head.state, nullptr, s->c, s->n);
  CopyScaled(head.c + first * head.stride, head.stride, q, head.state, s->from, s->ec, s->n);
  CopyScaled(head.dy + first * head.dy_stride, head.dy_stride, q, head.head_dim, nullptr, s->dy,
             s->p);
  TransposeSmall(s->b, s->n, q, s->n, s->b_t, kQ);
  TransposeSmall(s->u, s->p, q, s->p, s->u_t, kQ);
  Product(q, kQ, s->n, {s->c, s->n, 1}, s->b_t, kQ, false, s->k, kQ);
  Product(q, kQ, s->p, {s->dy, s->p, 1}, s->u_t, kQ, false, s->g, kQ);
  const float decay = s->from[q - 1];
  const float whole = decay * DotPadded(state, s->dh, s->n * s->p);
  for (int64_t i = 0; i < q; ++i) s->da[i] = whole;
  WeighByDecay(q, s);
  ScanGradBC(q, state, s);
  // dU, then dx, ddt and what A and D feel.
  Product(q, s->p, q, {s->k, 1, kQ}, s->dy, s->p, false, s->du, s->p);
  Product(q, s->p, s->n, {s->eb, s->n, 1}, s->dh, s->p, true, s->du, s->p);
  const DF d;
  const auto L = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < q; ++i) {
    const float of_x = DotPadded(s->x + i * s->p, s->du + i * s->p, s->p);
    head.ddt[(first + i) * head.ddt_stride] = of_x + head.a * s->da[i];
    *head.da += s->steps[i] * s->da[i];
    *head.dd += DotPadded(s->x + i * s->p, s->dy + i * s->p, s->p);
    const VF step = hn::Set(d, s->steps[i]), skip = hn::Set(d, head.d);
    for (int64_t j = 0; j < s->p; j += L) {
      float* du = s->du + i * s->p + j;
      const VF dy = hn::LoadU(d, s->dy + i * s->p + j);
      hn::StoreU(hn::MulAdd(skip, dy, hn::Mul(step, hn::LoadU(d, du))), d, du);
    }
  }
  const int64_t at = first * head.dstride;
  StoreRows(s->du, s->p, q, head.head_dim, false, head.dx + at, head.dstride);
  StoreRows(s->db, s->n, q, head.state, !head.first, head.db + at, head.dstride);
  StoreRows(s->dc, s->n, q, head.state, !head.first, head.dc + at, head.dstride);
  // dh of the chunk before.
  for (int64_t i = 0; i < s->n * s->p; ++i) s->dh[i] *= decay;
  Product(s->n, s->p, q, {s->ec, 1, s->n}, s->dy, s->p, true, s->dh, s->p);
}

void ScanGradHeadRows(const ScanGradHead& head, float* memory) {
  ScanGradScratch s(head.head_dim, head.state, memory);
  ScanStates(head, &s);
  const int64_t size = s.n * s.p;
  std::fill_n(s.dh, size, 0.0f);
  // What is multiplied by the zeros behind a short chunk must be numbers.
  std::fill_n(s.b_t, s.n * kQ, 0.0f);
  std::fill_n(s.u_t, s.p * kQ, 0.0f);
  std::fill_n(s.sums, kQ, 0.0f);
  for (int64_t chunk = (head.rows - 1) / kQ; chunk >= 0; --chunk) {
    const int64_t first = chunk * kQ;
    ScanGradChunk(head, first, std::min(kQ, head.rows - first), s.states + chunk * size, &s);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(ScanGradHeadRows);

int64_t ScanBackwardScratchFloats(const ScanShape& shape, int64_t rows_max) {
  const ScanGradScratch sizes(shape.head_dim, shape.state, nullptr);
  const int64_t chunks = std::max<int64_t>(1, (rows_max + kScanChunk - 1) / kScanChunk);
  return sizes.pieces.taken() + chunks * sizes.n * sizes.p;
}

int64_t ScanBackwardSharedFloats(const ScanShape& shape, int64_t sequences) {
  return 2 * sequences * shape.heads;
}

void SelectiveScanBackward(Context& context, const ScanShape& shape,
                           std::span<const RowRange> sequences, const float* x, const float* b,
                           const float* c, int64_t xbc_stride, const float* dt, int64_t dt_stride,
                           const float* a, const float* d, const float* dy, int64_t dy_stride,
                           float* shared, const ScanGradients& out) {
  const auto scan = HWY_DYNAMIC_DISPATCH(ScanGradHeadRows);
  const auto count = static_cast<int64_t>(sequences.size());
  const int64_t each = shape.heads / shape.groups;
  const auto partial = [&](int64_t sequence, int64_t head) {
    return shared + 2 * (sequence * shape.heads + head);
  };
  context.pool().ParallelFor(count * shape.groups, 1, [&](int64_t begin, int64_t end, int thread) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t sequence = i / shape.groups, group = i % shape.groups;
      const RowRange rows = sequences[static_cast<size_t>(sequence)];
      const int64_t in = rows.begin * xbc_stride, to = rows.begin * out.dxbc_stride;
      for (int64_t h = group * each; h < (group + 1) * each; ++h) {
        const int64_t p = h * shape.head_dim, n = group * shape.state;
        float* sums = partial(sequence, h);
        sums[0] = sums[1] = 0.0f;
        if (rows.count == 0) continue;
        scan({rows.count, shape.head_dim, shape.state, x + in + p, b + in + n, c + in + n,
              xbc_stride, dt + rows.begin * dt_stride + h, dt_stride,
              dy + rows.begin * dy_stride + p, dy_stride, a[h], d[h], out.dx + to + p,
              out.db + to + n, out.dc + to + n, out.dxbc_stride,
              out.ddt + rows.begin * shape.heads + h, shape.heads, h == group * each, &sums[0],
              &sums[1]},
             context.scratch(thread));
      }
    }
  });
  for (int64_t sequence = 0; sequence < count; ++sequence) {
    for (int64_t h = 0; h < shape.heads; ++h) {
      out.da[h] += partial(sequence, h)[0];
      out.dd[h] += partial(sequence, h)[1];
    }
  }
}

}  // namespace lode::kernels
#endif  // HWY_ONCE

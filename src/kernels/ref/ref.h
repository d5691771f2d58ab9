// Scalar oracles of the operations: the contract of ops.h, as plainly as it can be said, in one thread.
// Where a contract fixes the order of a sum, the oracle has that order and tests compare bits; where it
// uses exp and log (whose last bits are the library's), tests compare within a few units.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"

namespace lode::kernels::ref {

void MatMul(const MatMulJob& job);
float RoundToBF16(float x);
// The 16-lane sum of squares of ops.h.
float SumOfSquares(const float* x, int64_t count);
void RmsNorm(const float* x, const float* w, float eps, int64_t width, float* y);
void GatedRmsNorm(float* y, const float* z, const float* w, float eps, int64_t width,
                  int64_t groups);
// x [rows + taps - 1, channels] raw rows, history first; out [rows, channels].
void CausalConvSilu(const float* x, const float* w, const float* bias, int64_t taps,
                    int64_t channels, int64_t rows, float* out);
// One head over `rows` tokens; h [N, P] in and out; x, y [rows, P]; b, c [rows, N]; dt [rows].
void ScanHead(int64_t rows, int64_t head_dim, int64_t state, const float* x, const float* b,
              const float* c, const float* dt, float a, float d, float* h, float* y);
// One query over keys [keys, P] and values [keys, P], in double: what the answer is, not its order.
void AttendExact(const float* q, const float* k, const float* v, int64_t keys, int64_t head_dim,
                 double* out);
// The same in the order of ops.h for KvType kBF16 and kInt8.
void AttendInOrder(KvType type, const float* q, const float* k, const float* v, int64_t keys,
                   int64_t head_dim, float* out);

}  // namespace lode::kernels::ref

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/ref/ref.h"

namespace lode::kernels::ref {
namespace {

// 2^z, the polynomial of the fast kernels.
float Exp2(float z) {
  if (z < -126.0f) return 0.0f;
  const float shifted = z + 12582912.0f;
  const float r = z - (shifted - 12582912.0f);
  float p = 0x1.41fbbep-13f;
  for (const float c : {0x1.5f3e54p-10f, 0x1.3b2d4cp-7f, 0x1.c6aee8p-5f, 0x1.ebfbdcp-3f,
                        0x1.62e430p-1f, 1.0f}) {
    p = std::fma(p, r, c);
  }
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) + exponent);
}

struct Softmax {
  float m = -INFINITY;
  float l = 0.0f;
  std::vector<float> o;
};

void Merge(const Softmax& next, float scale, Softmax* into) {
  const float top = std::max(into->m, next.m);
  const float a = Exp2(into->m - top);
  const float b = Exp2(next.m - top);
  for (size_t i = 0; i < into->o.size(); ++i) {
    into->o[i] = std::fma(into->o[i], a, next.o[i] * (b * scale));
  }
  into->l = std::fma(into->l, a, next.l * b);
  into->m = top;
}

float RoundAndFlush(float x) {
  const float rounded = RoundToBF16(x);
  return std::abs(rounded) < 0x1p-126f ? 0.0f : rounded;
}

// Whole numbers and their scale.
struct Quantized {
  std::vector<int> q;
  float scale = 0.0f;
};

Quantized Quantize(const float* x, int64_t count) {
  float top = 0.0f;
  for (int64_t i = 0; i < count; ++i) top = std::max(top, std::abs(x[i]));
  Quantized out;
  out.scale = top / 127.0f;
  const float inverse = top > 0.0f ? 127.0f / top : 0.0f;
  for (int64_t i = 0; i < count; ++i) {
    out.q.push_back(static_cast<int>(std::nearbyint(x[i] * inverse)));
  }
  return out;
}

// Sum over pairs ascending, of each the odd number first.
template <class A, class B>
float DotInPairs(int64_t count, const A& a, const B& b) {
  float sum = 0.0f;
  for (int64_t i = 0; i < count; i += 2) {
    if (i + 1 < count) sum = std::fma(a(i + 1), b(i + 1), sum);
    sum = std::fma(a(i), b(i), sum);
  }
  return sum;
}

float SumOf16Lanes(const std::vector<float>& x) {
  float lanes[16] = {};
  for (size_t i = 0; i < x.size(); ++i) lanes[i % 16] += x[i];
  for (int step = 8; step >= 1; step /= 2) {
    for (int i = 0; i < step; ++i) lanes[i] += lanes[i + step];
  }
  return lanes[0];
}

// One tile of up to 128 keys; o comes without `scale`.
Softmax Tile(KvType type, const float* q, const float* k, const float* v, int64_t keys,
             int64_t head_dim, float* scale) {
  const float factor = 1.44269504088896341f / std::sqrt(static_cast<float>(head_dim));
  const bool int8 = type == KvType::kInt8;
  const Quantized query = Quantize(q, head_dim);
  std::vector<float> p;
  std::vector<Quantized> values;
  for (int64_t j = 0; j < keys; ++j) {
    const float* key = k + j * head_dim;
    if (int8) {
      const Quantized quantized = Quantize(key, head_dim);
      int sum = 0;
      for (size_t i = 0; i < query.q.size(); ++i) sum += query.q[i] * quantized.q[i];
      p.push_back(static_cast<float>(sum) * (factor * query.scale * quantized.scale));
      values.push_back(Quantize(v + j * head_dim, head_dim));
    } else {
      p.push_back(DotInPairs(
                      head_dim, [&](int64_t i) { return RoundAndFlush(key[i]); },
                      [&](int64_t i) { return RoundAndFlush(q[i]); }) *
                  factor);
    }
  }
  Softmax tile;
  for (const float s : p) tile.m = std::max(tile.m, s);
  for (float& s : p) s = Exp2(s - tile.m);
  tile.l = SumOf16Lanes(p);
  float top = 0.0f;
  for (size_t j = 0; int8 && j < p.size(); ++j) {
    p[j] *= values[j].scale;
    top = std::max(top, p[j]);
  }
  *scale = int8 ? top / 255.0f : 1.0f;
  for (float& x : p) {
    x = int8 ? std::nearbyint(x * (top > 0.0f ? 255.0f / top : 0.0f)) : RoundToBF16(x);
  }
  for (int64_t i = 0; i < head_dim; ++i) {
    tile.o.push_back(DotInPairs(
        keys,
        [&](int64_t j) {
          return int8 ? static_cast<float>(values[static_cast<size_t>(j)].q[static_cast<size_t>(i)])
                      : RoundAndFlush(v[j * head_dim + i]);
        },
        [&](int64_t j) { return p[static_cast<size_t>(j)]; }));
  }
  return tile;
}

}  // namespace

void AttendInOrder(KvType type, const float* q, const float* k, const float* v, int64_t keys,
                   int64_t head_dim, float* out) {
  const auto width = static_cast<size_t>(head_dim);
  Softmax total;
  total.o.resize(width);
  for (int64_t span = 0; span < keys; span += kSpanTokens) {
    Softmax sum;
    sum.o.resize(width);
    for (int64_t tile = span; tile < std::min(keys, span + kSpanTokens); tile += kPageTokens) {
      float scale = 1.0f;
      const Softmax next = Tile(type, q, k + tile * head_dim, v + tile * head_dim,
                                std::min(kPageTokens, keys - tile), head_dim, &scale);
      Merge(next, scale, &sum);
    }
    Merge(sum, 1.0f, &total);
  }
  for (size_t i = 0; i < width; ++i) out[i] = total.o[i] / total.l;
}

void AttendExact(const float* q, const float* k, const float* v, int64_t keys, int64_t head_dim,
                 double* out) {
  std::vector<double> p(static_cast<size_t>(keys));
  double top = -INFINITY;
  for (int64_t j = 0; j < keys; ++j) {
    double score = 0.0;
    for (int64_t i = 0; i < head_dim; ++i) score += double{q[i]} * double{k[j * head_dim + i]};
    p[static_cast<size_t>(j)] = score / std::sqrt(static_cast<double>(head_dim));
    top = std::max(top, p[static_cast<size_t>(j)]);
  }
  double sum = 0.0;
  for (double& value : p) {
    value = std::exp(value - top);
    sum += value;
  }
  for (int64_t i = 0; i < head_dim; ++i) {
    out[i] = 0.0;
    for (int64_t j = 0; j < keys; ++j) {
      out[i] += p[static_cast<size_t>(j)] / sum * double{v[j * head_dim + i]};
    }
  }
}

}  // namespace lode::kernels::ref

// Scalar oracles of the gradients in kernels/grad.h, and of the operations they belong to, for any
// real type: in double they are held to finite differences, and the fast ones are held to them.
// Everything is plain loops in one thread; arrays are dense. A batch is sequences one after the
// other, given by their lengths; nothing flows from one to the next.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/grad.h"

namespace lode::kernels::ref {

template <class Real>
using Array = std::vector<Real>;

inline size_t Index(int64_t i) { return static_cast<size_t>(i); }

template <class Real>
Real Sigmoid(Real x) {
  return Real(1) / (Real(1) + std::exp(-x));
}
template <class Real>
Real SiluOf(Real x) {
  return x * Sigmoid(x);
}
// d silu(x) / dx
template <class Real>
Real SiluSlope(Real x) {
  const Real s = Sigmoid(x);
  return s * (Real(1) + x * (Real(1) - s));
}

// --- Norms --------------------------------------------------------------------------------------

template <class Real>
struct NormGrad {
  Array<Real> dx, dw;
};

// Over groups of the width; one group: the RMS norm.
template <class Real>
Array<Real> GroupNorm(const Array<Real>& x, const Array<Real>& w, double eps, int64_t groups) {
  const auto width = static_cast<int64_t>(w.size());
  const int64_t group = width / groups;
  Array<Real> y(x.size());
  for (size_t at = 0; at < x.size(); at += Index(group)) {
    Real squares = 0;
    for (size_t i = at; i < at + Index(group); ++i) squares += x[i] * x[i];
    const Real r = Real(1) / std::sqrt(squares / Real(group) + Real(eps));
    for (size_t i = at; i < at + Index(group); ++i) y[i] = x[i] * r * w[i % Index(width)];
  }
  return y;
}

template <class Real>
NormGrad<Real> GroupNormBackward(const Array<Real>& x, const Array<Real>& w, double eps,
                                 int64_t groups, const Array<Real>& dy) {
  const auto width = static_cast<int64_t>(w.size());
  const int64_t group = width / groups;
  NormGrad<Real> grad = {Array<Real>(x.size()), Array<Real>(w.size())};
  for (size_t at = 0; at < x.size(); at += Index(group)) {
    Real squares = 0, dot = 0;
    for (size_t i = at; i < at + Index(group); ++i) {
      squares += x[i] * x[i];
      dot += dy[i] * w[i % Index(width)] * x[i];
    }
    const Real r = Real(1) / std::sqrt(squares / Real(group) + Real(eps));
    for (size_t i = at; i < at + Index(group); ++i) {
      const Real g = dy[i] * w[i % Index(width)];
      grad.dx[i] = r * g - r * r * r * x[i] * dot / Real(group);
      grad.dw[i % Index(width)] += dy[i] * x[i] * r;
    }
  }
  return grad;
}

template <class Real>
Array<Real> GatedNorm(const Array<Real>& y, const Array<Real>& z, const Array<Real>& w, double eps,
                      int64_t groups) {
  Array<Real> u(y.size());
  for (size_t i = 0; i < y.size(); ++i) u[i] = y[i] * SiluOf(z[i]);
  return GroupNorm(u, w, eps, groups);
}

template <class Real>
struct GatedNormGrad {
  Array<Real> dy, dz, dw;
};

template <class Real>
GatedNormGrad<Real> GatedNormBackward(const Array<Real>& y, const Array<Real>& z,
                                      const Array<Real>& w, double eps, int64_t groups,
                                      const Array<Real>& dout) {
  Array<Real> u(y.size());
  for (size_t i = 0; i < y.size(); ++i) u[i] = y[i] * SiluOf(z[i]);
  NormGrad<Real> norm = GroupNormBackward(u, w, eps, groups, dout);
  GatedNormGrad<Real> grad = {Array<Real>(y.size()), Array<Real>(y.size()), norm.dw};
  for (size_t i = 0; i < y.size(); ++i) {
    grad.dy[i] = norm.dx[i] * SiluOf(z[i]);
    grad.dz[i] = norm.dx[i] * y[i] * SiluSlope(z[i]);
  }
  return grad;
}

// --- Mamba-2 ------------------------------------------------------------------------------------

// x [T, C], w [K, C]; rows before a sequence's first are zero.
template <class Real>
Array<Real> ConvSums(const Array<Real>& x, const Array<Real>& w, const Array<Real>& bias,
                     int64_t taps, const std::vector<int64_t>& lengths) {
  const auto channels = static_cast<int64_t>(bias.size());
  Array<Real> u(x.size());
  int64_t first = 0;
  for (const int64_t length : lengths) {
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t c = 0; c < channels; ++c) {
        Real sum = bias[Index(c)];
        for (int64_t j = 0; j < taps; ++j) {
          const int64_t from = t - (taps - 1) + j;
          if (from < 0) continue;
          sum += w[Index(j * channels + c)] * x[Index((first + from) * channels + c)];
        }
        u[Index((first + t) * channels + c)] = sum;
      }
    }
    first += length;
  }
  return u;
}

template <class Real>
Array<Real> ConvSilu(const Array<Real>& x, const Array<Real>& w, const Array<Real>& bias,
                     int64_t taps, const std::vector<int64_t>& lengths) {
  Array<Real> out = ConvSums(x, w, bias, taps, lengths);
  for (Real& value : out) value = SiluOf(value);
  return out;
}

template <class Real>
struct ConvGrad {
  Array<Real> dx, dw, dbias;
};

template <class Real>
ConvGrad<Real> ConvSiluBackward(const Array<Real>& x, const Array<Real>& w,
                                const Array<Real>& bias, int64_t taps,
                                const std::vector<int64_t>& lengths, const Array<Real>& dout) {
  const auto channels = static_cast<int64_t>(bias.size());
  const Array<Real> u = ConvSums(x, w, bias, taps, lengths);
  ConvGrad<Real> grad = {Array<Real>(x.size()), Array<Real>(w.size()), Array<Real>(bias.size())};
  int64_t first = 0;
  for (const int64_t length : lengths) {
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t c = 0; c < channels; ++c) {
        const size_t at = Index((first + t) * channels + c);
        const Real du = dout[at] * SiluSlope(u[at]);
        grad.dbias[Index(c)] += du;
        for (int64_t j = 0; j < taps; ++j) {
          const int64_t from = t - (taps - 1) + j;
          if (from < 0) continue;
          const size_t source = Index((first + from) * channels + c);
          grad.dw[Index(j * channels + c)] += du * x[source];
          grad.dx[source] += du * w[Index(j * channels + c)];
        }
      }
    }
    first += length;
  }
  return grad;
}

template <class Real>
Real SoftplusOf(Real x) {
  return std::max(x, Real(0)) + std::log1p(std::exp(-std::abs(x)));
}

// x and y [T, H P], b and c [T, G N], dt [T, H], a and d [H].
template <class Real>
struct ScanInputs {
  Array<Real> x, b, c, dt, a, d;
};

// One head of one sequence: every state, [T + 1][N][P], of which the first is zero.
template <class Real>
Array<Real> HeadStates(const ScanShape& s, const ScanInputs<Real>& in, int64_t first,
                       int64_t length, int64_t head) {
  const int64_t inner = s.heads * s.head_dim, group = head / (s.heads / s.groups);
  const int64_t size = s.state * s.head_dim;
  Array<Real> states(Index((length + 1) * size));
  for (int64_t t = 0; t < length; ++t) {
    const Real dt = in.dt[Index((first + t) * s.heads + head)];
    const Real decay = std::exp(dt * in.a[Index(head)]);
    for (int64_t n = 0; n < s.state; ++n) {
      const Real b = in.b[Index((first + t) * s.groups * s.state + group * s.state + n)];
      for (int64_t p = 0; p < s.head_dim; ++p) {
        const Real x = in.x[Index((first + t) * inner + head * s.head_dim + p)];
        const size_t at = Index(t * size + n * s.head_dim + p);
        states[at + Index(size)] = states[at] * decay + dt * x * b;
      }
    }
  }
  return states;
}

template <class Real>
Array<Real> Scan(const ScanShape& s, const ScanInputs<Real>& in,
                 const std::vector<int64_t>& lengths) {
  const int64_t inner = s.heads * s.head_dim, size = s.state * s.head_dim;
  Array<Real> y(in.x.size());
  int64_t first = 0;
  for (const int64_t length : lengths) {
    for (int64_t head = 0; head < s.heads; ++head) {
      const int64_t group = head / (s.heads / s.groups);
      const Array<Real> states = HeadStates(s, in, first, length, head);
      for (int64_t t = 0; t < length; ++t) {
        for (int64_t p = 0; p < s.head_dim; ++p) {
          const size_t at = Index((first + t) * inner + head * s.head_dim + p);
          Real sum = in.d[Index(head)] * in.x[at];
          for (int64_t n = 0; n < s.state; ++n) {
            sum += states[Index((t + 1) * size + n * s.head_dim + p)] *
                   in.c[Index((first + t) * s.groups * s.state + group * s.state + n)];
          }
          y[at] = sum;
        }
      }
    }
    first += length;
  }
  return y;
}

// The recurrence in reverse: g is what the loss feels of the state after token t.
template <class Real>
ScanInputs<Real> ScanBackward(const ScanShape& s, const ScanInputs<Real>& in,
                              const std::vector<int64_t>& lengths, const Array<Real>& dy) {
  const int64_t inner = s.heads * s.head_dim, size = s.state * s.head_dim;
  ScanInputs<Real> grad = {Array<Real>(in.x.size()),  Array<Real>(in.b.size()),
                           Array<Real>(in.c.size()),  Array<Real>(in.dt.size()),
                           Array<Real>(in.a.size()), Array<Real>(in.d.size())};
  int64_t first = 0;
  for (const int64_t length : lengths) {
    for (int64_t head = 0; head < s.heads; ++head) {
      const int64_t group = head / (s.heads / s.groups);
      const Array<Real> states = HeadStates(s, in, first, length, head);
      Array<Real> g(Index(size));
      for (int64_t t = length - 1; t >= 0; --t) {
        const size_t row = Index((first + t) * inner + head * s.head_dim);
        const size_t bc = Index((first + t) * s.groups * s.state + group * s.state);
        const size_t step = Index((first + t) * s.heads + head);
        const Real dt = in.dt[step], a = in.a[Index(head)], decay = std::exp(dt * a);
        Real ddecay = 0, ddt = 0;
        for (int64_t p = 0; p < s.head_dim; ++p) {
          const Real dyp = dy[row + Index(p)], x = in.x[row + Index(p)];
          grad.d[Index(head)] += dyp * x;
          Real du = 0;
          for (int64_t n = 0; n < s.state; ++n) {
            const size_t at = Index(n * s.head_dim + p);
            g[at] += dyp * in.c[bc + Index(n)];
            grad.c[bc + Index(n)] += dyp * states[Index((t + 1) * size) + at];
            grad.b[bc + Index(n)] += g[at] * dt * x;
            du += g[at] * in.b[bc + Index(n)];
            ddecay += g[at] * states[Index(t * size) + at];
            g[at] *= decay;
          }
          grad.x[row + Index(p)] += dt * du + in.d[Index(head)] * dyp;
          ddt += du * x;
        }
        grad.dt[step] += ddt + ddecay * decay * a;
        grad.a[Index(head)] += ddecay * decay * dt;
      }
    }
    first += length;
  }
  return grad;
}

// --- Attention ----------------------------------------------------------------------------------

// q and out [T, H P], k and v [T, K P].
template <class Real>
struct Heads {
  Array<Real> q, k, v;
};

// softmax(q k / sqrt(P)) of one query row over its own sequence's rows up to itself.
template <class Real>
Array<Real> Probabilities(const AttentionShape& s, const Heads<Real>& in, int64_t first, int64_t t,
                          int64_t head) {
  const int64_t kv = head / (s.heads / s.kv_heads);
  Array<Real> p(Index(t + 1));
  Real largest = -std::numeric_limits<Real>::infinity(), sum = 0;
  for (int64_t j = 0; j <= t; ++j) {
    Real score = 0;
    for (int64_t i = 0; i < s.head_dim; ++i) {
      score += in.q[Index(((first + t) * s.heads + head) * s.head_dim + i)] *
               in.k[Index(((first + j) * s.kv_heads + kv) * s.head_dim + i)];
    }
    p[Index(j)] = score / std::sqrt(Real(s.head_dim));
    largest = std::max(largest, p[Index(j)]);
  }
  for (Real& value : p) sum += value = std::exp(value - largest);
  for (Real& value : p) value /= sum;
  return p;
}

template <class Real>
Array<Real> Attend(const AttentionShape& s, const Heads<Real>& in,
                   const std::vector<int64_t>& lengths) {
  Array<Real> out(in.q.size());
  int64_t first = 0;
  for (const int64_t length : lengths) {
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t head = 0; head < s.heads; ++head) {
        const int64_t kv = head / (s.heads / s.kv_heads);
        const Array<Real> p = Probabilities(s, in, first, t, head);
        for (int64_t j = 0; j <= t; ++j) {
          for (int64_t i = 0; i < s.head_dim; ++i) {
            out[Index(((first + t) * s.heads + head) * s.head_dim + i)] +=
                p[Index(j)] * in.v[Index(((first + j) * s.kv_heads + kv) * s.head_dim + i)];
          }
        }
      }
    }
    first += length;
  }
  return out;
}

template <class Real>
Heads<Real> AttendBackward(const AttentionShape& s, const Heads<Real>& in,
                           const std::vector<int64_t>& lengths, const Array<Real>& dout) {
  Heads<Real> grad = {Array<Real>(in.q.size()), Array<Real>(in.k.size()),
                      Array<Real>(in.v.size())};
  const Real scale = Real(1) / std::sqrt(Real(s.head_dim));
  int64_t first = 0;
  for (const int64_t length : lengths) {
    for (int64_t t = 0; t < length; ++t) {
      for (int64_t head = 0; head < s.heads; ++head) {
        const int64_t kv = head / (s.heads / s.kv_heads);
        const Array<Real> p = Probabilities(s, in, first, t, head);
        const size_t q = Index(((first + t) * s.heads + head) * s.head_dim);
        const auto key = [&](int64_t j) {
          return Index(((first + j) * s.kv_heads + kv) * s.head_dim);
        };
        Array<Real> dp(p.size());
        Real delta = 0;
        for (int64_t j = 0; j <= t; ++j) {
          for (size_t i = 0; i < Index(s.head_dim); ++i) {
            dp[Index(j)] += dout[q + i] * in.v[key(j) + i];
            grad.v[key(j) + i] += p[Index(j)] * dout[q + i];
          }
          delta += p[Index(j)] * dp[Index(j)];
        }
        for (int64_t j = 0; j <= t; ++j) {
          const Real ds = p[Index(j)] * (dp[Index(j)] - delta) * scale;
          for (size_t i = 0; i < Index(s.head_dim); ++i) {
            grad.q[q + i] += ds * in.k[key(j) + i];
            grad.k[key(j) + i] += ds * in.q[q + i];
          }
        }
      }
    }
    first += length;
  }
  return grad;
}

// --- Mixture of experts -------------------------------------------------------------------------

// Weights of the experts that were chosen (ids [T, top_k]), from logits [T, E].
template <class Real>
Array<Real> RouteWeights(const RouterShape& s, const Array<Real>& logits,
                         const std::vector<int32_t>& ids) {
  Array<Real> weights(ids.size());
  for (size_t at = 0; at < ids.size(); at += Index(s.top_k)) {
    const size_t row = at / Index(s.top_k) * Index(s.experts);
    Real sum = 0;
    for (size_t i = at; i < at + Index(s.top_k); ++i) {
      weights[i] = Sigmoid(logits[row + Index(ids[i])]);
      sum += weights[i];
    }
    for (size_t i = at; i < at + Index(s.top_k); ++i) {
      weights[i] *= Real(s.scale) / (s.normalize ? sum + Real(1e-20) : Real(1));
    }
  }
  return weights;
}

template <class Real>
Array<Real> RouteBackward(const RouterShape& s, const Array<Real>& logits,
                          const std::vector<int32_t>& ids, const Array<Real>& dweights) {
  Array<Real> dlogits(logits.size());
  for (size_t at = 0; at < ids.size(); at += Index(s.top_k)) {
    const size_t row = at / Index(s.top_k) * Index(s.experts);
    Real sum = 0, dot = 0;
    for (size_t i = at; i < at + Index(s.top_k); ++i) {
      const Real score = Sigmoid(logits[row + Index(ids[i])]);
      sum += score;
      dot += dweights[i] * score;
    }
    for (size_t i = at; i < at + Index(s.top_k); ++i) {
      const Real score = Sigmoid(logits[row + Index(ids[i])]);
      const Real ds = s.normalize ? Real(s.scale) / sum * (dweights[i] - dot / sum)
                                  : Real(s.scale) * dweights[i];
      dlogits[row + Index(ids[i])] = ds * score * (Real(1) - score);
    }
  }
  return dlogits;
}

// The balancing loss of each sequence: alpha E / (top_k T^2) sum_e count_e sum_t p_te, with p the
// scores over their sum and the counts constant.
template <class Real>
Real BalanceLoss(const RouterShape& s, const Array<Real>& logits, const std::vector<int32_t>& ids,
                 const std::vector<int64_t>& lengths, double alpha) {
  Real loss = 0;
  int64_t first = 0;
  for (const int64_t length : lengths) {
    Array<Real> counts(Index(s.experts)), shares(Index(s.experts));
    for (int64_t t = first; t < first + length; ++t) {
      for (int64_t k = 0; k < s.top_k; ++k) counts[Index(ids[Index(t * s.top_k + k)])] += 1;
      Real sum = 0;
      for (int64_t e = 0; e < s.experts; ++e) sum += Sigmoid(logits[Index(t * s.experts + e)]);
      for (int64_t e = 0; e < s.experts; ++e) {
        shares[Index(e)] += Sigmoid(logits[Index(t * s.experts + e)]) / sum;
      }
    }
    for (size_t e = 0; e < counts.size(); ++e) {
      loss += Real(alpha) * Real(s.experts) / Real(s.top_k * length * length) * counts[e] *
              shares[e];
    }
    first += length;
  }
  return loss;
}

template <class Real>
Array<Real> BalanceBackward(const RouterShape& s, const Array<Real>& logits,
                            const std::vector<int32_t>& ids, const std::vector<int64_t>& lengths,
                            double alpha) {
  Array<Real> dlogits(logits.size());
  int64_t first = 0;
  for (const int64_t length : lengths) {
    Array<Real> k(Index(s.experts));
    for (int64_t i = first * s.top_k; i < (first + length) * s.top_k; ++i) {
      k[Index(ids[Index(i)])] +=
          Real(alpha) * Real(s.experts) / Real(s.top_k * length * length);
    }
    for (int64_t t = first; t < first + length; ++t) {
      Real sum = 0, dot = 0;
      for (int64_t e = 0; e < s.experts; ++e) {
        const Real score = Sigmoid(logits[Index(t * s.experts + e)]);
        sum += score;
        dot += k[Index(e)] * score;
      }
      for (int64_t e = 0; e < s.experts; ++e) {
        const Real score = Sigmoid(logits[Index(t * s.experts + e)]);
        dlogits[Index(t * s.experts + e)] =
            (k[Index(e)] - dot / sum) / sum * score * (Real(1) - score);
      }
    }
    first += length;
  }
  return dlogits;
}

// --- Loss ---------------------------------------------------------------------------------------

// log sum exp of each row [T, V].
template <class Real>
Array<Real> LogSumExp(const Array<Real>& logits, size_t rows) {
  const size_t width = logits.size() / rows;
  Array<Real> out(rows);
  for (size_t t = 0; t < rows; ++t) {
    const Real* row = logits.data() + t * width;
    const Real largest = *std::max_element(row, row + width);
    Real sum = 0;
    for (size_t i = 0; i < width; ++i) sum += std::exp(row[i] - largest);
    out[t] = largest + std::log(sum);
  }
  return out;
}

// log softmax(logits)[target] of each row.
template <class Real>
Array<Real> LogProbabilities(const Array<Real>& logits, const std::vector<int32_t>& targets) {
  Array<Real> out = LogSumExp(logits, targets.size());
  const size_t width = logits.size() / targets.size();
  for (size_t t = 0; t < targets.size(); ++t) {
    out[t] = logits[t * width + Index(targets[t])] - out[t];
  }
  return out;
}

// dlogits of - sum_t coefficient_t log p_t.
template <class Real>
Array<Real> CrossEntropyBackward(const Array<Real>& logits, const std::vector<int32_t>& targets,
                                 const Array<Real>& coefficients) {
  const Array<Real> sums = LogSumExp(logits, targets.size());
  const size_t width = logits.size() / targets.size();
  Array<Real> out(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    const size_t t = i / width;
    const Real p = std::exp(logits[i] - sums[t]);
    out[i] = coefficients[t] * (p - (i % width == Index(targets[t]) ? Real(1) : Real(0)));
  }
  return out;
}

}  // namespace lode::kernels::ref

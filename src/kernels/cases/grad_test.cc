// The gradients of kernels/grad.h against their oracles in double, on every instruction set, with
// odd shapes and any number of threads.
#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "kernels/cases/support.h"
#include "kernels/grad.h"
#include "kernels/ref/grad.h"

namespace lode::kernels {
namespace {

using cases::OnEveryIsa;
using cases::OnEveryTarget;
using cases::Random;
using cases::SameBits;
using Floats = std::vector<float>;
using Doubles = std::vector<double>;

Doubles Wide(const Floats& x) { return Doubles(x.begin(), x.end()); }

// |got - want| over |want|, both as vectors.
double Distance(const Floats& got, const Doubles& want) {
  EXPECT_EQ(got.size(), want.size());
  double error = 0.0, norm = 0.0;
  for (size_t i = 0; i < got.size(); ++i) {
    error += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(error / norm);
}

constexpr double kPointwise = 1e-6, kSums = 1e-5;  // relative, of the whole

std::vector<RowRange> RangesOf(const std::vector<int64_t>& lengths) {
  std::vector<RowRange> ranges;
  int64_t first = 0;
  for (const int64_t length : lengths) {
    ranges.push_back({first, length});
    first += length;
  }
  return ranges;
}

// A pool and what the operations may use.
struct Machine {
  explicit Machine(int threads, int64_t scratch = 1 << 20)
      : pool(threads), context(&pool, scratch, 1 << 20) {}
  ThreadPool pool;
  Context context;
};

// Calls body(machine) with one and three threads on every target: what it returns must have the
// same bits both times.
template <class Body>
void SameOnAnyThreads(const Body& body) {
  OnEveryTarget([&](int64_t) {
    Machine one(1), three(3);
    const std::vector<Floats> a = body(one), b = body(three);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(SameBits(a[i], b[i])) << i;
  });
}

TEST(Grad, Norms) {
  for (const int64_t width : {48, 37, 256}) {
    const int64_t rows = 9;
    const Floats x = Random(rows * width, 1), w = Random(width, 2), dy = Random(rows * width, 3);
    const Floats before = Random(rows * width, 4), dw_before = Random(width, 5);
    auto want = ref::GroupNormBackward(Wide(x), Wide(w), 1e-5, 1, Wide(dy));
    for (size_t i = 0; i < want.dx.size(); ++i) want.dx[i] += before[i];
    for (size_t i = 0; i < want.dw.size(); ++i) want.dw[i] += dw_before[i];
    SameOnAnyThreads([&](Machine& m) {
      Floats dx = before, dw = dw_before, inverse(rows);
      RmsNormBackward(m.context, x.data(), width, w.data(), 1e-5f, dy.data(), width, rows, width,
                      dx.data(), width, dw.data(), inverse.data());
      EXPECT_LT(Distance(dx, want.dx), kPointwise);
      EXPECT_LT(Distance(dw, want.dw), kPointwise);
      return std::vector<Floats>{dx, dw};
    });
  }
}

TEST(Grad, GatedNorms) {
  for (const int64_t group : {32, 23}) {
    const int64_t rows = 7, groups = 3, width = group * groups;
    const Floats y = Random(rows * width, 1), z = Random(rows * width, 2), w = Random(width, 3);
    const Floats dout = Random(rows * width, 4);
    const auto want =
        ref::GatedNormBackward(Wide(y), Wide(z), Wide(w), 1e-5, groups, Wide(dout));
    SameOnAnyThreads([&](Machine& m) {
      Floats dy = dout, dz(dy.size()), dw(w.size(), 0.0f), inverse(rows * groups);
      GatedRmsNormBackward(m.context, y.data(), width, z.data(), width, w.data(), 1e-5f, rows,
                           width, groups, dy.data(), width, dz.data(), width, dw.data(),
                           inverse.data());
      EXPECT_LT(Distance(dy, want.dy), kPointwise);
      EXPECT_LT(Distance(dz, want.dz), kPointwise);
      EXPECT_LT(Distance(dw, want.dw), kPointwise);
      return std::vector<Floats>{dy, dz, dw};
    });
  }
}

TEST(Grad, Convolutions) {
  const std::vector<int64_t> lengths = {1, 2, 40, 3};
  const std::vector<RowRange> ranges = RangesOf(lengths);
  for (const int64_t channels : {80, 21}) {
    for (const int64_t taps : {4, 2}) {
      const Floats x = Random(46 * channels, 1), w = Random(taps * channels, 2);
      const Floats bias = Random(channels, 3), dout = Random(46 * channels, 4);
      const auto want =
          ref::ConvSiluBackward(Wide(x), Wide(w), Wide(bias), taps, lengths, Wide(dout));
      SameOnAnyThreads([&](Machine& m) {
        Floats dx(x.size(), NAN), dw(w.size(), 0.0f), dbias(bias.size(), 0.0f);
        CausalConvSiluBackward(m.context, ranges, x.data(), channels, w.data(), bias.data(), taps,
                               channels, dout.data(), channels, dx.data(), channels, dw.data(),
                               dbias.data());
        EXPECT_LT(Distance(dx, want.dx), kPointwise);
        EXPECT_LT(Distance(dw, want.dw), kPointwise);
        EXPECT_LT(Distance(dbias, want.dbias), kPointwise);
        return std::vector<Floats>{dx, dw, dbias};
      });
    }
  }
}

TEST(Grad, Softplus) {
  const int64_t rows = 11, width = 13;
  const Floats x = Random(rows * width, 1, 3.0f), bias = Random(width, 2);
  const Floats dy = Random(rows * width, 3);
  Doubles want(x.size()), want_bias(bias.size());
  for (size_t i = 0; i < x.size(); ++i) {
    want[i] = dy[i] * ref::Sigmoid<double>(x[i] + bias[i % 13]);
    want_bias[i % 13] += want[i];
  }
  SameOnAnyThreads([&](Machine& m) {
    Floats dx(x.size(), NAN), dbias(bias.size(), 0.0f);
    SoftplusBackward(m.context, x.data(), width, bias.data(), dy.data(), width, rows, width,
                     dx.data(), width, dbias.data());
    EXPECT_LT(Distance(dx, want), kPointwise);
    EXPECT_LT(Distance(dbias, want_bias), kPointwise);
    return std::vector<Floats>{dx, dbias};
  });
}

struct ScanCase {
  ScanShape shape;
  std::vector<int64_t> lengths;
};

TEST(Grad, Scans) {
  const ScanCase all[] = {{{4, 16, 2, 16}, {33, 1, 64, 5}},
                          {{2, 64, 1, 128}, {100}},
                          {{3, 7, 3, 9}, {31, 32, 2}},
                          {{4, 20, 1, 24}, {70, 9}}};
  for (const ScanCase& each : all) {
    const ScanShape& s = each.shape;
    int64_t rows = 0;
    for (const int64_t length : each.lengths) rows += length;
    const int64_t inner = s.heads * s.head_dim, shared = s.groups * s.state;
    const int64_t stride = inner + 2 * shared;
    ref::ScanInputs<double> in = {Wide(Random(rows * inner, 1)),   Wide(Random(rows * shared, 2)),
                                  Wide(Random(rows * shared, 3)),  Wide(Random(rows * s.heads, 4)),
                                  Wide(Random(s.heads, 5)),        Wide(Random(s.heads, 6))};
    for (double& dt : in.dt) dt = static_cast<float>(0.02 + 0.2 * std::abs(dt));
    for (double& a : in.a) a = static_cast<float>(-0.3 - std::abs(a));
    Floats xbc(static_cast<size_t>(rows * stride));
    for (int64_t t = 0; t < rows; ++t) {
      float* row = xbc.data() + t * stride;
      for (int64_t i = 0; i < inner; ++i) {
        row[i] = static_cast<float>(in.x[ref::Index(t * inner + i)]);
      }
      for (int64_t i = 0; i < shared; ++i) {
        row[inner + i] = static_cast<float>(in.b[ref::Index(t * shared + i)]);
        row[inner + shared + i] = static_cast<float>(in.c[ref::Index(t * shared + i)]);
      }
    }
    const Floats dt(in.dt.begin(), in.dt.end()), a(in.a.begin(), in.a.end());
    const Floats d(in.d.begin(), in.d.end()), dy = Random(rows * inner, 7);
    const auto want = ref::ScanBackward(s, in, each.lengths, Wide(dy));
    Doubles want_xbc(xbc.size());
    for (int64_t t = 0; t < rows; ++t) {
      double* row = want_xbc.data() + t * stride;
      for (int64_t i = 0; i < inner; ++i) row[i] = want.x[ref::Index(t * inner + i)];
      for (int64_t i = 0; i < shared; ++i) {
        row[inner + i] = want.b[ref::Index(t * shared + i)];
        row[inner + shared + i] = want.c[ref::Index(t * shared + i)];
      }
    }
    const std::vector<RowRange> ranges = RangesOf(each.lengths);
    SameOnAnyThreads([&](Machine& m) {
      Floats dxbc(xbc.size(), NAN), ddt(dt.size(), NAN), da(a.size(), 0.0f), dd(d.size(), 0.0f);
      Floats room(static_cast<size_t>(
          ScanBackwardSharedFloats(s, static_cast<int64_t>(ranges.size()))));
      LODE_CHECK(ScanBackwardScratchFloats(s, rows) <= 1 << 20);
      SelectiveScanBackward(m.context, s, ranges, xbc.data(), xbc.data() + inner,
                            xbc.data() + inner + shared, stride, dt.data(), s.heads, a.data(),
                            d.data(), dy.data(), inner, room.data(),
                            {dxbc.data(), dxbc.data() + inner, dxbc.data() + inner + shared, stride,
                             ddt.data(), da.data(), dd.data()});
      EXPECT_LT(Distance(dxbc, want_xbc), kSums);
      EXPECT_LT(Distance(ddt, want.dt), kSums);
      EXPECT_LT(Distance(da, want.a), kSums);
      EXPECT_LT(Distance(dd, want.d), kSums);
      return std::vector<Floats>{dxbc, ddt, da, dd};
    });
  }
}

TEST(Grad, Attentions) {
  struct AttentionCase {
    AttentionShape shape;
    std::vector<int64_t> lengths;
  };
  const AttentionCase all[] = {{{4, 2, 32, KvType::kF32}, {65, 1, 30}},
                               {{3, 1, 20, KvType::kF32}, {130}},
                               {{2, 2, 64, KvType::kF32}, {7, 64, 33}}};
  for (const AttentionCase& each : all) {
    const AttentionShape& s = each.shape;
    int64_t rows = 0;
    for (const int64_t length : each.lengths) rows += length;
    const int64_t q_width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
    const Floats q = Random(rows * q_width, 1, 1.5f), k = Random(rows * kv_width, 2);
    const Floats v = Random(rows * kv_width, 3), dout = Random(rows * q_width, 4);
    const ref::Heads<double> in = {Wide(q), Wide(k), Wide(v)};
    const Doubles exact = ref::Attend(s, in, each.lengths);
    const Floats out(exact.begin(), exact.end());
    const auto want = ref::AttendBackward(s, in, each.lengths, Wide(dout));
    const std::vector<RowRange> ranges = RangesOf(each.lengths);
    SameOnAnyThreads([&](Machine& m) {
      Floats dq(q.size(), NAN), dk(k.size(), NAN), dv(v.size(), NAN);
      LODE_CHECK(AttentionBackwardScratchFloats(s, rows) <= 1 << 20);
      AttentionBackward(m.context, s, ranges, q.data(), q_width, k.data(), v.data(), kv_width,
                        out.data(), q_width, dout.data(), q_width,
                        {dq.data(), dk.data(), dv.data(), q_width, kv_width});
      EXPECT_LT(Distance(dq, want.q), kSums);
      EXPECT_LT(Distance(dk, want.k), kSums);
      EXPECT_LT(Distance(dv, want.v), kSums);
      return std::vector<Floats>{dq, dk, dv};
    });
  }
}

TEST(Grad, Routing) {
  const RouterShape shape = {10, 3, true, 2.5};
  const std::vector<int64_t> lengths = {4, 1, 6};
  const Floats logits = Random(11 * 10, 1), dweights = Random(33, 2);
  std::vector<int32_t> ids;
  for (int32_t t = 0; t < 11; ++t) {
    for (const int32_t e : {t % 3, 3 + t % 4, 7 + t % 3}) ids.push_back(e);
  }
  Doubles want = ref::RouteBackward(shape, Wide(logits), ids, Wide(dweights));
  const Doubles balance = ref::BalanceBackward(shape, Wide(logits), ids, lengths, 0.4);
  for (size_t i = 0; i < want.size(); ++i) want[i] += balance[i];
  SameOnAnyThreads([&](Machine& m) {
    Floats dlogits(logits.size(), NAN);
    const double loss = RouteBackward(m.context, shape, RangesOf(lengths), logits.data(),
                                      ids.data(), dweights.data(), 0.4, dlogits.data());
    EXPECT_NEAR(loss, ref::BalanceLoss(shape, Wide(logits), ids, lengths, 0.4), 1e-5);
    EXPECT_LT(Distance(dlogits, want), kPointwise);
    return std::vector<Floats>{dlogits};
  });
}

TEST(Grad, SlotsOfExperts) {
  const int64_t rows = 5, top_k = 3, width = 21;
  const Floats weights = Random(15, 1), dy = Random(rows * width, 2), x = Random(15 * width, 3);
  std::vector<int32_t> row_of;
  for (int32_t i = 0; i < 15; ++i) row_of.push_back(i * 4 % 15);
  SameOnAnyThreads([&](Machine& m) {
    Floats dx(x.size(), NAN), dots(15), sums = dy;
    CombineExpertsBackward(m.context, row_of.data(), weights.data(), dy.data(), width, rows, top_k,
                           width, dx.data(), width);
    SlotDots(m.context, x.data(), width, dy.data(), width, row_of.data(), rows, top_k, width,
             dots.data());
    GatherSum(m.context, x.data(), width, row_of.data(), rows, top_k, width, true, sums.data(),
              width);
    for (int64_t i = 0; i < 15; ++i) {
      double dot = 0.0;
      for (int64_t c = 0; c < width; ++c) {
        const size_t at = ref::Index(row_of[ref::Index(i)] * width + c);
        const size_t from = ref::Index(i / top_k * width + c);
        EXPECT_EQ(dx[at], weights[ref::Index(i)] * dy[from]);
        dot += static_cast<double>(x[at]) * dy[from];
      }
      EXPECT_NEAR(dots[ref::Index(i)], dot, 1e-4);
    }
    Doubles want(dy.begin(), dy.end());
    for (int64_t i = 0; i < 15 * width; ++i) {
      want[ref::Index(i / width / top_k * width + i % width)] +=
          x[ref::Index(row_of[ref::Index(i / width)] * width + i % width)];
    }
    EXPECT_LT(Distance(sums, want), kPointwise);
    return std::vector<Floats>{dx, dots, sums};
  });
}

TEST(Grad, EmbeddingsAndLosses) {
  const int64_t vocabulary = 75, rows = 6, width = 70;
  const std::vector<int32_t> tokens = {3, 3, 74, 0, 3, 11};
  const Floats dx = Random(rows * width, 1), logits = Random(rows * vocabulary, 2, 4.0f);
  const Floats coefficients = {0.5f, 0.0f, -1.0f, 2.0f, 0.25f, 1.0f};
  Doubles table(static_cast<size_t>(vocabulary * width));
  for (int64_t i = 0; i < rows * width; ++i) {
    table[ref::Index(tokens[ref::Index(i / width)] * width + i % width)] += dx[ref::Index(i)];
  }
  const Doubles want = ref::CrossEntropyBackward(Wide(logits), tokens, Wide(coefficients));
  const Doubles log_p = ref::LogProbabilities(Wide(logits), tokens);
  const Doubles sums = ref::LogSumExp(Wide(logits), tokens.size());
  SameOnAnyThreads([&](Machine& m) {
    Floats dtable(table.size(), 0.0f), dlogits = logits, got(tokens.size()), entropy(tokens.size());
    EmbedBackward(m.context, tokens, dx.data(), width, width, dtable.data());
    EXPECT_LT(Distance(dtable, table), kPointwise);
    CrossEntropy(m.context, dlogits.data(), rows, vocabulary, tokens.data(), coefficients.data(),
                 got.data(), entropy.data());
    EXPECT_LT(Distance(dlogits, want), kPointwise);
    EXPECT_LT(Distance(got, log_p), kPointwise);
    for (size_t t = 0; t < tokens.size(); ++t) {
      double of_row = 0.0;
      for (size_t i = 0; i < ref::Index(vocabulary); ++i) {
        const double l = logits[t * ref::Index(vocabulary) + i] - sums[t];
        of_row -= std::exp(l) * l;
      }
      EXPECT_NEAR(entropy[t], of_row, 1e-5);
    }
    return std::vector<Floats>{dtable, dlogits, got, entropy};
  });
}

TEST(Grad, SquaredRelu) {
  Floats h = Random(5000, 1), a = h;
  for (float& x : a) x = x > 0.0f ? x * x : 0.0f;
  const Floats da = Random(5000, 2);
  SameOnAnyThreads([&](Machine& m) {
    Floats dh = da;
    ReluSquaredBackward(m.context, a.data(), 5000, dh.data());
    for (size_t i = 0; i < h.size(); ++i) {
      EXPECT_NEAR(dh[i], 2.0f * std::max(h[i], 0.0f) * da[i], 1e-5f);
    }
    return std::vector<Floats>{dh};
  });
}

// dX = dY W and dW = dY^T X through the product of ops.h.
TEST(Grad, ProductsOfPackedMatrices) {
  const int64_t rows = 37, in = 45, out = 70;
  const Floats x = Random(rows * in, 1), w = Random(out * in, 2), dy = Random(rows * out, 3);
  Doubles want_dx(x.size()), want_dw(w.size()), want_y(dy.size());
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t o = 0; o < out; ++o) {
      for (int64_t i = 0; i < in; ++i) {
        const double d = dy[ref::Index(t * out + o)];
        want_dx[ref::Index(t * in + i)] += d * w[ref::Index(o * in + i)];
        want_dw[ref::Index(o * in + i)] += d * x[ref::Index(t * in + i)];
        want_y[ref::Index(t * out + o)] +=
            static_cast<double>(x[ref::Index(t * in + i)]) * w[ref::Index(o * in + i)];
      }
    }
  }
  OnEveryIsa([&](Isa) {
    for (const tensor::DType type : {tensor::DType::kF32, tensor::DType::kBF16}) {
      Machine m(2);
      const double bound = type == tensor::DType::kF32 ? kPointwise : 4e-3;
      const auto bytes = [&](int64_t outputs, int64_t inputs) {
        return (PackedMatrixBytes(outputs, inputs, type) + 63) / 64 * 64;
      };
      std::vector<std::byte> memory(bytes(in, out) + bytes(in, rows) + bytes(out, in) + 64);
      auto* at = reinterpret_cast<std::byte*>(
          (reinterpret_cast<uintptr_t>(memory.data()) + 63) / 64 * 64);
      const Weight turned = PackTransposed(m.context, w.data(), in, out, in, type, at);
      const Weight inputs =
          PackTransposed(m.context, x.data(), in, rows, in, type, at + bytes(in, out));
      const Weight plain = PackRows(m.context, w.data(), in, out, in, type,
                                    at + bytes(in, out) + bytes(in, rows));
      Floats dx(x.size()), dw(w.size(), 0.0f), y(dy.size()), dy_t(dy.size());
      Transpose(m.context, dy.data(), out, rows, out, dy_t.data(), rows);
      const auto native = Precision::kNative;
      const MatMulJob jobs[] = {
          {&turned, dy.data(), out, dx.data(), in, rows, Epilogue::kStore, native},
          {&inputs, dy_t.data(), rows, dw.data(), in, out, Epilogue::kAdd, native},
          {&plain, x.data(), in, y.data(), out, rows, Epilogue::kStore, native}};
      MatMul(m.context, jobs);
      EXPECT_LT(Distance(dx, want_dx), bound);
      EXPECT_LT(Distance(dw, want_dw), bound);
      EXPECT_LT(Distance(y, want_y), bound);
    }
  });
}

}  // namespace
}  // namespace lode::kernels

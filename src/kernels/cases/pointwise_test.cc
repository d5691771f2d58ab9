#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/cases/support.h"
#include "kernels/ref/ref.h"

namespace lode::kernels {
namespace {

using cases::OnEveryTarget;
using cases::Random;
using cases::SameBits;

void ExpectNear(const std::vector<float>& got, const std::vector<float>& want, float relative) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_NEAR(got[i], want[i], relative * (1.0f + std::abs(want[i]))) << i;
  }
}

TEST(RmsNorm, EqualsTheOracleBitForBitAtAnyWidth) {
  for (const int64_t width : {1, 15, 16, 17, 64, 257, 4096}) {
    const auto x = Random(3 * width, 1, 3.0f);
    const auto w = Random(width, 2);
    std::vector<float> want(x.size());
    for (int64_t t = 0; t < 3; ++t) {
      ref::RmsNorm(x.data() + t * width, w.data(), 1e-5f, width, want.data() + t * width);
    }
    OnEveryTarget([&](int64_t target) {
      ThreadPool pool(2);
      Context context(&pool, 1);
      std::vector<float> y(x.size());
      RmsNorm(context, x.data(), width, w.data(), 1e-5f, 3, width, y.data(), width);
      if (cases::HasFma(target)) {
        EXPECT_TRUE(SameBits(y, want)) << width;
      } else {
        ExpectNear(y, want, 1e-5f);
      }
    });
  }
}

TEST(GatedRmsNorm, GatesBeforeItNormalises) {
  const int64_t width = 96, groups = 3;
  const auto z = Random(2 * width, 2, 2.0f);
  const auto w = Random(width, 3);
  const auto y0 = Random(2 * width, 4);
  auto want = y0;
  for (int64_t t = 0; t < 2; ++t) {
    ref::GatedRmsNorm(want.data() + t * width, z.data() + t * width, w.data(), 1e-5f, width,
                      groups);
  }
  OnEveryTarget([&](int64_t) {
    ThreadPool pool(2);
    Context context(&pool, 1);
    auto y = y0;
    GatedRmsNorm(context, y.data(), width, z.data(), width, w.data(), 1e-5f, 2, width, groups);
    ExpectNear(y, want, 1e-5f);
  });
}

TEST(CausalConvSilu, KeepsItsHistoryAcrossChunksBitForBit) {
  const int64_t channels = 70, taps = 4, rows = 9;
  const auto x = Random((rows + taps - 1) * channels, 1);  // history first
  const auto w = Random(taps * channels, 2);
  const auto bias = Random(channels, 3);
  std::vector<float> want(static_cast<size_t>(rows * channels));
  ref::CausalConvSilu(x.data(), w.data(), bias.data(), taps, channels, rows, want.data());
  OnEveryTarget([&](int64_t) {
    std::vector<float> first;
    for (const int64_t chunk : {rows, int64_t{1}, int64_t{2}, int64_t{4}}) {
      for (const bool in_place : {true, false}) {
        ThreadPool pool(2);
        Context context(&pool, 1);
        std::vector<float> state(x.begin(), x.begin() + (taps - 1) * channels);
        std::vector<float> other(state.size());
        std::vector<float> out(want.size());
        float* source = state.data();
        float* target = in_place ? source : other.data();
        for (int64_t t = 0; t < rows; t += chunk) {
          const ConvSequence sequence = {{t, std::min(chunk, rows - t)}, source, target};
          CausalConvSilu(context, {&sequence, 1}, x.data() + (taps - 1) * channels, channels,
                         w.data(), bias.data(), taps, channels, out.data(), channels);
          if (!in_place) std::swap(source, target);
        }
        ExpectNear(out, want, 1e-5f);
        if (first.empty()) first = out;
        EXPECT_TRUE(SameBits(out, first)) << chunk;
        const std::vector<float> last(source, source + (taps - 1) * channels);
        EXPECT_TRUE(SameBits(last, {x.end() - (taps - 1) * channels, x.end()}));
      }
    }
  });
}

// Rows that may turn out wrong leave no trace, and those that stand are replayed: as if only these
// had been run.
TEST(CausalConvSilu, ReplaysTheRowsThatStandOfThoseItDidNotKeep) {
  const int64_t channels = 70, taps = 4, rows = 12;
  const auto x = Random((rows + taps - 1) * channels, 1);  // history first
  const auto w = Random(taps * channels, 2);
  const auto bias = Random(channels, 3);
  const float* first = x.data() + (taps - 1) * channels;
  OnEveryTarget([&](int64_t) {
    ThreadPool pool(2);
    Context context(&pool, 1);
    const auto run = [&](const ConvSequence& sequence, std::vector<float>* out) {
      CausalConvSilu(context, {&sequence, 1}, first, channels, w.data(), bias.data(), taps,
                     channels, out->data(), channels);
    };
    std::vector<float> state(x.begin(), x.begin() + (taps - 1) * channels), elsewhere(state.size());
    std::vector<float> want(static_cast<size_t>(rows * channels)), out(want.size());
    run({{0, rows}, state.data(), elsewhere.data()}, &want);
    float* source = state.data();
    float* target = elsewhere.data();
    // (rows run, of these standing): more and fewer than the history is long.
    int64_t at = 0, standing = 0;
    for (const auto& [tried, stand] : {std::pair<int64_t, int64_t>{3, 1}, {2, 2}, {5, 4}, {1, 1}}) {
      const auto before = std::vector<float>(source, source + state.size());
      run({{at, tried}, source, target, first + (at - standing) * channels, standing, false}, &out);
      if (standing == 0) {
        EXPECT_TRUE(SameBits(before, {source, source + state.size()}));
      } else {
        std::swap(source, target);
        const float* end = first + (at - (taps - 1)) * channels;
        EXPECT_TRUE(SameBits({source, source + state.size()}, {end, end + state.size()}));
      }
      at += stand;
      standing = stand;
    }
    run({{at, rows - at}, source, source, first + (at - standing) * channels, standing}, &out);
    EXPECT_TRUE(SameBits(out, want));
    EXPECT_TRUE(SameBits({source, source + state.size()},
                         {x.end() - (taps - 1) * channels, x.end()}));
  });
}

TEST(Softplus, HasNoClampAndNoOverflow) {
  const std::vector<float> x = {-100.0f, -20.0f, -1.0f, 0.0f, 0.5f, 3.0f, 20.0f, 100.0f, 88.9f};
  const std::vector<float> bias(x.size(), 0.25f);
  OnEveryTarget([&](int64_t) {
    ThreadPool pool(1);
    Context context(&pool, 1);
    std::vector<float> y(x.size());
    const auto n = static_cast<int64_t>(x.size());
    Softplus(context, x.data(), n, bias.data(), 1, n, y.data(), n);
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = double{x[i]} + 0.25;
      const double want = std::max(v, 0.0) + std::log1p(std::exp(-std::abs(v)));
      EXPECT_NEAR(y[i], want, 2e-7 + 1e-6 * want) << x[i];
    }
  });
}

TEST(RouteTopK, SelectsByBiasedScoreAndWeighsByUnbiased) {
  const std::vector<float> logits = {0.0f, 1.0f, -1.0f, 2.0f, 1.0f};
  const std::vector<float> bias = {0.9f, 0.0f, 0.0f, -0.9f, 0.0f};
  ThreadPool pool(1);
  Context context(&pool, 1);
  int32_t ids[2];
  float weights[2];
  RouteTopK(context, logits.data(), bias.data(), 1, 5, 2, true, 2.5f, ids, weights);
  // keys: 1.4, .731, .269, -.019, .731: expert 0, then of the two equal ones the lower id
  EXPECT_EQ(ids[0], 0);
  EXPECT_EQ(ids[1], 1);
  const double s0 = 0.5, s1 = 1.0 / (1.0 + std::exp(-1.0));
  EXPECT_NEAR(weights[0], 2.5 * s0 / (s0 + s1), 1e-6);
  EXPECT_NEAR(weights[1], 2.5 * s1 / (s0 + s1), 1e-6);
  RouteTopK(context, logits.data(), bias.data(), 1, 5, 2, false, 2.0f, ids, weights);
  EXPECT_NEAR(weights[0], 1.0, 1e-6);
}

TEST(CombineExperts, SumsInTheOrderOfSlots) {
  const auto x = Random(4 * 20, 1);
  const int32_t rows[] = {3, 0, 1, 2};
  const float weights[] = {0.5f, 2.0f, -1.0f, 0.25f};
  OnEveryTarget([&](int64_t target) {
    ThreadPool pool(1);
    Context context(&pool, 1);
    std::vector<float> y(40), want(40);
    CombineExperts(context, x.data(), 20, rows, weights, 2, 2, 20, y.data(), 20);
    for (int t = 0; t < 2; ++t) {
      for (int i = 0; i < 20; ++i) {
        float sum = 0.0f;
        for (int s = 0; s < 2; ++s) {
          sum = std::fma(weights[t * 2 + s], x[static_cast<size_t>(rows[t * 2 + s] * 20 + i)], sum);
        }
        want[static_cast<size_t>(t * 20 + i)] = sum;
      }
    }
    if (cases::HasFma(target)) {
      EXPECT_TRUE(SameBits(y, want));
    } else {
      ExpectNear(y, want, 1e-5f);
    }
  });
}

}  // namespace
}  // namespace lode::kernels

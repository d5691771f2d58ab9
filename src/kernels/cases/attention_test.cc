#include <gtest/gtest.h>

#include <memory>

#include "kernels/cases/support.h"
#include "kernels/ref/ref.h"

namespace lode::kernels {
namespace {

using cases::OnEveryTarget;
using cases::Random;
using cases::SameBits;

std::vector<float> RunAttention(const AttentionShape& shape, int64_t tokens, int64_t chunk,
                                int threads) {
  const int64_t q_width = shape.heads * shape.head_dim;
  const int64_t kv_width = shape.kv_heads * shape.head_dim;
  const auto q = Random(tokens * q_width, 1, 2.0f);
  const auto k = Random(tokens * kv_width, 2);
  const auto v = Random(tokens * kv_width, 3);
  std::vector<std::vector<std::byte>> storage;
  std::vector<std::byte*> pages;
  for (int64_t t = 0; t < tokens; t += kPageTokens) {
    // 0xFF bytes are NaNs: what lies behind the last key must not matter.
    storage.emplace_back(static_cast<size_t>(KvPageBytes(shape) + 64), std::byte{0xFF});
    pages.push_back(storage.back().data());
  }
  std::vector<float> out(static_cast<size_t>(tokens * q_width));
  ThreadPool pool(threads);
  Context context(&pool, AttentionScratchFloats(shape));
  for (int64_t t = 0; t < tokens; t += chunk) {
    const AttentionSequence sequence = {{t, std::min(chunk, tokens - t)}, t, pages.data(), 64};
    Attention(context, shape, {&sequence, 1}, q.data(), q_width, k.data(), v.data(), kv_width,
              out.data(), q_width);
  }
  return out;
}

TEST(Attention, AgreesWithSoftmaxInDouble) {
  for (const AttentionShape& shape : std::vector<AttentionShape>{{4, 2, 64, KvType::kF32, false},
                                                                 {6, 2, 20, KvType::kF32, false},
                                                                 {2, 1, 128, KvType::kBF16, true},
                                                                 {3, 3, 16, KvType::kF32, false}}) {
    OnEveryTarget([&](int64_t) {
      const int64_t tokens = 300;
      const auto out = RunAttention(shape, tokens, tokens, 2);
      const auto q = Random(tokens * shape.heads * shape.head_dim, 1, 2.0f);
      const auto k = Random(tokens * shape.kv_heads * shape.head_dim, 2);
      const auto v = Random(tokens * shape.kv_heads * shape.head_dim, 3);
      const float bound = shape.kv_type == KvType::kF32 ? 2e-5f : 6e-2f;  // BF16 has 8 bits
      for (const int64_t t : {int64_t{0}, int64_t{1}, int64_t{127}, int64_t{128}, tokens - 1}) {
        for (int64_t h = 0; h < shape.heads; ++h) {
          const int64_t kv = h / (shape.heads / shape.kv_heads);
          std::vector<float> ks, vs;
          for (int64_t j = 0; j <= t; ++j) {
            const int64_t at = (j * shape.kv_heads + kv) * shape.head_dim;
            ks.insert(ks.end(), k.begin() + at, k.begin() + at + shape.head_dim);
            vs.insert(vs.end(), v.begin() + at, v.begin() + at + shape.head_dim);
          }
          std::vector<double> want(static_cast<size_t>(shape.head_dim));
          const int64_t at = (t * shape.heads + h) * shape.head_dim;
          ref::AttendExact(q.data() + at, ks.data(), vs.data(), t + 1, shape.head_dim, want.data());
          for (int64_t i = 0; i < shape.head_dim; ++i) {
            EXPECT_NEAR(out[static_cast<size_t>(at + i)], want[static_cast<size_t>(i)], bound);
          }
        }
      }
    });
  }
}

TEST(Attention, HasTheSameBitsInAnyChunksAndThreads) {
  for (const KvType type : {KvType::kF32, KvType::kBF16}) {
    const AttentionShape shape = {4, 2, 48, type, type == KvType::kBF16};
    OnEveryTarget([&](int64_t) {
      const auto whole = RunAttention(shape, 270, 270, 1);
      for (const int64_t chunk : {1, 7, 64, 129}) {
        EXPECT_TRUE(SameBits(whole, RunAttention(shape, 270, chunk, 2))) << chunk;
      }
    });
  }
}

TEST(Attention, LongContextsMergeSpanBySpan) {
  const AttentionShape shape = {1, 1, 16, KvType::kF32, false};
  const int64_t tokens = 2 * kSpanTokens + 130;
  const auto whole = RunAttention(shape, tokens, tokens, 2);
  EXPECT_TRUE(SameBits(whole, RunAttention(shape, tokens, 1000, 1)));
  const auto q = Random(tokens * 16, 1, 2.0f);
  const auto k = Random(tokens * 16, 2);
  const auto v = Random(tokens * 16, 3);
  std::vector<double> want(16);
  ref::AttendExact(q.data() + (tokens - 1) * 16, k.data(), v.data(), tokens, 16, want.data());
  for (int64_t i = 0; i < 16; ++i) {
    EXPECT_NEAR(whole[static_cast<size_t>((tokens - 1) * 16 + i)], want[static_cast<size_t>(i)],
                2e-5);
  }
}

}  // namespace
}  // namespace lode::kernels

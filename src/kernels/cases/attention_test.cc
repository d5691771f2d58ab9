#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cases/support.h"
#include "kernels/ref/ref.h"

namespace lode::kernels {
namespace {

using cases::OnEveryIsa;
using cases::Random;
using cases::SameBits;

const KvType kTypes[] = {KvType::kF32, KvType::kBF16, KvType::kInt8};

bool HasFma(Isa isa) { return isa != Isa::kPortable; }

// A prompt's queries, keys and values, in rows of [heads * head_dim].
struct Data {
  std::vector<float> q, k, v;
  Data(const AttentionShape& s, int64_t tokens)
      : q(Random(tokens * s.heads * s.head_dim, 1, 2.0f)),
        k(Random(tokens * s.kv_heads * s.head_dim, 2)),
        v(Random(tokens * s.kv_heads * s.head_dim, 3)) {}
};

// Pages that hold NaNs and the largest integers: what lies behind the last key must not matter.
struct Pages {
  std::vector<std::vector<std::byte>> storage;
  std::vector<std::byte*> pages;
  Pages(const AttentionShape& shape, int64_t tokens) {
    for (int64_t t = 0; t < tokens; t += kPageTokens) {
      storage.emplace_back(static_cast<size_t>(KvPageBytes(shape) + 64), std::byte{0xFF});
      pages.push_back(storage.back().data());
    }
  }
};

std::vector<float> RunAttention(const AttentionShape& shape, int64_t tokens, int64_t chunk,
                                int threads) {
  const int64_t q_width = shape.heads * shape.head_dim;
  const int64_t kv_width = shape.kv_heads * shape.head_dim;
  const Data data(shape, tokens);
  const Pages pages(shape, tokens);
  std::vector<float> out(static_cast<size_t>(tokens * q_width));
  ThreadPool pool(threads);
  Context context(&pool, AttentionScratchFloats(shape));
  for (int64_t t = 0; t < tokens; t += chunk) {
    const AttentionSequence sequence = {
        {t, std::min(chunk, tokens - t)}, t, pages.pages.data(), 64};
    Attention(context, shape, {&sequence, 1}, data.q.data(), q_width, data.k.data(),
              data.v.data(), kv_width, out.data(), q_width);
  }
  return out;
}

// Keys or values 0..t of one kv head, one after the other.
std::vector<float> Gather(const AttentionShape& s, const std::vector<float>& x, int64_t kv_head,
                          int64_t t) {
  std::vector<float> rows;
  for (int64_t j = 0; j <= t; ++j) {
    const int64_t at = (j * s.kv_heads + kv_head) * s.head_dim;
    rows.insert(rows.end(), x.begin() + at, x.begin() + at + s.head_dim);
  }
  return rows;
}

struct Answer {
  std::vector<double> exact;
  std::vector<float> in_order;
};

Answer Oracle(const AttentionShape& s, const Data& data, int64_t t, int64_t h) {
  const int64_t kv = h / (s.heads / s.kv_heads);
  const auto ks = Gather(s, data.k, kv, t);
  const auto vs = Gather(s, data.v, kv, t);
  const float* q = data.q.data() + (t * s.heads + h) * s.head_dim;
  Answer answer = {std::vector<double>(static_cast<size_t>(s.head_dim)),
                   std::vector<float>(static_cast<size_t>(s.head_dim))};
  ref::AttendExact(q, ks.data(), vs.data(), t + 1, s.head_dim, answer.exact.data());
  ref::AttendInOrder(s.kv_type, q, ks.data(), vs.data(), t + 1, s.head_dim,
                     answer.in_order.data());
  return answer;
}

// Head dimensions, numbers of kv heads and sizes of groups that are not those the tiles like.
std::vector<AttentionShape> Shapes(KvType type) {
  return {{16, 1, 64, type}, {3, 3, 16, type},  {6, 2, 20, type}, {32, 8, 80, type},
          {4, 4, 128, type}, {16, 1, 128, type}, {2, 2, 256, type}, {5, 5, 7, type}};
}

TEST(Attention, AgreesWithTheOracle) {
  const int64_t tokens = 300;
  const int64_t rows[] = {0, 1, 30, 127, 128, tokens - 1};
  for (const KvType type : kTypes) {
    for (const AttentionShape& s : Shapes(type)) {
      const Data data(s, tokens);
      std::vector<Answer> answers;
      for (const int64_t t : rows) {
        for (int64_t h = 0; h < s.heads; ++h) answers.push_back(Oracle(s, data, t, h));
      }
      OnEveryIsa([&](Isa isa) {
        SCOPED_TRACE(std::string(Name(isa)) + " type " + std::to_string(static_cast<int>(type)) +
                     " P " + std::to_string(s.head_dim));
        const auto out = RunAttention(s, tokens, tokens, 2);
        size_t answer = 0;
        for (const int64_t t : rows) {
          for (int64_t h = 0; h < s.heads; ++h, ++answer) {
            const auto at = static_cast<size_t>((t * s.heads + h) * s.head_dim);
            for (size_t i = 0; i < static_cast<size_t>(s.head_dim); ++i) {
              const float exact = static_cast<float>(answers[answer].exact[i]);
              if (type == KvType::kF32) {
                ASSERT_NEAR(out[at + i], exact, 2e-5f) << t << " " << h << " " << i;
              } else if (HasFma(isa)) {
                ASSERT_EQ(out[at + i], answers[answer].in_order[i]) << t << " " << h << " " << i;
              } else {  // another rounding of a score can move a probability by a step
                ASSERT_NEAR(out[at + i], exact, 0.15f) << t << " " << h << " " << i;
              }
            }
          }
        }
      });
    }
  }
}

// Relative error of the output at a context of 2048, over all lanes.
double KvError(KvType type) {
  const AttentionShape s = {8, 2, 128, type};
  const int64_t tokens = 2048;
  const auto out = RunAttention(s, tokens, tokens, 2);
  const Data data(s, tokens);
  double error = 0.0, norm = 0.0;
  for (int64_t h = 0; h < s.heads; ++h) {
    const Answer answer = Oracle(s, data, tokens - 1, h);
    for (int64_t i = 0; i < s.head_dim; ++i) {
      const double want = answer.exact[static_cast<size_t>(i)];
      const double got = out[static_cast<size_t>(((tokens - 1) * s.heads + h) * s.head_dim + i)];
      error += (got - want) * (got - want);
      norm += want * want;
    }
  }
  return std::sqrt(error / norm);
}

TEST(Attention, RoundedCachesErrAsMuchAsTheContractSays) {
  const double bf16 = KvError(KvType::kBF16);
  const double int8 = KvError(KvType::kInt8);
  RecordProperty("bf16", std::to_string(bf16));
  RecordProperty("int8", std::to_string(int8));
  EXPECT_GT(bf16, 1e-4);
  EXPECT_LT(bf16, 0.006);
  EXPECT_GT(int8, bf16);
  EXPECT_LT(int8, 0.03);
  EXPECT_LT(KvError(KvType::kF32), 1e-5);
}

TEST(Attention, HasTheSameBitsInAnyChunksAndThreads) {
  for (const KvType type : kTypes) {
    const AttentionShape shape = {12, 2, 48, type};
    OnEveryIsa([&](Isa isa) {
      SCOPED_TRACE(std::string(Name(isa)) + " type " + std::to_string(static_cast<int>(type)));
      const auto whole = RunAttention(shape, 270, 270, 1);
      for (const int64_t chunk : {1, 7, 64, 129}) {
        EXPECT_TRUE(SameBits(whole, RunAttention(shape, 270, chunk, 3))) << chunk;
      }
    });
  }
}

TEST(Attention, HasTheSameBitsOnEveryInstructionSetWithFusedMultiplyAdd) {
  for (const KvType type : kTypes) {
    for (const AttentionShape& shape : Shapes(type)) {
      std::vector<float> first;
      OnEveryIsa([&](Isa isa) {
        if (!HasFma(isa)) return;
        const auto out = RunAttention(shape, 150, 150, 2);
        if (first.empty()) first = out;
        EXPECT_TRUE(SameBits(out, first)) << Name(isa) << " P " << shape.head_dim;
      });
    }
  }
}

TEST(Attention, LongContextsMergeSpanBySpanWhoeverComputesThem) {
  for (const KvType type : kTypes) {
    const AttentionShape shape = {2, 1, 16, type};
    const int64_t tokens = 2 * kSpanTokens + 130;
    const Data data(shape, tokens);
    OnEveryIsa([&](Isa isa) {
      SCOPED_TRACE(std::string(Name(isa)) + " type " + std::to_string(static_cast<int>(type)));
      if (isa == Isa::kPortable) return;
      const auto whole = RunAttention(shape, tokens, tokens, 1);
      // Few rows on many threads: spans apart. 1000 rows: whole lanes.
      EXPECT_TRUE(SameBits(whole, RunAttention(shape, tokens, 1000, 1)));
      EXPECT_TRUE(SameBits(whole, RunAttention(shape, tokens, 33, 4)));
      for (const int64_t t : {kSpanTokens - 1, kSpanTokens, tokens - 1}) {
        const Answer answer = Oracle(shape, data, t, 1);
        for (int64_t i = 0; i < 16; ++i) {
          const float got = whole[static_cast<size_t>((t * 2 + 1) * 16 + i)];
          if (type == KvType::kF32) {
            EXPECT_NEAR(got, answer.exact[static_cast<size_t>(i)], 2e-5);
          } else {
            EXPECT_EQ(got, answer.in_order[static_cast<size_t>(i)]);
          }
        }
      }
    });
  }
}

// More partial results than the scratch has room for: several waves.
TEST(Attention, SpansOfManyLanesGoInWaves) {
  for (const KvType type : {KvType::kF32, KvType::kBF16}) {
    const AttentionShape shape = {96, 1, 4, type};
    const int64_t tokens = 3 * kSpanTokens + 5;
    const Data data(shape, tokens);
    const Pages pages(shape, tokens);
    std::vector<float> outs[2];
    for (const int threads : {1, 2}) {
      ThreadPool pool(threads);
      Context context(&pool, AttentionScratchFloats(shape));
      std::vector<float> out(static_cast<size_t>(tokens * 96 * 4));
      const auto attend = [&](const AttentionShape& of, RowRange rows) {
        const AttentionSequence s = {rows, rows.begin, pages.pages.data(), 0};
        Attention(context, of, {&s, 1}, data.q.data(), of.heads * 4, data.k.data(), data.v.data(), 4,
                  out.data(), of.heads * 4);
      };
      attend({1, 1, 4, type}, {0, tokens - 5});  // one head fills the pages as well
      std::fill(out.begin(), out.end(), 0.0f);
      attend(shape, {tokens - 5, 5});
      outs[threads - 1] = out;
    }
    EXPECT_TRUE(SameBits(outs[0], outs[1]));
  }
}

TEST(Attention, ASequencesBitsDoNotDependOnItsCompany) {
  for (const KvType type : kTypes) {
    const AttentionShape s = {8, 2, 64, type};
    const int64_t tokens = 400, width = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    const auto alone = RunAttention(s, tokens, tokens, 1);
    const Data data(s, tokens);
    // Three sequences with the same data, at different depths, one step at a time.
    const Pages pages[] = {Pages(s, tokens), Pages(s, tokens), Pages(s, tokens)};
    ThreadPool pool(2);
    Context context(&pool, AttentionScratchFloats(s));
    const int64_t counts[][3] = {{1, 200, 130}, {1, 0, 3}, {100, 1, 129}, {298, 199, 138}};
    int64_t done[3] = {};
    for (const auto& step : counts) {
      std::vector<AttentionSequence> sequences;
      std::vector<float> q, k, v;
      int64_t rows = 0;
      for (int i = 0; i < 3; ++i) {
        sequences.push_back({{rows, step[i]}, done[i], pages[i].pages.data(), 64});
        const auto append = [&](std::vector<float>* to, const std::vector<float>& from, int64_t w) {
          to->insert(to->end(), from.begin() + done[i] * w, from.begin() + (done[i] + step[i]) * w);
        };
        append(&q, data.q, width);
        append(&k, data.k, kv);
        append(&v, data.v, kv);
        rows += step[i];
      }
      std::vector<float> out(static_cast<size_t>(rows * width));
      Attention(context, s, sequences, q.data(), width, k.data(), v.data(), kv, out.data(), width);
      int64_t at = 0;
      for (int i = 0; i < 3; ++i) {
        const std::vector<float> got(out.begin() + at * width,
                                     out.begin() + (at + step[i]) * width);
        const std::vector<float> want(alone.begin() + done[i] * width,
                                      alone.begin() + (done[i] + step[i]) * width);
        EXPECT_TRUE(SameBits(got, want)) << i;
        at += step[i];
        done[i] += step[i];
      }
    }
  }
}

// Sequences that begin with the same pages walk these together, whatever their depths and rows; some
// share less than others, and one has the same numbers in pages of its own.
TEST(Attention, SharedPagesShowInNoBit) {
  const int64_t tokens = 2 * kSpanTokens + 300;
  // (tokens in pages of the first one, depth, rows)
  const int64_t cases[][3] = {{tokens, 4390, 1}, {4096, 4096, 2}, {4096, 4300, 1}, {4100, 4229, 16},
                              {2048, 4321, 3},   {0, 4390, 1},    {2049, 2049, 1}, {4096, 4200, 17},
                              {128, 130, 1},     {4096, 4390, 5}, {4096, 4160, 1}, {4096, 4097, 0}};
  for (const KvType type : kTypes) {
#if defined(LODE_QUICK)
    if (type != KvType::kBF16) continue;
#endif
    const AttentionShape s = {40, 2, 20, type};
    const int64_t width = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
    const Data data(s, tokens);
    const Pages first(s, tokens);
    std::vector<float> want(static_cast<size_t>(tokens * width));
    ThreadPool all_cores(2);
    Context filling(&all_cores, AttentionScratchFloats(s));
    const AttentionSequence whole = {{0, tokens}, 0, first.pages.data(), 64};
    Attention(filling, s, {&whole, 1}, data.q.data(), width, data.k.data(), data.v.data(), kv,
              want.data(), width);
    std::vector<Pages> own;
    std::vector<AttentionSequence> sequences;
    std::vector<float> q, k, v;
    int64_t rows = 0;
    own.reserve(std::size(cases));
    for (const auto& [shared, depth, count] : cases) {
      Pages& pages = own.emplace_back(s, tokens);
      for (size_t i = 0; i < pages.pages.size(); ++i) {
        pages.storage[i] = first.storage[i];
        const bool same = static_cast<int64_t>(i) < std::min(shared, depth) / kPageTokens;
        pages.pages[i] = same ? first.pages[i] : pages.storage[i].data();
      }
      sequences.push_back({{rows, count}, depth, pages.pages.data(), 64});
      const auto append = [&](std::vector<float>* to, const std::vector<float>& from, int64_t w) {
        to->insert(to->end(), from.begin() + depth * w, from.begin() + (depth + count) * w);
      };
      append(&q, data.q, width);
      append(&k, data.k, kv);
      append(&v, data.v, kv);
      rows += count;
    }
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      Context context(&pool, AttentionScratchFloats(s));
      std::vector<float> out(static_cast<size_t>(rows * width));
      Attention(context, s, sequences, q.data(), width, k.data(), v.data(), kv, out.data(), width);
      for (const AttentionSequence& sequence : sequences) {
        const auto at = out.begin() + sequence.rows.begin * width;
        const auto from = want.begin() + sequence.position * width;
        const int64_t numbers = sequence.rows.count * width;
        EXPECT_TRUE(SameBits({at, at + numbers}, {from, from + numbers}))
            << static_cast<int>(type) << " depth " << sequence.position << ", " << threads;
      }
    }
  }
}

TEST(Attention, ANotANumberInAQueryIsNotHidden) {
  for (const KvType type : kTypes) {
    const AttentionShape s = {2, 1, 16, type};
    Data data(s, 3);
    data.q[2 * 2 * 16 + 5] = std::nanf("");  // row 2, head 0
    OnEveryIsa([&](Isa isa) {
      const Pages pages(s, 3);
      ThreadPool pool(1);
      Context context(&pool, AttentionScratchFloats(s));
      std::vector<float> out(3 * 2 * 16);
      const AttentionSequence sequence = {{0, 3}, 0, pages.pages.data(), 0};
      Attention(context, s, {&sequence, 1}, data.q.data(), 32, data.k.data(), data.v.data(), 16,
                out.data(), 32);
      for (int i = 0; i < 16; ++i) {
        EXPECT_TRUE(std::isnan(out[static_cast<size_t>(2 * 32 + i)])) << Name(isa);
        EXPECT_FALSE(std::isnan(out[static_cast<size_t>(2 * 32 + 16 + i)])) << Name(isa);
        EXPECT_FALSE(std::isnan(out[static_cast<size_t>(32 + i)])) << Name(isa);
      }
    });
  }
}

}  // namespace
}  // namespace lode::kernels

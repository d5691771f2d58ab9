#include <gtest/gtest.h>

#include "kernels/cases/support.h"
#include "kernels/ref/ref.h"

namespace lode::kernels {
namespace {

using cases::OnEveryTarget;
using cases::Random;
using cases::SameBits;

struct Case {
  ScanShape shape;
  int64_t rows;
};

// A case's inputs, and scans over rows of them.
class Scan {
 public:
  Scan(const Case& c, int threads)
      : shape_(c.shape),
        inner_(shape_.heads * shape_.head_dim),
        stride_(inner_ + 2 * shape_.groups * shape_.state),
        xbc_(Random(c.rows * stride_, 1)),
        dt_(Random(c.rows * shape_.heads, 2)),
        a_(Random(shape_.heads, 3)),
        d_(Random(shape_.heads, 4)),
        pool_(threads),
        context_(&pool_, ScanScratchFloats(shape_)),
        y(static_cast<size_t>(c.rows * inner_)) {
    for (float& v : dt_) v = std::abs(v) * 0.1f;
    for (float& v : a_) v = -std::abs(v) - 0.5f;
  }
  size_t state_size() const {
    return static_cast<size_t>(shape_.heads * shape_.state * PaddedHeadDim(shape_.head_dim));
  }
  // The `replayed` rows before those of the sequence, if any, are replayed.
  void Run(ScanSequence sequence, int64_t replayed = 0) {
    const int64_t first = sequence.rows.begin - replayed;
    sequence.replay = xbc_.data() + first * stride_;
    sequence.replay_dt = dt_.data() + first * shape_.heads;
    sequence.replay_rows = replayed;
    SelectiveScan(context_, shape_, {&sequence, 1}, xbc_.data(), xbc_.data() + inner_,
                  xbc_.data() + inner_ + shape_.groups * shape_.state, stride_, dt_.data(),
                  shape_.heads, a_.data(), d_.data(), y.data(), inner_);
  }

 private:
  ScanShape shape_;
  int64_t inner_, stride_;
  std::vector<float> xbc_, dt_, a_, d_;
  ThreadPool pool_;
  Context context_;

 public:
  std::vector<float> y;
};

// Runs the scan in pieces of `chunk` rows; returns y and the final state.
std::pair<std::vector<float>, std::vector<float>> RunScan(const Case& c, int64_t chunk, int threads,
                                                      bool in_place) {
  Scan scan(c, threads);
  const size_t size = scan.state_size();
  std::vector<float> state(size), other(size, 99.0f);
  float* source = state.data();
  float* target = in_place ? state.data() : other.data();
  for (int64_t t = 0; t < c.rows; t += chunk) {
    scan.Run({{t, std::min(chunk, c.rows - t)}, source, target});
    if (!in_place) std::swap(source, target);
  }
  return {scan.y, std::vector<float>(in_place ? state.data() : source,
                                     (in_place ? state.data() : source) + size)};
}

const std::vector<Case> kCases = {{{4, 64, 2, 128}, 9},
                                  {{2, 80, 1, 16}, 7},
                                  {{8, 16, 8, 32}, 5},
                                  {{3, 12, 1, 24}, 6},
                                  {{2, 64, 2, 256}, 4}};

TEST(SelectiveScan, AgreesWithTheRecurrence) {
  for (const Case& c : kCases) {
    OnEveryTarget([&](int64_t) {
      const auto [y, state] = RunScan(c, c.rows, 2, true);
      const ScanShape& s = c.shape;
      const int64_t inner = s.heads * s.head_dim;
      const int64_t stride = inner + 2 * s.groups * s.state;
      const auto xbc = Random(c.rows * stride, 1);
      auto dt = Random(c.rows * s.heads, 2);
      for (float& v : dt) v = std::abs(v) * 0.1f;
      auto a = Random(s.heads, 3);
      for (float& v : a) v = -std::abs(v) - 0.5f;
      const auto d = Random(s.heads, 4);
      for (int64_t h = 0; h < s.heads; ++h) {
        const int64_t g = h / (s.heads / s.groups);
        std::vector<float> x, b, cc, dts, hs(static_cast<size_t>(s.state * s.head_dim)),
            out(static_cast<size_t>(c.rows * s.head_dim));
        for (int64_t t = 0; t < c.rows; ++t) {
          const float* row = xbc.data() + t * stride;
          x.insert(x.end(), row + h * s.head_dim, row + (h + 1) * s.head_dim);
          b.insert(b.end(), row + inner + g * s.state, row + inner + (g + 1) * s.state);
          const float* cs = row + inner + s.groups * s.state;
          cc.insert(cc.end(), cs + g * s.state, cs + (g + 1) * s.state);
          dts.push_back(dt[static_cast<size_t>(t * s.heads + h)]);
        }
        ref::ScanHead(c.rows, s.head_dim, s.state, x.data(), b.data(), cc.data(), dts.data(),
                      a[static_cast<size_t>(h)], d[static_cast<size_t>(h)], hs.data(), out.data());
        for (int64_t t = 0; t < c.rows; ++t) {
          for (int64_t p = 0; p < s.head_dim; ++p) {
            const float want = out[static_cast<size_t>(t * s.head_dim + p)];
            EXPECT_NEAR(y[static_cast<size_t>(t * inner + h * s.head_dim + p)], want,
                        1e-5f * (1.0f + std::abs(want)));
          }
        }
      }
    });
  }
}

TEST(SelectiveScan, HasTheSameBitsInAnyChunksThreadsAndPlaces) {
  for (const Case& c : kCases) {
    OnEveryTarget([&](int64_t) {
      const auto whole = RunScan(c, c.rows, 1, true);
      for (const int64_t chunk : {1, 2, 3, 5}) {
        for (const bool in_place : {true, false}) {
          const auto parts = RunScan(c, chunk, 2, in_place);
          EXPECT_TRUE(SameBits(whole.first, parts.first)) << chunk;
          EXPECT_TRUE(SameBits(whole.second, parts.second)) << chunk;
        }
      }
    });
  }
}

// Rows that may turn out wrong leave no trace, and those that stand are replayed: as if only these
// had been run.
TEST(SelectiveScan, ReplaysTheRowsThatStandOfThoseItDidNotKeep) {
  for (const Case& c : kCases) {
    OnEveryTarget([&](int64_t) {
      const auto whole = RunScan(c, c.rows, 1, true);
      for (const int64_t tried : {1, 2, 3}) {
        for (const bool in_place : {true, false}) {
          Scan scan(c, 2);
          std::vector<float> state(scan.state_size()), other(scan.state_size(), 99.0f);
          float* source = state.data();
          float* target = in_place ? state.data() : other.data();
          int64_t at = 0, standing = 0;
          for (; at + tried < c.rows; at += standing) {
            const std::vector<float> before(source, source + state.size());
            scan.Run({.rows = {at, tried}, .source = source, .target = target, .keep = false},
                     standing);
            if (standing == 0) {
              EXPECT_TRUE(SameBits(before, {source, source + state.size()}));
            } else if (!in_place) {
              std::swap(source, target);
            }
            standing = 1 + at % tried;
          }
          scan.Run({{at, c.rows - at}, source, source}, standing);
          EXPECT_TRUE(SameBits(whole.first, scan.y)) << tried;
          EXPECT_TRUE(SameBits(whole.second, {source, source + state.size()})) << tried;
        }
      }
    });
  }
}

}  // namespace
}  // namespace lode::kernels

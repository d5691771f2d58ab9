// A context that is longer than 16 bits count (runs/million_tokens has a longer one): the same bits
// in any steps, forks that copy nothing, and no token that goes unnoticed.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "runtime/engine.h"
#include "runtime/saved/context_chain.h"
#include "tests/support/random_model.h"

namespace lode::runtime {
namespace {

class LongContext : public ::testing::Test {
 protected:
  static constexpr int64_t kTokens = 66000;

  void SetUp() override {
    auto model = testing::RandomModel(testing::TinyHybridConfig());
    ASSERT_TRUE(model.ok()) << model.error().ToString();
    model_ = std::move(*model);
    EngineOptions options;
    options.numerics.activations = model::Activations::kNative;
    options.numerics.kv = kernels::KvType::kBF16;
    options.threads = 2;
    options.context_tokens = kTokens + 2048;
    options.sequences_max = 8;
    options.rows_max = 512;
    engine_ = std::make_unique<Engine>(*model_, options);
    std::mt19937 random(1);
    while (std::ssize(text_) < kTokens) text_.push_back(static_cast<int32_t>(random() % 256));
  }
  // To the token `end`, in steps of so many rows; the last row's logits.
  std::vector<float> RunTo(Sequence* sequence, int64_t end, int64_t rows) {
    std::vector<float> logits(static_cast<size_t>(engine_->vocabulary()));
    const auto tokens = std::span<const int32_t>(text_).subspan(
        static_cast<size_t>(sequence->tokens()), static_cast<size_t>(end - sequence->tokens()));
    EXPECT_TRUE(engine_->Append(*sequence, tokens, logits.data(), false, rows).ok());
    return logits;
  }

  std::unique_ptr<model::Model> model_;
  std::unique_ptr<Engine> engine_;
  std::vector<int32_t> text_;
};

TEST_F(LongContext, HasTheSameBitsInAnyStepsOnBothSidesOf65536Tokens) {
  Sequence sequence = std::move(engine_->NewSequence()).value();
  RunTo(&sequence, 65400, 512);
  Sequence before = std::move(engine_->Fork(sequence)).value();
  const std::vector<float> logits = RunTo(&sequence, kTokens, 512);
  const uint64_t used = engine_->frames().used();
  Sequence again = std::move(engine_->Fork(before)).value();
  EXPECT_EQ(engine_->frames().used(), used);  // nothing was copied
  for (int64_t at = again.tokens(), i = 0; at < kTokens; ++i) {
    const int64_t end = std::min(kTokens, at + 1 + i * i % 131);
    const std::vector<float> row = RunTo(&again, end, 64);
    if (end == kTokens) {
      EXPECT_EQ(std::memcmp(row.data(), logits.data(), row.size() * sizeof(float)), 0);
    }
    at = end;
  }
  EXPECT_EQ(engine_->StateBytes(again), engine_->StateBytes(sequence));
  // One other token just behind 65,536.
  Sequence other = std::move(engine_->Fork(before)).value();
  text_[65537] ^= 1;
  EXPECT_NE(RunTo(&other, kTokens, 512), logits);
  EXPECT_NE(engine_->StateBytes(other), engine_->StateBytes(sequence));
}

TEST_F(LongContext, ATokenAnywhereChangesItsName) {
  const auto name = [this] { return ChainTokens({}, {}, kTokensPerPage, text_, {}).back(); };
  const ContextDigest whole = name();
  for (size_t at = 0; at < text_.size(); at = at * 3 + 1) {
    text_[at] ^= 1;
    EXPECT_NE(name(), whole) << at;
    text_[at] ^= 1;
  }
  EXPECT_EQ(name(), whole);
}

}  // namespace
}  // namespace lode::runtime

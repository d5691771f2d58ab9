// Whole models against logits that we did not compute: llama.cpp's (../shared/oracle) and those of a
// float64 forward in numpy that MLX-LM and llama.cpp confirm (tests/golden, tools/oracle).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "formats/open.h"
#include "model/bind.h"
#include "runtime/engine.h"
#include "tests/support/npy.h"
#include "tests/support/shared.h"

namespace lode {
namespace {

struct Loaded {
  std::unique_ptr<model::Model> model;
  std::unique_ptr<runtime::Engine> engine;
};

Loaded Load(const std::string& path, int threads = 2) {
  Loaded loaded;
  auto source = formats::OpenSource(path);
  EXPECT_TRUE(source.ok()) << (source.ok() ? "" : source.error().ToString());
  if (!source.ok()) return loaded;
  auto model = model::Bind(std::shared_ptr<const tensor::TensorSource>(std::move(*source)));
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().ToString());
  if (!model.ok()) return loaded;
  loaded.model = std::move(*model);
  runtime::EngineOptions options;
  options.threads = threads;
  options.context_tokens = 512;
  options.sequences_max = 4;
  loaded.engine = std::make_unique<runtime::Engine>(*loaded.model, options);
  return loaded;
}

std::vector<float> AllLogits(Loaded& loaded, const std::vector<int32_t>& tokens,
                             int64_t chunk = 0) {
  auto sequence = loaded.engine->NewSequence();
  std::vector<float> logits(tokens.size() * static_cast<size_t>(loaded.engine->vocabulary()));
  const auto result = loaded.engine->Append(*sequence, tokens, logits.data(), true, chunk);
  EXPECT_TRUE(result.ok()) << (result.ok() ? "" : result.error().ToString());
  return logits;
}

// max |d| <= bound, and the same argmax wherever the reference's two best differ by more than 2 bound.
void ExpectLogits(const std::vector<float>& got, const testing::Npy& want, double bound) {
  ASSERT_EQ(want.shape.size(), 2u);
  ASSERT_EQ(got.size(), want.values.size());
  const auto width = static_cast<size_t>(want.shape[1]);
  double worst = 0.0;
  for (size_t t = 0; t < static_cast<size_t>(want.shape[0]); ++t) {
    const float* g = got.data() + t * width;
    const float* w = want.values.data() + t * width;
    for (size_t i = 0; i < width; ++i) {
      ASSERT_FALSE(std::isnan(g[i])) << "row " << t;
      worst = std::max(worst, std::abs(double{g[i]} - double{w[i]}));
    }
    const auto best = static_cast<size_t>(std::max_element(w, w + width) - w);
    float second = -INFINITY;
    for (size_t i = 0; i < width; ++i) {
      if (i != best) second = std::max(second, w[i]);
    }
    if (double{w[best]} - double{second} > 2 * bound) {
      EXPECT_EQ(static_cast<size_t>(std::max_element(g, g + width) - g), best) << "row " << t;
    }
  }
  EXPECT_LE(worst, bound);
  std::printf("    max |difference| %.2e (bound %.0e)\n", worst, bound);
}

TEST(Golden, LogitsOfTheSharedOracleAreEqual) {
  for (const char* name : {"open-dense", "open-moe", "open-latent"}) {
    LODE_NEEDS_SHARED(base, std::string("oracle/") + name + ".gguf");
    SCOPED_TRACE(name);
    const std::string stem = base.substr(0, base.size() - 5);
    Loaded loaded = Load(base);
    ASSERT_NE(loaded.engine, nullptr);
    const auto tokens = testing::ReadTokens(stem + ".tokens");
    const auto logits = AllLogits(loaded, tokens);
    ExpectLogits(logits, testing::ReadNpy(stem + ".npy"), 2e-3);
    for (const int64_t chunk : {1, 7, 64}) {
      const auto chunked = AllLogits(loaded, tokens, chunk);
      EXPECT_EQ(std::memcmp(logits.data(), chunked.data(), logits.size() * sizeof(float)), 0)
          << chunk;
    }
  }
}

TEST(Golden, EveryFamilyAndFormatAgreesWithTheFloat64Forward) {
  int models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(testing::TestFile("golden"))) {
    const std::string folder = entry.path().string();
    if (!std::filesystem::exists(folder + "/config.json")) continue;
    SCOPED_TRACE(entry.path().filename());
    ++models;
    Loaded loaded = Load(folder);
    if (loaded.engine == nullptr) continue;
    const auto tokens = testing::ReadTokens(folder + "/tokens.txt");
    const double bound = loaded.model->quantized ? 5e-3 : 2e-3;
    auto sequence = loaded.engine->NewSequence();
    std::vector<float> logits(tokens.size() * static_cast<size_t>(loaded.engine->vocabulary()));
    ASSERT_TRUE(loaded.engine->Append(*sequence, tokens, logits.data(), true).ok());
    ExpectLogits(logits, testing::ReadNpy(folder + "/logits.npy"), bound);
    if (!std::filesystem::exists(folder + "/mtp.npy")) continue;
    const auto rows = tokens.size() - 1;
    const std::vector<float> hidden(
        loaded.engine->hidden(),
        loaded.engine->hidden() + rows * static_cast<size_t>(loaded.model->spec.width));
    std::vector<float> drafts(rows * static_cast<size_t>(loaded.engine->vocabulary()));
    const std::vector<int32_t> next(tokens.begin() + 1, tokens.end());
    ASSERT_TRUE(loaded.engine->Draft(*sequence, hidden, next, drafts.data()).ok());
    ExpectLogits(drafts, testing::ReadNpy(folder + "/mtp.npy"), bound);
  }
  EXPECT_GE(models, 10);
}

TEST(Golden, TheDemoModelAndItsMtpHeadAgreeWithTheFloat64Forward) {
  const std::string golden = testing::TestFile("golden/demo");
  Loaded loaded = Load(std::string(LODE_SOURCE_DIR) + "/models/demo");
  ASSERT_NE(loaded.engine, nullptr);
  const auto tokens = testing::ReadTokens(golden + "/tokens.txt");
  auto sequence = loaded.engine->NewSequence();
  const auto vocabulary = static_cast<size_t>(loaded.engine->vocabulary());
  std::vector<float> logits(tokens.size() * vocabulary);
  ASSERT_TRUE(loaded.engine->Append(*sequence, tokens, logits.data(), true).ok());
  ExpectLogits(logits, testing::ReadNpy(golden + "/logits.npy"), 2e-3);
  const size_t rows = tokens.size() - 1;
  const std::vector<float> hidden(
      loaded.engine->hidden(),
      loaded.engine->hidden() + rows * static_cast<size_t>(loaded.model->spec.width));
  const std::vector<int32_t> next(tokens.begin() + 1, tokens.end());
  std::vector<float> drafts(rows * vocabulary);
  ASSERT_TRUE(loaded.engine->Draft(*sequence, hidden, next, drafts.data()).ok());
  ExpectLogits(drafts, testing::ReadNpy(golden + "/mtp_logits.npy"), 2e-3);
}

TEST(Golden, EveryGgufTypeAgreesWithTheFloat64Forward) {
  int models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(testing::TestFile("golden/gguf"))) {
    const std::string path = entry.path().string();
    if (entry.path().extension() != ".gguf") continue;
    if (path.find("-of-") != std::string::npos && path.find("-00001-of-") == std::string::npos) continue;
    std::string stem = path.substr(0, path.size() - 5);
    if (stem.find("-00001-of-") != std::string::npos) stem = stem.substr(0, stem.find("-00001-of-"));
    SCOPED_TRACE(path);
    ++models;
    Loaded loaded = Load(path);
    if (loaded.engine == nullptr) continue;
    const auto tokens = testing::ReadTokens(stem + ".tokens");
    const auto logits = AllLogits(loaded, tokens);
    ExpectLogits(logits, testing::ReadNpy(stem + ".npy"), loaded.model->quantized ? 5e-3 : 2e-3);
  }
  EXPECT_GE(models, 7);
}

}  // namespace
}  // namespace lode

// Losses and gradients of whole models against PyTorch's automatic differentiation in float64
// (tools/oracle/reference_gradients.py): every tensor's norm, and its product with three vectors.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "formats/open.h"
#include "model/bind.h"
#include "tests/support/npy.h"
#include "tests/support/shared.h"
#include "train/trainer.h"

namespace lode {
namespace {

// Place i of a parameter in the order of checkpoints, as it lies in ours.
size_t PlaceOf(const train::Parameter& p, size_t i) {
  if (p.form != train::Form::kConvolution) return i;
  const auto channels = static_cast<size_t>(p.shape.front());
  const size_t taps = p.value.size() / channels;
  return i % taps * channels + i / taps;
}

TEST(TrainGolden, GradientsAreThoseOfAutomaticDifferentiation) {
  for (const char* name : {"dense-head80", "dense-state256", "moe-nano", "moe-lightning",
                           "latent-super", "sharded-tied"}) {
    SCOPED_TRACE(name);
    const std::string folder = testing::TestFile(std::string("golden/") + name);
    auto source = formats::OpenSource(folder);
    ASSERT_TRUE(source.ok());
    auto model = model::Bind(std::shared_ptr<const tensor::TensorSource>(std::move(*source)));
    ASSERT_TRUE(model.ok()) << model.error().ToString();
    (*model)->spec.mtp.clear();  // the trunk's loss does not see it
    (*model)->mtp = {};
    ThreadPool pool(2);
    const std::vector<int32_t> tokens = testing::ReadTokens(folder + "/tokens.txt");
    train::TrainerOptions options;
    options.rows_max = std::ssize(tokens);
    auto trainer = train::Trainer::Make(model->get(), &pool, options);
    ASSERT_TRUE(trainer.ok()) << trainer.error().ToString();
    train::PackedBatch batch;
    std::vector<int32_t> next(tokens.begin() + 1, tokens.end());
    batch.Add(std::span(tokens).first(next.size()), next,
              std::vector<float>(next.size(), 1.0f / static_cast<float>(next.size())));
    const auto text = ReadFile(folder + "/gradients.json", 1 << 20);
    ASSERT_TRUE(text.ok());
    const auto want = ParseJson(*text);
    ASSERT_TRUE(want.ok());
    EXPECT_NEAR((*trainer)->Gather(batch).loss, GetDouble(*want, "loss"), 2e-6);
    (*trainer)->parameters().FinishGradients();
    size_t seen = 0;
    double worst = 0.0;
    for (const train::Parameter& p : (*trainer)->parameters().all()) {
      const size_t prefix = p.name.starts_with("backbone.") ? 9 : 0;
      const auto row = (*want)["gradients"].find(p.name.substr(prefix));
      if (row == (*want)["gradients"].end()) {
        ADD_FAILURE() << p.name << " is not in the reference";
        continue;
      }
      ++seen;
      double square = 0.0, products[3] = {};
      for (size_t i = 0; i < p.gradient.size(); ++i) {
        const double g = p.gradient[PlaceOf(p, i)];
        square += g * g;
        for (int k = 0; k < 3; ++k) products[k] += g * std::cos((k + 1.0) * static_cast<double>(i));
      }
      const double norm = (*row)[0].get<double>();
      const double bound = 2e-5 * norm + 1e-9;
      EXPECT_NEAR(std::sqrt(square), norm, bound) << p.name;
      worst = std::max(worst, std::abs(std::sqrt(square) - norm) / norm);
      for (size_t k = 0; k < 3; ++k) {
        EXPECT_NEAR(products[k], (*row)[k + 1].get<double>(), bound) << p.name << " " << k;
        if (norm > 0.0) {
          worst = std::max(worst, std::abs(products[k] - (*row)[k + 1].get<double>()) / norm);
        }
      }
    }
    EXPECT_EQ(seen, (*want)["gradients"].size());
    std::printf("    %s: %zu tensors, worst difference %.1e of the norm\n", name, seen, worst);
  }
}

}  // namespace
}  // namespace lode

// Every published family, from its config alone: the tensors, parameters, bytes and states that a reader
// of the releases counts. Not here: weights.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "formats/hf_checkpoint.h"
#include "model/config.h"
#include "model/state.h"
#include "model/tensors.h"
#include "tests/support/memory_source.h"
#include "tests/support/shared.h"

namespace lode {
namespace {

using model::BlockKind;
using model::Role;

Result<model::ModelSpec> Spec(const std::string& name) {
  LODE_ASSIGN(Json config, ReadJsonFile(testing::TestFile("manifest/" + name + ".json"),
                                        {.python_numbers = true}));
  return model::ReadSpec(testing::MemorySource(std::move(config)));
}

// Bytes of the release in BF16: everything two bytes, but the router's bias.
int64_t Bf16Bytes(const model::ModelSpec& spec) {
  int64_t bytes = 0;
  for (const model::TensorSlot& slot : model::ListTensors(spec)) {
    int64_t elements = 0;
    EXPECT_TRUE(tensor::CountElements(slot.shape, &elements));
    const int64_t each = slot.row->role == Role::kRouterBias ? 4 : 2;
    bytes += std::max<int64_t>(1, slot.experts) * elements * each;
  }
  return bytes;
}

struct Published {
  const char* name;
  const char* pattern_counts;  // layers of each letter, "M * E -"
  int64_t tensors;             // 0: not published
  int64_t parameters;          // without MTP
  int64_t parameters_with_mtp;
  // Of one token, in units of `unit`: without embedding and head, with the head, with both.
  double unit;
  int64_t active, active_head, active_both;
  int64_t kv, mtp_kv;   // KV elements a token
  int64_t state, conv;  // per Mamba layer: state elements; conv elements over all layers
};

class Manifest : public ::testing::TestWithParam<Published> {};

TEST_P(Manifest, TensorsParametersAndStateAreThoseOfTheRelease) {
  const Published& want = GetParam();
  const auto spec = Spec(want.name);
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_EQ(std::to_string(CountLayers(*spec, BlockKind::kMamba2)) + " " +
                std::to_string(CountLayers(*spec, BlockKind::kAttention)) + " " +
                std::to_string(CountLayers(*spec, BlockKind::kMoe)) + " " +
                std::to_string(CountLayers(*spec, BlockKind::kMlp)),
            want.pattern_counts);
  const model::TensorTotals totals = model::CountTensors(*spec);
  EXPECT_EQ(totals.tensors, want.tensors);
  EXPECT_EQ(totals.parameters - totals.mtp_parameters, want.parameters);
  EXPECT_EQ(totals.parameters, want.parameters_with_mtp);

  // CountTensors counts the head, not the embedding; the two have one size.
  const int64_t head = spec->vocabulary * spec->width;
  const auto rounded = [&](int64_t n) { return std::llround(static_cast<double>(n) / want.unit); };
  EXPECT_EQ(rounded(totals.active - head), want.active);
  EXPECT_EQ(rounded(totals.active), want.active_head);
  EXPECT_EQ(rounded(totals.active + head), want.active_both);

  for (const auto kv : {kernels::KvType::kF32, kernels::KvType::kBF16}) {
    const auto layout = model::MakeStateLayout(*spec, {model::Activations::kF32, kv});
    const auto token_bytes = static_cast<uint64_t>(kernels::kPageTokens * kernels::KvBytes(kv));
    EXPECT_EQ(layout.page_bytes, static_cast<uint64_t>(want.kv) * token_bytes);
    EXPECT_EQ(layout.mtp_page_bytes, static_cast<uint64_t>(want.mtp_kv) * token_bytes);
    const auto layers = static_cast<uint64_t>(CountLayers(*spec, BlockKind::kMamba2));
    EXPECT_EQ(layout.slot_bytes,
              4 * (layers * static_cast<uint64_t>(want.state) + static_cast<uint64_t>(want.conv)));
  }
}

INSTANTIATE_TEST_SUITE_P(
    Generation3, Manifest,
    ::testing::Values(
        Published{"nano-3-4b", "21 4 0 17", 263, 3'973'556'832, 3'973'556'832, 1e7, 315, 356, 397, 8'192,
                  0, 983'040, 3 * 9'728 * 21},
        Published{"nano-3-30b-a3b", "23 6 23 0", 6'243, 31'577'940'288, 31'577'940'288, 1e7, 287,
                  323, 358, 3'072, 0, 524'288, 3 * 6'144 * 23},
        Published{"lightning-3.5-30b-a3b", "23 6 23 0", 6'513, 31'577'940'288, 32'913'266'240, 1e7, 287,
                  323, 358, 3'072, 512, 524'288, 3 * 6'144 * 23},
        Published{"super-3-120b-a12b", "40 8 40 0", 42'683, 120'668'707'840, 123'611'033'088, 1e7, 1169,
                  1223, 1277, 4'096, 512, 1'048'576, 3 * 10'240 * 40},
        // The release's own numbers are not out; these follow from its geometry.
        Published{"ultra-3-550b-a55b", "48 12 48 0", 51'023, 549'308'993'536, 560'524'603'904, 1e8, 539,
                  550, 561, 6'144, 512, 2'097'152, 3 * 18'432 * 48}),
    [](const auto& info) {
      std::string name = info.param.name;
      for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
      return name;
    });

// The sheet of the earlier generation gives parameters to four digits, and layers.
TEST(ManifestOfTheEarlierGeneration, LayersAndParametersAreThoseOfTheSheet) {
  struct Sheet {
    const char* name;
    int64_t mamba, attention, mlp;
    double billions, unit;  // parameters, and the last digit that is given
  };
  for (const Sheet& want :
       {Sheet{"h-8b", 24, 4, 24, 8.101, 0.001}, Sheet{"h-47b", 45, 5, 48, 46.79, 0.01},
        Sheet{"h-56b", 54, 10, 54, 56.32, 0.01}, Sheet{"nano-v2-9b", 27, 4, 25, 8.888, 0.001},
        Sheet{"nano-v2-12b", 28, 6, 28, 12.31, 0.01}}) {
    const auto spec = Spec(want.name);
    ASSERT_TRUE(spec.ok()) << spec.error().ToString();
    EXPECT_EQ(CountLayers(*spec, BlockKind::kMamba2), want.mamba) << want.name;
    EXPECT_EQ(CountLayers(*spec, BlockKind::kAttention), want.attention) << want.name;
    EXPECT_EQ(CountLayers(*spec, BlockKind::kMlp), want.mlp) << want.name;
    const model::TensorTotals totals = model::CountTensors(*spec);
    EXPECT_NEAR(static_cast<double>(totals.parameters) * 1e-9, want.billions, 0.5001 * want.unit)
        << want.name;
    EXPECT_EQ(totals.tensors, 3 + 9 * want.mamba + 5 * want.attention + 3 * want.mlp) << want.name;
  }
}

TEST(ManifestBytes, SuperInBf16) {
  const auto spec = Spec("super-3-120b-a12b");
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_EQ(Bf16Bytes(*spec), 247'222'108'160);
  int64_t biases = 0;
  for (const model::TensorSlot& slot : model::ListTensors(*spec)) {
    if (slot.row->role != Role::kRouterBias) continue;
    ++biases;
    EXPECT_EQ(slot.shape, tensor::Shape{512});
  }
  EXPECT_EQ(biases, 41);
}

TEST(ManifestBytes, NanoInNvfp4) {
  // The release's rule: NVFP4 in groups of 16 on every linear layer except the head, the attention
  // projections and the Mamba projections of the layer before each attention layer; the router F32.
  const auto spec = Spec("nano-3-30b-a3b");
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  const auto before_attention = [&](int64_t layer) {
    const auto next = static_cast<size_t>(layer) + 1;
    return next < spec->layers.size() && spec->layers[next].kind == BlockKind::kAttention;
  };
  int64_t tensors = 0, bytes = 0, quantized = 0;
  for (const model::TensorSlot& slot : model::ListTensors(*spec)) {
    const int64_t copies = std::max<int64_t>(1, slot.experts);
    int64_t n = 0;
    ASSERT_TRUE(tensor::CountElements(slot.shape, &n));
    const Role role = slot.row->role;
    const bool mamba = role == Role::kMambaIn || role == Role::kMambaOut;
    const bool feed_forward = role == Role::kExpertUp || role == Role::kExpertDown ||
                              role == Role::kSharedUp || role == Role::kSharedDown;
    if (feed_forward || (mamba && !before_attention(slot.layer))) {
      quantized += copies;
      tensors += 4 * copies;
      bytes += copies * (n / 2 + n / 16 + 4 + 4);  // codes, block scales, scale of scales, of inputs
    } else {
      tensors += copies;
      bytes += copies * n * (role == Role::kRouter || role == Role::kRouterBias ? 4 : 2);
    }
  }
  EXPECT_EQ(quantized, 5'968);
  EXPECT_EQ(tensors, 24'147);
  EXPECT_EQ(bytes, 19'339'781'632);
}

TEST(ManifestConfigs, OpenAsTheFilesOfARelease) {
  // Lightning's has Python's Infinity in it; a release's index is of no interest here.
  const auto text = ReadFile(testing::TestFile("manifest/lightning-3.5-30b-a3b.json"));
  ASSERT_TRUE(text.ok());
  ASSERT_NE(text->find("Infinity"), std::string::npos);
  const std::string weights = std::string("\x02\0\0\0\0\0\0\0{}", 10);
  const auto bytes = [](const std::string& s) { return std::as_bytes(std::span(s.data(), s.size())); };
  const auto opened = formats::HfCheckpoint::FromMemory(
      {{"config.json", bytes(*text)}, {"model.safetensors", bytes(weights)}}, "lightning");
  ASSERT_TRUE(opened.ok()) << opened.error().ToString();
  const auto spec = model::ReadSpec(**opened);
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_EQ(spec->mtp.size(), 2u);
  EXPECT_EQ(model::PatternOf(*spec), "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME");
}

}  // namespace
}  // namespace lode

#include "model/bind.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "formats/open.h"
#include "model/config.h"
#include "model/tensors.h"
#include "tests/support/memory_source.h"
#include "tests/support/shared.h"

namespace lode::model {
namespace {

using lode::testing::MemorySource;
using tensor::DType;

Json SmallConfig() {
  return Json{{"model_type", "nemotron_h"},
              {"vocab_size", 32},
              {"hidden_size", 32},
              {"hybrid_override_pattern", "M*-E"},
              {"num_attention_heads", 4},
              {"num_key_value_heads", 2},
              {"head_dim", 8},
              {"mamba_num_heads", 4},
              {"mamba_head_dim", 8},
              {"n_groups", 2},
              {"ssm_state_size", 8},
              {"conv_kernel", 4},
              {"intermediate_size", 48},
              {"n_routed_experts", 4},
              {"num_experts_per_tok", 2},
              {"moe_intermediate_size", 32}};
}

// A whole checkpoint of zeros in BF16.
std::shared_ptr<MemorySource> Checkpoint(const Json& config = SmallConfig()) {
  auto source = std::make_shared<MemorySource>(config);
  const auto spec = ReadSpec(*source);
  EXPECT_TRUE(spec.ok()) << spec.error().ToString();
  if (!spec.ok()) return source;
  for (const TensorSlot& slot : ListTensors(*spec)) {
    for (int64_t e = 0; e < std::max<int64_t>(1, slot.experts); ++e) {
      source->Add(ExpertName(slot.hugging_face.front(), e), DType::kBF16, slot.shape);
    }
  }
  return source;
}

std::string ErrorOf(const std::shared_ptr<MemorySource>& source, Code* code = nullptr) {
  const auto model = Bind(source);
  if (model.ok()) return "";
  if (code != nullptr) *code = model.error().code();
  return model.error().ToString();
}

void Replace(MemorySource* source, const std::string& name, DType dtype, const tensor::Shape& shape,
             const std::string& bytes = "") {
  ASSERT_NE(source->Find(name), nullptr) << name;
  source->Remove(name);
  source->Add(name, dtype, shape, bytes);
}

std::string Floats(std::initializer_list<float> values) {
  std::string bytes;
  for (const float value : values) bytes.append(reinterpret_cast<const char*>(&value), 4);
  return bytes;
}

#define EXPECT_IN(needle, text)                                                  \
  do {                                                                           \
    const std::string expect_in_text = (text);                                   \
    EXPECT_NE(expect_in_text.find(needle), std::string::npos) << expect_in_text; \
  } while (false)

constexpr char kInProj[] = "backbone.layers.0.mixer.in_proj.weight";
constexpr char kUpProj[] = "backbone.layers.2.mixer.up_proj.weight";

TEST(Bind, AWholeCheckpointBinds) {
  const auto source = Checkpoint();
  const auto model = Bind(source);
  ASSERT_TRUE(model.ok()) << model.error().ToString();
  EXPECT_EQ((*model)->layers.size(), 4u);
  EXPECT_EQ((*model)->layers[3].moe.up.size(), 4u);
  EXPECT_TRUE((*model)->any_bf16);
  EXPECT_FALSE((*model)->quantized);
  // Matrices stay where they are, vectors are decoded: together every byte, two for four.
  uint64_t stored = 0;
  for (const auto& info : source->tensors()) stored += info.bytes;
  EXPECT_EQ((*model)->weight_bytes + (*model)->vector_bytes / 2, stored);
}

TEST(Bind, MissingTensorsAreAllListedAndExpertsAsRanges) {
  const auto source = Checkpoint();
  for (const char* name :
       {"backbone.norm_f.weight", kInProj, "backbone.layers.1.mixer.k_proj.weight",
        "backbone.layers.3.mixer.experts.0.up_proj.weight",
        "backbone.layers.3.mixer.experts.1.up_proj.weight",
        "backbone.layers.3.mixer.experts.3.up_proj.weight",
        "backbone.layers.3.mixer.experts.2.down_proj.weight"}) {
    source->Remove(name);
  }
  Code code = Code::kInternal;
  const std::string error = ErrorOf(source, &code);
  EXPECT_EQ(code, Code::kNotFound);
  EXPECT_IN(
      "model: 7 tensors are missing: backbone.norm_f.weight, "
      "backbone.layers.0.mixer.in_proj.weight, backbone.layers.1.mixer.k_proj.weight, "
      "backbone.layers.3.mixer.experts.{0-1,3}.up_proj.weight, "
      "backbone.layers.3.mixer.experts.2.down_proj.weight",
      error);
  EXPECT_IN("a tensor is missing: lm_head.weight", [] {
    const auto other = Checkpoint();
    other->Remove("lm_head.weight");
    return ErrorOf(other);
  }());
}

TEST(Bind, AllExpertsOfAHostileConfigMissIsOneName) {
  Json config = SmallConfig();
  config["n_routed_experts"] = 1 << 16;
  config["hybrid_override_pattern"] = "E";
  const auto source = std::make_shared<MemorySource>(config);
  const std::string error = ErrorOf(source);
  EXPECT_IN("backbone.layers.0.mixer.experts.{0-65535}.up_proj.weight", error);
  EXPECT_IN(std::to_string(2 * 65536 + 6) + " tensors are missing", error);
  EXPECT_LT(error.size(), 1000u);
}

TEST(Bind, AGgufWithoutTensorsListsItsOwnNames) {
  const auto opened = formats::OpenSource(lode::testing::TestFile("golden/gguf/f32-dense.gguf"));
  ASSERT_TRUE(opened.ok());
  const auto source = std::make_shared<MemorySource>((*opened)->config(), tensor::Naming::kGguf);
  source->Add("token_embd.weight", DType::kF32, (*opened)->Find("token_embd.weight")->shape);
  const std::string error = ErrorOf(source);
  EXPECT_IN("tensors are missing: output_norm.weight, ", error);
  EXPECT_IN("blk.0.attn_norm.weight", error);
  EXPECT_EQ(error.find(" output.weight"), std::string::npos);  // then the head is the embedding
}

TEST(Bind, ShapesAreCompared) {
  struct Case {
    const char* name;
    tensor::Shape shape;
    const char* what;
  };
  // in_proj has 2 * 32 + 2 * 2 * 8 + 4 = 100 rows.
  for (const Case& c :
       {Case{kInProj, {32, 100}, "has the shape [32, 100], but [100, 32] is needed"},
        Case{"backbone.embeddings.weight", {31, 32}, "but [32, 32] is needed"},
        Case{"backbone.norm_f.weight", {31}, "has the shape [31], but [32] is needed"},
        Case{"backbone.layers.0.mixer.conv1d.weight", {64, 1, 3}, "but [64, 1, 4] is needed"},
        Case{"backbone.layers.3.mixer.experts.2.up_proj.weight",
             {32, 16},
             "but [32, 32] is needed"}}) {
    const auto source = Checkpoint();
    Replace(source.get(), c.name, DType::kBF16, c.shape);
    Code code = Code::kInternal;
    const std::string error = ErrorOf(source, &code);
    EXPECT_EQ(code, Code::kBadInput);
    EXPECT_IN(std::string("'") + c.name + "'", error);
    EXPECT_IN(c.what, error);
  }
}

TEST(Bind, TypesThatAreNoWeightsAreRefused) {
  const auto source = Checkpoint();
  Replace(source.get(), kInProj, DType::kI32, {100, 32});
  Code code = Code::kInternal;
  EXPECT_IN("is i32, which Lode does not know as a weight type", ErrorOf(source, &code));
  EXPECT_EQ(code, Code::kUnsupported);

  const auto vector = Checkpoint();
  Replace(vector.get(), "backbone.norm_f.weight", DType::kF8E4M3, {32});
  EXPECT_IN("such a small tensor must be F32, F16 or BF16", ErrorOf(vector));
}

TEST(Bind, OtherQuantizationsAreRefusedByTheTensorThatShowsThem) {
  for (const char* suffix : {".weight_packed", ".qweight"}) {
    for (const char* name : {kUpProj, "backbone.layers.3.mixer.experts.0.up_proj.weight"}) {
      const auto source = Checkpoint();
      source->Remove(name);
      const std::string module(name, std::strlen(name) - std::strlen(".weight"));
      source->Add(module + suffix, DType::kI32, {48, 4});
      Code code = Code::kInternal;
      EXPECT_IN("'" + module + suffix + "': stands for the weight in a quantization",
                ErrorOf(source, &code));
      EXPECT_EQ(code, Code::kUnsupported);
    }
  }
  const auto awq = Checkpoint();
  awq->Add("backbone.layers.2.mixer.up_proj.pre_quant_scale", DType::kF32, {32});
  EXPECT_IN("'pre_quant_scale'", ErrorOf(awq));

  const auto unreadable = Checkpoint();
  unreadable->Remove(kUpProj);
  unreadable->unreadable = kUpProj;
  EXPECT_IN("has the dtype 'F6_E2M3', which Lode does not read", ErrorOf(unreadable));
}

TEST(Bind, Nvfp4NeedsItsScales) {
  const auto with = [](bool first, bool second, DType type, const tensor::Shape& shape) {
    const auto source = Checkpoint();
    Replace(source.get(), kUpProj, DType::kU8, {48, 16});
    if (first) source->Add("backbone.layers.2.mixer.up_proj.weight_scale", type, shape);
    if (second) {
      source->Add("backbone.layers.2.mixer.up_proj.weight_scale_2", DType::kF32, {},
                  Floats({2.0f}));
    }
    return ErrorOf(source);
  };
  EXPECT_EQ(with(true, true, DType::kF8E4M3, {48, 2}), "");
  constexpr char kWithout[] = "is U8 without the NVFP4 scales";
  EXPECT_IN(kWithout, with(false, false, DType::kF8E4M3, {48, 2}));
  EXPECT_IN(kWithout, with(true, false, DType::kF8E4M3, {48, 2}));
  EXPECT_IN(kWithout, with(false, true, DType::kF8E4M3, {48, 2}));
  EXPECT_IN(kWithout, with(true, true, DType::kF32, {48, 2}));
  EXPECT_IN("has the shape [48, 1], which does not fit", with(true, true, DType::kF8E4M3, {48, 1}));
}

TEST(Bind, Nvfp4ScalesAreApplied) {
  const auto source = Checkpoint();
  Replace(source.get(), kUpProj, DType::kU8, {48, 16});
  source->Add("backbone.layers.2.mixer.up_proj.weight_scale", DType::kF8E4M3, {48, 2});
  source->Add("backbone.layers.2.mixer.up_proj.weight_scale_2", DType::kF32, {}, Floats({2.5f}));
  const auto model = Bind(source);
  ASSERT_TRUE(model.ok()) << model.error().ToString();
  EXPECT_EQ((*model)->layers[2].mlp.up.scale, 2.5f);
  EXPECT_NE((*model)->layers[2].mlp.up.block_scales, nullptr);
  EXPECT_TRUE((*model)->quantized);
}

TEST(Bind, Fp8NeedsAScaleForTheTensorOrEachRow) {
  const auto with = [](const char* suffix, DType type, const tensor::Shape& shape,
                       const std::string& bytes, float* scale = nullptr) {
    const auto source = Checkpoint();
    Replace(source.get(), kUpProj, DType::kF8E4M3, {48, 32});
    if (suffix != nullptr) {
      source->Add(std::string("backbone.layers.2.mixer.up_proj") + suffix, type, shape, bytes);
    }
    const auto model = Bind(source);
    if (model.ok() && scale != nullptr) *scale = (*model)->layers[2].mlp.up.scale;
    return model.ok() ? std::string() : model.error().ToString();
  };
  float scale = 0;
  EXPECT_EQ(with(".weight_scale", DType::kF32, {}, Floats({0.5f}), &scale), "");
  EXPECT_EQ(scale, 0.5f);
  EXPECT_EQ(with(".weight_scale", DType::kF32, {48, 1}, ""), "");
  EXPECT_IN("weight_scale': is missing beside the FP8 weight", with(nullptr, DType::kF32, {}, ""));
  EXPECT_IN("FP8 with a scale per block of 128 is not supported",
            with(".weight_scale_inv", DType::kF32, {1, 1}, ""));
  EXPECT_IN("one scale for the tensor or one per row is needed",
            with(".weight_scale", DType::kF32, {3}, ""));
  EXPECT_EQ(with(".weight_scale", DType::kBF16, {}, std::string("\x80\x3f", 2), &scale), "");
  EXPECT_EQ(scale, 1.0f);
  EXPECT_IN("is not the scale it should be", with(".weight_scale", DType::kI32, {}, ""));
}

TEST(Bind, StackedExpertsBindWithTheirShape) {
  const auto stacked = [](DType type, const tensor::Shape& shape) {
    const auto source = Checkpoint();
    for (int e = 0; e < 4; ++e) {
      source->Remove("backbone.layers.3.mixer.experts." + std::to_string(e) + ".up_proj.weight");
    }
    source->Add("backbone.layers.3.mixer.experts.up_proj", type, shape);
    return ErrorOf(source);
  };
  EXPECT_EQ(stacked(DType::kBF16, {4, 32, 32}), "");
  EXPECT_IN("has the shape [3, 32, 32], but [4, 32, 32] is needed",
            stacked(DType::kBF16, {3, 32, 32}));
  EXPECT_IN("is a stack of f8_e4m3", stacked(DType::kF8E4M3, {4, 32, 32}));
  EXPECT_IN("is a stack of u8", stacked(DType::kU8, {4, 32, 32}));
}

TEST(FindBadNumbers, NamesTheTensorAndCounts) {
  const auto source = Checkpoint();
  EXPECT_TRUE(FindBadNumbers(*source).empty());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  std::string bytes(4 * 32, '\0');
  bytes.replace(8, 16, Floats({nan, -infinity, infinity, nan}));
  Replace(source.get(), "backbone.norm_f.weight", DType::kF32, {32}, bytes);
  std::string halves(2 * 48 * 32, '\0');
  halves[2 * 1000] = '\xc0';  // BF16 0x7fc0
  halves[2 * 1000 + 1] = '\x7f';
  Replace(source.get(), kUpProj, DType::kBF16, {48, 32}, halves);
  source->Add("blocks", DType::kQ8_0, {2, 32}, std::string("\x00\x7e", 2));  // scale NaN in F16
  source->Add("codes", DType::kF8E4M3, {4}, std::string("\x7f\x38\xff\x00", 4));
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    uint64_t seen = 0;
    const auto findings = FindBadNumbers(*source, &pool, [&](uint64_t bytes_seen) {
      seen = bytes_seen;
      return true;
    });
    EXPECT_EQ(
        findings,
        (std::vector<std::string>{
            "tensor 'backbone.norm_f.weight' (memory): 2 NaN and 2 infinite of 32 values",
            "tensor 'backbone.layers.2.mixer.up_proj.weight' (memory): 1 NaN and 0 infinite of "
            "1536 values",
            "tensor 'blocks' (memory): 32 NaN and 0 infinite of 64 values",
            "tensor 'codes' (memory): 2 NaN and 0 infinite of 4 values"}));
    uint64_t all = 0;
    for (const auto& info : source->tensors()) all += info.bytes;
    EXPECT_EQ(seen, all);
  }
}

TEST(FindBadNumbers, LargeTensorsAreSeenToTheEnd) {
  MemorySource source(Json::object());
  const int64_t count = (1 << 16) * 3 + 7;
  std::string bytes(static_cast<size_t>(count) * 4, '\0');
  bytes.replace(bytes.size() - 4, 4, Floats({std::numeric_limits<float>::quiet_NaN()}));
  source.Add("long", DType::kF32, {count}, bytes);
  const auto findings = FindBadNumbers(source);
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_IN("1 NaN", findings[0]);
}

}  // namespace
}  // namespace lode::model

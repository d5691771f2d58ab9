#include "model/config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "formats/open.h"
#include "model/state.h"
#include "model/tensors.h"
#include "tests/support/memory_source.h"
#include "tests/support/shared.h"

namespace lode::model {
namespace {

using lode::testing::MemorySource;
using tensor::Naming;

// Every kind of block, and an MTP head.
Json SmallConfig() {
  return Json{{"model_type", "nemotron_h"},
              {"vocab_size", 64},
              {"hidden_size", 32},
              {"hybrid_override_pattern", "M*-E"},
              {"num_hidden_layers", 4},
              {"num_attention_heads", 4},
              {"num_key_value_heads", 2},
              {"head_dim", 8},
              {"mamba_num_heads", 4},
              {"mamba_head_dim", 16},
              {"n_groups", 2},
              {"ssm_state_size", 8},
              {"conv_kernel", 4},
              {"intermediate_size", 48},
              {"n_routed_experts", 4},
              {"num_experts_per_tok", 2},
              {"moe_intermediate_size", 24},
              {"n_shared_experts", 1},
              {"moe_shared_expert_intermediate_size", 40},
              {"moe_latent_size", 16},
              {"n_group", 1},
              {"topk_group", 1},
              {"num_nextn_predict_layers", 1},
              {"mtp_hybrid_override_pattern", "*E"},
              {"layer_norm_epsilon", 1e-5},
              {"routed_scaling_factor", 2.5},
              {"norm_topk_prob", true},
              {"tie_word_embeddings", false},
              {"max_position_embeddings", 4096}};
}

std::string ErrorOf(const MemorySource& source, Code* code = nullptr) {
  const auto spec = ReadSpec(source);
  if (spec.ok()) return "";
  if (code != nullptr) *code = spec.error().code();
  return spec.error().ToString();
}

std::string ErrorWith(const char* key, const Json& value, Code* code = nullptr) {
  Json config = SmallConfig();
  config[key] = value;
  return ErrorOf(MemorySource(config), code);
}

#define EXPECT_IN(needle, text)                                                  \
  do {                                                                           \
    const std::string expect_in_text = (text);                                   \
    EXPECT_NE(expect_in_text.find(needle), std::string::npos) << expect_in_text; \
  } while (false)

TEST(Config, ReadsEveryField) {
  const auto spec = ReadSpec(MemorySource(SmallConfig()));
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_EQ(PatternOf(*spec), "M*-E");
  EXPECT_EQ(spec->vocabulary, 64);
  EXPECT_EQ(spec->width, 32);
  EXPECT_EQ(spec->context_max, 4096);
  EXPECT_EQ(spec->layers[0].mamba2.inner(), 64);
  EXPECT_EQ(spec->layers[0].mamba2.conv_dim(), 64 + 2 * 2 * 8);
  EXPECT_EQ(spec->layers[1].attention.kv_width(), 16);
  EXPECT_EQ(spec->layers[2].mlp.width, 48);
  EXPECT_EQ(spec->layers[3].moe.latent, 16);
  EXPECT_EQ(spec->layers[3].moe.scale, 2.5);
  ASSERT_EQ(spec->mtp.size(), 2u);
  EXPECT_EQ(spec->mtp[0].kind, BlockKind::kAttention);
  EXPECT_EQ(spec->mtp[1].kind, BlockKind::kMoe);
}

TEST(Config, AliasesAndListsSayTheSame) {
  Json config = SmallConfig();
  const auto rename = [&](const char* from, const char* to) {
    config[to] = config[from];
    config.erase(from);
  };
  rename("n_groups", "mamba_n_groups");
  rename("conv_kernel", "mamba_d_conv");
  rename("ssm_state_size", "mamba_d_state");
  rename("layer_norm_epsilon", "norm_eps");
  rename("n_routed_experts", "num_experts");
  rename("head_dim", "attention_head_dim");
  config.erase("hybrid_override_pattern");
  config.erase("mtp_hybrid_override_pattern");
  config.erase("num_hidden_layers");
  config["layers_block_type"] = {"mamba", "full_attention", "mlp", "moe"};
  config["mtp_layers_block_type"] = {"attention", "moe"};
  const auto spec = ReadSpec(MemorySource(config));
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  const auto usual = ReadSpec(MemorySource(SmallConfig()));
  const TensorTotals a = CountTensors(*spec);
  const TensorTotals b = CountTensors(*usual);
  EXPECT_EQ(a.tensors, b.tensors);
  EXPECT_EQ(a.parameters, b.parameters);
  EXPECT_EQ(PatternOf(*spec), PatternOf(*usual));
  config["layers_block_type"] = {"linear_attention", "attention", "mlp", "moe"};
  EXPECT_EQ(ErrorOf(MemorySource(config)), "");
}

TEST(Config, UnknownFamiliesAreRefusedWithWhatThereIs) {
  Code code = Code::kInternal;
  EXPECT_IN("'model_type' in config.json is 'llama'", ErrorWith("model_type", "llama", &code));
  EXPECT_EQ(code, Code::kUnsupported);
  EXPECT_IN("it runs nemotron_h", ErrorWith("model_type", "llama"));
  EXPECT_IN("is 'nemotron_h_puzzle'", ErrorWith("model_type", "nemotron_h_puzzle"));
  EXPECT_IN("'model_type' in config.json is missing", ErrorWith("model_type", 3));
  EXPECT_IN("'general.architecture' is 'mamba'",
            ErrorOf(MemorySource(Json{{"general.architecture", "mamba"}}, Naming::kGguf)));
  EXPECT_IN("'general.architecture' is missing",
            ErrorOf(MemorySource(Json::object(), Naming::kGguf)));
  EXPECT_NE(ErrorOf(MemorySource(Json::array())), "");
}

TEST(Config, UnknownLayersAreRefusedByName) {
  Code code = Code::kInternal;
  EXPECT_IN("'hybrid_override_pattern' has the layer letter 'X'",
            ErrorWith("hybrid_override_pattern", "M*XE", &code));
  EXPECT_EQ(code, Code::kUnsupported);
  EXPECT_IN("has the layer letter ' '", ErrorWith("hybrid_override_pattern", "M*E "));
  EXPECT_IN("'hybrid_override_pattern' is not a string", ErrorWith("hybrid_override_pattern", 7));
  EXPECT_IN("'mtp_hybrid_override_pattern' has the layer letter '+'",
            ErrorWith("mtp_hybrid_override_pattern", "*+"));
  Json config = SmallConfig();
  config["hybrid_override_pattern"] = nullptr;
  config["layers_block_type"] = {"mamba", "attention", "mlp", "rwkv"};
  EXPECT_IN("'layers_block_type' has the layer kind 'rwkv'", ErrorOf(MemorySource(config)));
  config["layers_block_type"] = {"mamba", 1};
  EXPECT_IN("'layers_block_type' has an item that is not a string", ErrorOf(MemorySource(config)));
  config["layers_block_type"] = "mamba";
  EXPECT_IN("'layers_block_type' is not a list", ErrorOf(MemorySource(config)));
  config.erase("layers_block_type");
  EXPECT_IN("says nothing of the layers: 'hybrid_override_pattern' and 'layers_block_type'",
            ErrorOf(MemorySource(config)));
  EXPECT_IN("says nothing of the layers", ErrorWith("hybrid_override_pattern", ""));
}

TEST(Config, WhatLodeDoesNotComputeIsRefusedByField) {
  struct Case {
    const char* key;
    Json value;
  };
  for (const Case& c :
       {Case{"attention_bias", true}, Case{"mlp_bias", true}, Case{"use_bias", true},
        Case{"mamba_proj_bias", true}, Case{"use_conv_bias", false}, Case{"mamba_conv_bias", false},
        Case{"mlp_hidden_act", "silu"}, Case{"mamba_hidden_act", "gelu"},
        Case{"sliding_window", 4096}, Case{"attention_bias", "false"}, Case{"n_group", 4},
        Case{"time_step_limit", Json{0.001, 0.1}}, Case{"time_step_limit", Json{0.0, 1e30}},
        Case{"time_step_limit", Json{0.001, "Infinity"}}, Case{"mamba_dt_limit", Json{0.0, 10.0}},
        Case{"num_nextn_predict_layers", 2}}) {
    Code code = Code::kInternal;
    const std::string error = ErrorWith(c.key, c.value, &code);
    EXPECT_IN(std::string("'") + c.key + "'", error);
    EXPECT_EQ(code, Code::kUnsupported) << error;
    EXPECT_IN("Lode", error);
  }
  EXPECT_IN("an MTP head with Mamba layers", ErrorWith("mtp_hybrid_override_pattern", "*M"));
}

TEST(Config, AnEndlessTimeStepLimitIsNoClamp) {
  for (const Json& limit : {Json{0.0, "Infinity"}, Json{0, "Infinity"}, Json{0.0, "inf"},
                            Json(nullptr), Json{0.0, std::numeric_limits<double>::infinity()}}) {
    EXPECT_EQ(ErrorWith("time_step_limit", limit), "");
    EXPECT_EQ(ErrorWith("mamba_dt_limit", limit), "");
  }
}

TEST(Config, UnknownQuantizationIsRefusedByField) {
  const auto with = [](Json quantization) {
    return ErrorWith("quantization_config", quantization);
  };
  EXPECT_EQ(with({{"quant_method", "modelopt"}, {"quant_algo", "MIXED_PRECISION"}}), "");
  EXPECT_EQ(with(nullptr), "");
  EXPECT_IN("'quantization_config.quant_method' is 'gptq'", with({{"quant_method", "gptq"}}));
  EXPECT_IN("'quantization_config.quant_method' is 'fp8'", with({{"quant_method", "fp8"}}));
  EXPECT_IN("'quantization_config.quant_algo' is 'INT4_AWQ'",
            with({{"quant_method", "modelopt"}, {"quant_algo", "INT4_AWQ"}}));
  EXPECT_IN("'quantization_config.quantized_layers.lm_head.quant_algo' is 'W4A8'",
            with({{"quant_method", "modelopt"},
                  {"quant_algo", "MIXED_PRECISION"},
                  {"quantized_layers", {{"lm_head", {{"quant_algo", "W4A8"}}}}}}));
  EXPECT_IN("'quantization_config' is not an object", with(Json{1, 2}));
}

TEST(Config, MissingFieldsAreAllListed) {
  Json config = SmallConfig();
  for (const char* key :
       {"hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim", "mamba_num_heads",
        "mamba_head_dim", "n_groups", "ssm_state_size", "conv_kernel", "intermediate_size",
        "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size"}) {
    config.erase(key);
  }
  const std::string error = ErrorOf(MemorySource(config));
  EXPECT_EQ(error,
            "model: config lacks hidden_size, num_attention_heads, num_key_value_heads, head_dim, "
            "mamba_num_heads, mamba_head_dim, n_groups, ssm_state_size, conv_kernel, "
            "intermediate_size, n_routed_experts, num_experts_per_tok, moe_intermediate_size");
}

TEST(Config, OnlyWhatTheLayersNeedIsAskedFor) {
  const Json config = {{"model_type", "nemotron_h"},
                       {"vocab_size", 8},
                       {"hidden_size", 16},
                       {"hybrid_override_pattern", "--"},
                       {"intermediate_size", 32}};
  const auto spec = ReadSpec(MemorySource(config));
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_EQ(CountTensors(*spec).tensors, 3 + 2 * 3);
}

TEST(Config, TheVocabularyMayComeFromTheEmbedding) {
  Json config = SmallConfig();
  config.erase("vocab_size");
  EXPECT_IN("vocabulary size is zero", ErrorOf(MemorySource(config)));
  MemorySource source(config);
  source.Add("backbone.embeddings.weight", tensor::DType::kBF16, {96, 32});
  const auto spec = ReadSpec(source);
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_EQ(spec->vocabulary, 96);
}

TEST(Config, ValuesOfAWrongTypeOrSizeAreRefusedByField) {
  struct Case {
    const char* key;
    Json value;
    const char* what;
  };
  for (const Case& c : {
           Case{"hidden_size", "32", "'hidden_size' is not a whole number"},
           Case{"hidden_size", 32.5, "'hidden_size' is not a whole number"},
           Case{"hidden_size", Json{32}, "'hidden_size' is not a whole number"},
           Case{"hidden_size", -1, "'hidden_size' is negative"},
           Case{"hidden_size", 0, "hidden size is zero"},
           Case{"hidden_size", (1 << 24) + 1, "'hidden_size' is larger than 16,777,216"},
           Case{"hidden_size", UINT64_MAX, "'hidden_size' is larger than 16,777,216"},
           Case{"mamba_head_dim", 513, "'mamba_head_dim' is larger than 512"},
           Case{"head_dim", 5000, "'head_dim' is larger than 4,096"},
           Case{"conv_kernel", 65, "'conv_kernel' is larger than 64"},
           Case{"conv_kernel", 0, "convolution kernel is zero"},
           Case{"num_hidden_layers", 5, "'num_hidden_layers' is 5, but the layer pattern has 4"},
           Case{"num_hidden_layers", 5000, "'num_hidden_layers' is larger than 4,096"},
           Case{"tie_word_embeddings", "no", "'tie_word_embeddings' is not true or false"},
           Case{"norm_topk_prob", 1, "'norm_topk_prob' is not true or false"},
           Case{"layer_norm_epsilon", "1e-5", "'layer_norm_epsilon' is not a number"},
           Case{"layer_norm_epsilon", -1.0, "'layer_norm_epsilon' is out of range"},
           Case{"layer_norm_epsilon", 1e300, "'layer_norm_epsilon' is out of range"},
           Case{"layer_norm_epsilon", std::nan(""), "'layer_norm_epsilon' is out of range"},
           Case{"routed_scaling_factor", "NaN", "'routed_scaling_factor' is not a number"},
           Case{"n_groups", 3, "4 Mamba heads cannot be split into 3 groups"},
           Case{"num_key_value_heads", 3, "4 attention heads cannot share 3 key-value heads"},
           Case{"num_key_value_heads", 0, "number of key-value heads is zero"},
           Case{"num_experts_per_tok", 5, "5 experts per token out of 4"},
           Case{"num_experts_per_tok", 0, "number of experts per token is zero"},
           Case{"n_routed_experts", 1 << 17, "'n_routed_experts' is larger than 65,536"},
           Case{"moe_shared_expert_intermediate_size", 0,
                "'moe_shared_expert_intermediate_size' is missing though there is a shared expert"},
           Case{"num_nextn_predict_layers", 17, "'num_nextn_predict_layers' is larger than 16"},
           Case{"mtp_hybrid_override_pattern", nullptr, "an MTP head but not 'mtp_hybrid_override"},
           Case{"mtp_hybrid_override_pattern", std::string(17, '*'), "pattern has 17 layers"},
           Case{"max_position_embeddings", UINT64_MAX, "'max_position_embeddings' is larger than"},
       }) {
    Code code = Code::kInternal;
    const std::string error = ErrorWith(c.key, c.value, &code);
    EXPECT_IN(c.what, error);
    EXPECT_EQ(code, Code::kBadInput) << error;
  }
}

// Every number may be in its range and their product still be absurd: an error, not an overflow and not
// a giant list.
TEST(Config, AbsurdProductsAreRefused) {
  Json config = SmallConfig();
  config["hidden_size"] = 1 << 24;
  config["mamba_num_heads"] = 1 << 24;
  config["n_groups"] = 1 << 24;
  config["ssm_state_size"] = 1 << 24;
  config["mamba_head_dim"] = 512;
  EXPECT_IN("more than 1,125,899,906,842,624 parameters", ErrorOf(MemorySource(config)));

  config = SmallConfig();
  config["intermediate_size"] = 1 << 24;
  config["hidden_size"] = 1 << 24;
  EXPECT_IN("parameters", ErrorOf(MemorySource(config)));

  // Small experts, but 4096 layers of 65536.
  config = SmallConfig();
  config["hybrid_override_pattern"] = std::string(4096, 'E');
  config["num_hidden_layers"] = 4096;
  config["n_routed_experts"] = 1 << 16;
  config["hidden_size"] = 1;
  config["moe_intermediate_size"] = 1;
  config["moe_latent_size"] = 0;
  EXPECT_IN("more than 4,194,304 tensors", ErrorOf(MemorySource(config)));

  // Few weights, but a state of terabytes.
  config = SmallConfig();
  config["hybrid_override_pattern"] = std::string(4096, 'M');
  config["num_hidden_layers"] = 4096;
  config["hidden_size"] = 1;
  config["num_nextn_predict_layers"] = 0;
  config["mamba_num_heads"] = 1 << 17;
  config["mamba_head_dim"] = 1;
  config["n_groups"] = 1;
  config["ssm_state_size"] = 1 << 17;
  EXPECT_IN("numbers of a sequence", ErrorOf(MemorySource(config)));

  config = SmallConfig();
  config["hybrid_override_pattern"] = std::string(5000, 'M');
  config.erase("num_hidden_layers");
  EXPECT_IN("pattern has 5000 layers; Lode takes at most 4096", ErrorOf(MemorySource(config)));
}

// The largest sizes that pass: nothing that is computed from the spec alone may overflow (UBSan).
TEST(Config, TheLargestModelThatIsLetThroughCanBeCounted) {
  Json config = SmallConfig();
  config["hidden_size"] = 1 << 16;
  config["mamba_num_heads"] = 1 << 12;
  config["mamba_head_dim"] = 512;
  config["n_groups"] = 1;
  config["ssm_state_size"] = 1 << 20;
  const auto spec = ReadSpec(MemorySource(config));
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_GT(CountTensors(*spec).parameters, int64_t{1} << 37);
  const StateLayout layout = MakeStateLayout(*spec, Numerics());
  EXPECT_GT(layout.slot_bytes, uint64_t{1} << 42);
}

// --- GGUF ------------------------------------------------------------------------------------------

Json SmallGguf() {
  return Json{{"general.architecture", "nemotron_h_moe"},
              {"general.name", "small"},
              {"nemotron_h_moe.block_count", 5},
              {"nemotron_h_moe.context_length", 1 << 20},
              {"nemotron_h_moe.embedding_length", 32},
              {"nemotron_h_moe.attention.head_count", 4},
              {"nemotron_h_moe.attention.head_count_kv", {0, 2, 0, 0, 2}},
              {"nemotron_h_moe.attention.key_length", 8},
              {"nemotron_h_moe.feed_forward_length", {0, 0, 48, 24, 24}},
              {"nemotron_h_moe.ssm.time_step_rank", 4},
              {"nemotron_h_moe.ssm.inner_size", 64},
              {"nemotron_h_moe.ssm.group_count", 2},
              {"nemotron_h_moe.ssm.state_size", 8},
              {"nemotron_h_moe.ssm.conv_kernel", 4},
              {"nemotron_h_moe.expert_count", 4},
              {"nemotron_h_moe.expert_used_count", 2},
              {"nemotron_h_moe.expert_feed_forward_length", 24},
              {"nemotron_h_moe.expert_shared_count", 1},
              {"nemotron_h_moe.expert_shared_feed_forward_length", 40},
              {"nemotron_h_moe.nextn_predict_layers", 1},
              {"nemotron_h_moe.attention.layer_norm_rms_epsilon", 1e-5},
              {"nemotron_h_moe.expert_weights_norm", true},
              {"nemotron_h_moe.expert_weights_scale", 2.5}};
}

MemorySource SourceOf(const Json& config) {
  MemorySource source(config, Naming::kGguf);
  source.Add("token_embd.weight", tensor::DType::kF32, {64, 32});
  source.Add("output.weight", tensor::DType::kF32, {64, 32});
  source.Add("blk.3.ffn_gate_inp.weight", tensor::DType::kF32, {4, 32});
  source.Add("blk.4.ffn_gate_inp.weight", tensor::DType::kF32, {4, 32});
  return source;
}

std::string GgufErrorWith(const std::string& key, const Json& value) {
  Json config = SmallGguf();
  config["nemotron_h_moe." + key] = value;
  return ErrorOf(SourceOf(config));
}

TEST(GgufConfig, KindsOfLayersComeFromTheArrays) {
  const auto spec = ReadSpec(SourceOf(SmallGguf()));
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_EQ(PatternOf(*spec), "M*-E");
  EXPECT_EQ(spec->name, "small");
  EXPECT_EQ(spec->vocabulary, 64);
  EXPECT_EQ(spec->layers[0].mamba2.head_dim, 16);
  EXPECT_FALSE(spec->tied_head);
  ASSERT_EQ(spec->mtp.size(), 2u);
  EXPECT_EQ(spec->mtp[1].moe.width, 24);
}

TEST(GgufConfig, NoOutputMeansATiedHead) {
  MemorySource source = SourceOf(SmallGguf());
  source.Remove("output.weight");
  const auto spec = ReadSpec(source);
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_TRUE(spec->tied_head);
}

TEST(GgufConfig, TheWidthOfExpertsMayBeGivenPerLayerOnly) {
  Json config = SmallGguf();
  config.erase("nemotron_h_moe.expert_feed_forward_length");
  const auto spec = ReadSpec(SourceOf(config));
  ASSERT_TRUE(spec.ok()) << spec.error().ToString();
  EXPECT_EQ(spec->layers[3].moe.width, 24);
  EXPECT_EQ(spec->mtp[1].moe.width, 24);
}

TEST(GgufConfig, WhatIsWrongIsSaidByKey) {
  struct Case {
    const char* key;
    Json value;
    const char* what;
  };
  for (const Case& c :
       {Case{"block_count", 0, "'block_count' is missing or too small"},
        Case{"block_count", 5000, "block_count' is larger than 4,096"},
        Case{"block_count", 6, "head_count_kv' has 5 values for 6 layers"},
        Case{"feed_forward_length", Json{0, 1}, "feed_forward_length' has 2 values for 5 layers"},
        Case{"feed_forward_length", Json{0, 0, -1, 24, 24}, "feed_forward_length' is negative"},
        Case{"attention.head_count_kv", Json{0, "2", 0, 0, 2},
             "head_count_kv' is not a whole number"},
        Case{"attention.head_count_kv", Json{0, 3, 0, 0, 4},
             "4 attention heads cannot share 3 key-value heads"},
        Case{"ssm.inner_size", 65, "the Mamba inner width is not a multiple"},
        Case{"ssm.inner_size", 1 << 20,
             "Mamba head dimension is 262144; Lode computes at most 512"},
        Case{"attention.key_length", 5000, "key_length' is larger than 4,096"},
        Case{"expert_group_count", 4, "does not route by groups of experts"},
        Case{"nextn_predict_layers", 2, "'nextn_predict_layers' is 2: Lode runs one MTP block"},
        Case{"expert_count", nullptr, "config lacks nemotron_h_moe.expert_count"},
        Case{"ssm.state_size", nullptr, "config lacks nemotron_h_moe.ssm.state_size"}}) {
    EXPECT_IN(c.what, GgufErrorWith(c.key, c.value));
  }
}

TEST(GgufConfig, FilesOfOtherWritersAreUnderstood) {
  struct Case {
    const char* file;
    size_t mtp;
  };
  for (const Case& c : {Case{"f32-dense", 0}, Case{"f32-latent-mtp", 2}, Case{"moe-k", 0}}) {
    const auto source = formats::OpenSource(
        lode::testing::TestFile(std::string("golden/gguf/") + c.file + ".gguf"));
    ASSERT_TRUE(source.ok()) << source.error().ToString();
    const auto spec = ReadSpec(**source);
    ASSERT_TRUE(spec.ok()) << spec.error().ToString();
    EXPECT_EQ(spec->mtp.size(), c.mtp) << c.file;
    // Each tensor of the list is there with its shape, and nothing else is.
    size_t listed = 0;
    for (const TensorSlot& slot : ListTensors(*spec)) {
      const auto* info = (*source)->Find(slot.gguf);
      ASSERT_NE(info, nullptr) << c.file << " " << slot.gguf;
      int64_t have = 0, want = 0;
      EXPECT_TRUE(tensor::CountElements(info->shape, &have));
      EXPECT_TRUE(tensor::CountElements(slot.gguf_shape, &want));
      EXPECT_EQ(have, want) << slot.gguf;
      ++listed;
    }
    EXPECT_EQ(listed, (*source)->tensors().size()) << c.file;
  }
}

}  // namespace
}  // namespace lode::model

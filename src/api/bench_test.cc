#include "api/bench.h"

#include <gtest/gtest.h>

#include <cmath>

#include "api/bench_cost.h"
#include "base/fake_machine.h"
#include "base/topology.h"
#include "model/tensors.h"

namespace lode::api {
namespace {

std::shared_ptr<const tensor::TensorSource> Demo() {
  auto source = OpenSource("demo");
  LODE_CHECK(source.ok());
  return *source;
}

TEST(Cost, AMatrixIsCountedAsTheTensorTableSays) {
  const auto model = model::Bind(Demo());
  ASSERT_TRUE(model.ok());
  const CostModel cost(**model, {model::Activations::kF32, kernels::KvType::kF32});
  double beside = 0.0;  // what a row at depth 0 costs beside matrices
  for (const model::LayerSpec& layer : (*model)->spec.layers) {
    const model::Mamba2Spec& m = layer.mamba2;
    if (layer.kind == model::BlockKind::kMamba2) {
      beside += static_cast<double>(5 * m.heads * m.head_dim * m.state + 2 * m.taps * m.conv_dim());
    } else if (layer.kind == model::BlockKind::kAttention) {
      beside += static_cast<double>(4 * layer.attention.heads * layer.attention.head_dim);
    }
  }
  const auto active = static_cast<double>(model::CountTensors((*model)->spec).active);
  const Cost one = cost.Step(1, 1, 0, 1);
  EXPECT_DOUBLE_EQ(one.f32, 2.0 * active + beside);
  EXPECT_EQ(one.int8, 0.0);
  EXPECT_EQ(one.bf16, 0.0);
  // Rows share the weights' bytes, not the operations; without logits the head stays out.
  const Cost ten = cost.Step(1, 10, 0, 1);
  EXPECT_LT(ten.bytes, 2.0 * one.bytes);
  EXPECT_GT(ten.f32, 5.0 * one.f32);
  EXPECT_LT(cost.Step(1, 1, 0, 0).bytes, one.bytes);
  EXPECT_LT(cost.Step(1, 1, 0, 0).f32, one.f32);
}

TEST(Cost, DepthCostsKeysAndValuesOfAttentionOnly) {
  const auto model = model::Bind(Demo());
  ASSERT_TRUE(model.ok());
  const model::Numerics numerics = {model::Activations::kNative, kernels::KvType::kBF16};
  const CostModel cost(**model, numerics);
  double per_key = 0.0, key_bytes = 0.0;
  for (const model::LayerSpec& layer : (*model)->spec.layers) {
    if (layer.kind != model::BlockKind::kAttention) continue;
    per_key += 4.0 * static_cast<double>(layer.attention.q_width());
    key_bytes += 2.0 * 2.0 * static_cast<double>(layer.attention.kv_width());
  }
  const Cost near = cost.Step(1, 1, 0, 1);
  const Cost far = cost.Step(1, 1, 1000, 1);
  EXPECT_DOUBLE_EQ(far.flops() - near.flops(), 1000.0 * per_key);
  EXPECT_NEAR((far.bytes - near.bytes) / (1000.0 * key_bytes), 1.0, 0.3);  // pages are padded
  // Two rows of one sequence see d + 1 and d + 2 keys.
  EXPECT_DOUBLE_EQ(cost.Step(1, 2, 1000, 0).bf16 - 2.0 * cost.Step(1, 1, 1000, 0).bf16, per_key);
}

TEST(Cost, ExpertsAreTouchedAsByChance) {
  EXPECT_DOUBLE_EQ(ExpectedExperts(128, 6, 1), 6.0);
  EXPECT_NEAR(ExpectedExperts(128, 6, 64), 121.9, 0.3);
  EXPECT_NEAR(ExpectedExperts(128, 6, 1e6), 128.0, 1e-9);
  EXPECT_DOUBLE_EQ(ExpectedExperts(4, 4, 1), 4.0);
  EXPECT_EQ(ExpectedExperts(0, 0, 5), 0.0);
}

TEST(Limits, ReadsTheSizesOfCaches) {
  const FakeMachine machine;
  const std::string cpu =
      "sys/devices/system/cpu/cpu" + std::to_string(ProcessAffinity().front()) + "/cache/index";
  const auto add = [&](int index, const char* level, const char* type, const char* size) {
    machine.Write(cpu + std::to_string(index) + "/level", level);
    machine.Write(cpu + std::to_string(index) + "/type", type);
    machine.Write(cpu + std::to_string(index) + "/size", size);
  };
  add(0, "1\n", "Data\n", "48K\n");
  add(1, "1\n", "Instruction\n", "32K\n");
  add(2, "2\n", "Unified\n", "2048K\n");
  add(3, "3\n", "Unified\n", "32M\n");
  EXPECT_EQ(CacheBytes(machine.root()), (std::vector<uint64_t>{48 << 10, 2048 << 10, 32 << 20}));
  EXPECT_EQ(CacheBytes(machine.root() + "/none"), (std::vector<uint64_t>{0, 0, 0}));
}

TEST(Limits, EveryInstructionSetHasEveryPeak) {
  ThreadPool pool(1);
  for (const kernels::Isa isa : kernels::SupportedIsas()) {
    for (const auto peak : {kernels::Peak::kF32, kernels::Peak::kBF16, kernels::Peak::kInt8}) {
      const double rate = MeasurePeak(&pool, isa, peak);
      EXPECT_GT(rate, 1e8) << kernels::Name(isa) << " " << kernels::Name(peak);
      // A merged chain of additions would show as a rate that no core reaches.
      EXPECT_LT(rate, 2e12) << kernels::Name(isa) << " " << kernels::Name(peak);
    }
  }
}

TEST(Limits, ReadingTakesInEveryByte) {
  std::vector<std::byte> memory(3 * 4096 + 64);
  std::byte* data = memory.data() + (64 - reinterpret_cast<uintptr_t>(memory.data()) % 64) % 64;
  for (const kernels::Isa isa : kernels::SupportedIsas()) {
    const uint64_t before = kernels::ReadAll(isa, data, 3 * 4096);
    for (const size_t at : {size_t{0}, size_t{4095}, size_t{8191}, size_t{3 * 4096 - 1}}) {
      data[at] = std::byte{1};
      EXPECT_NE(kernels::ReadAll(isa, data, 3 * 4096), before) << kernels::Name(isa) << " " << at;
      data[at] = std::byte{0};
    }
  }
}

TEST(Bench, MakesARowOfEveryCombination) {
  BenchOptions options;
  options.prompts = {9, 0};
  options.generations = {3};
  options.depths = {20, 0};
  options.batches = {1, 3};
  options.threads = {1, 2};
  options.repetitions = 2;
  auto bench = Bench::Open(Demo(), options);
  ASSERT_TRUE(bench.ok()) << bench.error().ToString();
  std::vector<BenchRow> rows;
  double share = 0.0;
  const auto done = (*bench)->Run([&](const BenchRow& row) { rows.push_back(row); },
                                  [&](const BenchProgress& progress) {
                                    EXPECT_GE(progress.share, share);
                                    share = progress.share;
                                    return true;
                                  });
  ASSERT_TRUE(done.ok()) << done.error().ToString();
  ASSERT_EQ(rows.size(), 16u);
  EXPECT_EQ(rows.front().depth, 0);  // contexts only grow
  EXPECT_EQ(rows.back().depth, 20);
  EXPECT_GT(share, 0.5);
  for (const BenchRow& row : rows) {
    EXPECT_EQ(row.samples.size(), 2u);
    EXPECT_EQ(row.of_first_depth.has_value(), row.depth == 20);
    for (const double value : {row.median, row.bytes_per_second, row.flops_per_second,
                               row.bandwidth_share, row.compute_share, row.limits.read}) {
      EXPECT_TRUE(std::isfinite(value) && value > 0.0) << row.Name();
    }
    EXPECT_LE(row.min, row.median);
    EXPECT_LE(row.median, row.max);
    const Json json = ToJson(row, (*bench)->facts());
    EXPECT_EQ(GetInt(json, "n_prompt") + GetInt(json, "n_gen"), row.prompt + row.generated);
  }
}

TEST(Bench, EndsWhenItIsToldTo) {
  BenchOptions options;
  options.prompts = {64};
  options.generations = {};
  auto bench = Bench::Open(Demo(), options);
  ASSERT_TRUE(bench.ok());
  const auto done = (*bench)->Run([](const BenchRow&) { FAIL() << "a row of nothing"; },
                                  [](const BenchProgress&) { return false; });
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), Code::kCancelled);
}

TEST(Bench, RefusesWhatMakesNoRow) {
  BenchOptions options;
  options.prompts = {0};
  options.generations = {0};
  const auto bench = Bench::Open(Demo(), options);
  ASSERT_FALSE(bench.ok());
  EXPECT_EQ(bench.error().code(), Code::kBadInput);
}

TEST(Bench, ARowThatOthersDisturbedSaysSo) {
  BenchRow row;
  EXPECT_FALSE(row.spoiled());
  row.foreign_cpu = 0.07;
  EXPECT_FALSE(row.spoiled());
  row.foreign_cpu = 0.5;
  EXPECT_TRUE(row.spoiled());
  const Json json = ToJson(row, {});
  EXPECT_TRUE(GetBool(json, "spoiled"));
  EXPECT_DOUBLE_EQ(GetDouble(json, "foreign_cpu_share"), 0.5);
  EXPECT_TRUE(json["joules_per_token"].is_null());
}

}  // namespace
}  // namespace lode::api

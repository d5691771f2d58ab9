// The memory plan against what is taken: every term that PlanMemory computes is compared with what the
// heap and the address space gain when the thing is made. Whole processes: runs/plan_vs_rss.sh.
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "api/open.h"
#include "formats/gguf.h"
#include "model/packer.h"
#include "quant/pack.h"
#include "tests/support/shared.h"

namespace lode {
namespace {

uint64_t HeapBytes() {
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Pages of the address space; the states are mapped, not allocated.
uint64_t AddressBytes() {
  std::ifstream file("/proc/self/statm");
  uint64_t pages = 0;
  file >> pages;
  return pages * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
}

// What the allocator adds to a few large blocks, and names, lists, threads.
constexpr uint64_t kBookkeeping = 256 << 10;

std::unique_ptr<model::Model> BindModel(const std::string& path) {
  auto source = api::OpenSource(path);
  EXPECT_TRUE(source.ok()) << source.error().ToString();
  auto model = model::Bind(*source);
  EXPECT_TRUE(model.ok()) << model.error().ToString();
  return std::move(*model);
}

TEST(Plan, TheEngineTakesTheWorkspaceAndTheStatesOfThePlan) {
  for (const char* path : {"demo", "golden/latent-super", "golden/gguf/moe-k.gguf"}) {
    const auto model = BindModel(std::string(path) == "demo" ? "demo" : testing::TestFile(path));
    for (const auto& [context, agents] : {std::pair{4096, 1}, {1000, 4}}) {
      api::RunOptions run;
      run.threads = 2;
      run.context_tokens = context;
      run.agents = agents;
      const auto options =
          api::EngineOptionsFor(model->spec, model->quantized, model->any_bf16, run);
      const api::MemoryPlan plan = api::PlanMemory(*model, options);
      const uint64_t heap = HeapBytes();
      const uint64_t addresses = AddressBytes();
      const runtime::Engine engine(*model, options);
      const uint64_t heap_gain = HeapBytes() - heap;
      EXPECT_GE(heap_gain, plan.workspace) << path;
      EXPECT_LE(heap_gain, plan.workspace + kBookkeeping) << path;
      // A new thread's stack and arena take addresses, too, so here only the lower bound is sharp.
      EXPECT_GE(AddressBytes() - addresses, plan.states) << path;
    }
  }
}

TEST(Plan, BindingTakesTheVectorsAndCopiesNoMatrix) {
  const auto source = api::OpenSource("demo");
  ASSERT_TRUE(source.ok());
  const uint64_t heap = HeapBytes();
  const auto model = model::Bind(*source);
  const uint64_t gain = HeapBytes() - heap;
  ASSERT_TRUE(model.ok());
  EXPECT_GE(gain, (*model)->vector_bytes);
  EXPECT_LE(gain, (*model)->vector_bytes + kBookkeeping);
  EXPECT_GT((*model)->weight_bytes, 8 * (*model)->vector_bytes);
}

TEST(Plan, EveryByteOfTheTensorsIsCountedOnce) {
  for (const char* path :
       {"golden/moe-nano", "golden/sharded-tied", "golden/modelopt-mixed",
        "golden/gguf/f32-latent-mtp.gguf", "golden/gguf/split-00001-of-00004.gguf"}) {
    const auto model = BindModel(testing::TestFile(path));
    const runtime::EngineOptions options =
        api::EngineOptionsFor(model->spec, model->quantized, model->any_bf16, {});
    const api::MemoryPlan plan = api::PlanMemory(*model, options, /*pack=*/false);
    uint64_t tensors = 0;
    for (const auto& info : model->source->tensors()) tensors += info.bytes;
    EXPECT_EQ(plan.weights + plan.other_tensors, tensors) << path;
    EXPECT_GT(plan.other_tensors, 0u) << path;
    EXPECT_GT(plan.headers, 0u) << path;
    EXPECT_EQ(plan.total(), plan.weights + plan.other_tensors + plan.headers + plan.vectors +
                                plan.workspace + plan.states + plan.logits);
    // Packed matrices stand in for their bytes in the file.
    const api::MemoryPlan packed = api::PlanMemory(*model, options);
    EXPECT_EQ(plan.packed, 0u);
    EXPECT_EQ(packed.total() - packed.packed + model::Packer::SizeOf(*model).replaced,
              plan.total());
  }
}

TEST(Plan, ThePackerTakesWhatThePlanSaysAndTheModelComputesTheSame) {
  for (const char* path : {"golden/moe-nano", "golden/modelopt-mixed", "golden/gguf/moe-k.gguf"}) {
    const auto model = BindModel(testing::TestFile(path));
    const model::Packer::Size size = model::Packer::SizeOf(*model);
    ASSERT_GT(size.packed, 0u) << path;
    api::RunOptions run;
    run.threads = 1;
    runtime::Engine engine(
        *model, api::EngineOptionsFor(model->spec, model->quantized, model->any_bf16, run));
    const std::vector<int32_t> tokens = {5, 17, 3, 99, 64, 2, 2, 31};
    const auto logits = [&] {
      auto sequence = engine.NewSequence();
      std::vector<float> out(tokens.size() * static_cast<size_t>(engine.vocabulary()));
      EXPECT_TRUE(engine.Append(*sequence, tokens, out.data(), true).ok());
      return out;
    };
    const auto before = logits();
    const uint64_t addresses = AddressBytes();
    model::Packer packer(model.get());
    packer.Finish();
    EXPECT_GE(AddressBytes() - addresses, size.packed) << path;
    EXPECT_TRUE(packer.Adopt());
    EXPECT_EQ(model::Packer::SizeOf(*model).packed, 0u) << "nothing is left to pack";
    const auto after = logits();
    EXPECT_EQ(std::memcmp(before.data(), after.data(), before.size() * sizeof(float)), 0) << path;
  }
}

TEST(Plan, APackedFileIsMappedAndComputesTheSame) {
  for (const char* path : {"golden/gguf/moe-k.gguf", "golden/gguf/mix-4bit.gguf"}) {
    const auto source = api::OpenSource(testing::TestFile(path));
    ASSERT_TRUE(source.ok());
    const std::string out = ::testing::TempDir() + "plan_test_packed.gguf";
    const auto report = quant::Pack(dynamic_cast<const formats::GgufFile&>(**source), out,
                                    /*force=*/true, 2, nullptr);
    ASSERT_TRUE(report.ok()) << report.error().ToString();
    EXPECT_GT(report->packed, 0);
    const std::vector<int32_t> tokens = {5, 17, 3, 99, 64, 2, 2, 31};
    const auto logits = [&](const std::string& file, api::ActivationMode mode) {
      const auto model = BindModel(file);
      api::RunOptions run;
      run.threads = 2;
      run.activations = mode;
      runtime::Engine engine(
          *model, api::EngineOptionsFor(model->spec, model->quantized, model->any_bf16, run));
      auto sequence = engine.NewSequence();
      std::vector<float> y(tokens.size() * static_cast<size_t>(engine.vocabulary()));
      EXPECT_TRUE(engine.Append(*sequence, tokens, y.data(), true).ok());
      return y;
    };
    for (const auto mode : {api::ActivationMode::kAuto, api::ActivationMode::kF32}) {
      EXPECT_EQ(logits(testing::TestFile(path), mode), logits(out, mode)) << path;
    }
    const auto packed = BindModel(out);
    EXPECT_EQ(model::Packer::SizeOf(*packed).packed, 0u);
    const auto again = api::OpenSource(out);
    EXPECT_FALSE(
        quant::Pack(dynamic_cast<const formats::GgufFile&>(**again), out + "2", true, 1, nullptr)
            .ok());
  }
}

TEST(Plan, AnotherAgentCostsASlotAndItsPages) {
  const auto model = BindModel("demo");
  const auto plan = [&](int64_t agents) {
    api::RunOptions run;
    run.threads = 1;
    run.context_tokens = 1024;
    run.agents = agents;
    return api::PlanMemory(
        *model, api::EngineOptionsFor(model->spec, model->quantized, model->any_bf16, run));
  };
  const api::MemoryPlan one = plan(1);
  const api::MemoryPlan nine = plan(9);
  // Up to the rounding of the whole pool and of each state to a page of the system, and a page each
  // that a sequence may leave half empty.
  const uint64_t pages = 1024 / one.page_tokens;
  EXPECT_GE(nine.states - one.states + 4096, 8 * (one.slot_bytes + pages * one.page_bytes));
  EXPECT_LE(nine.states - one.states,
            8 * (one.slot_bytes + (pages + 1) * one.page_bytes) + 9 * 4096);
  EXPECT_EQ(nine.logits - one.logits,
            8 * sizeof(float) * static_cast<uint64_t>(model->spec.vocabulary));
  EXPECT_EQ(nine.workspace, one.workspace);
}

}  // namespace
}  // namespace lode

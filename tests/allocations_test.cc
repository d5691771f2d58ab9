// Serving takes no memory from the heap: once answers run, a step allocates nothing but what the texts'
// own records grow by, which is the odd doubling of a list.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/support/serving.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<long> allocations{0};

void* Allocate(std::size_t bytes, std::size_t alignment) {
  if (counting.load(std::memory_order_relaxed)) ++allocations;
  void* memory = alignment > alignof(std::max_align_t)
                     ? std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment)
                     : std::malloc(bytes);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(std::size_t bytes) { return Allocate(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return Allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace lode::runtime {
namespace {

struct Case {
  const char* model;
  model::Numerics numerics;
  int64_t drafts;
};

// Of 64 steps in which four answers go on.
long CountAllocations(const Case& c) {
  const auto model = LoadGolden(c.model);
  EngineOptions engine_options;
  engine_options.numerics = c.numerics;
  engine_options.numerics.fused_experts =
      c.numerics.activations == model::Activations::kNative && model::CanFuseExperts(*model);
  engine_options.threads = 2;
  engine_options.sequences_max = 4;
  engine_options.context_tokens = 4096;
  engine_options.trial_rows_max = c.drafts > 0 ? 1 + c.drafts : 0;
  Engine engine(*model, engine_options);
  SchedulerOptions options;
  options.running_max = 4;
  options.drafts_max = options.drafts_fixed = c.drafts;
  if (c.drafts == 0) options.drafts_fixed = -1;
  Scheduler scheduler(&engine, options);
  for (int i = 0; i < 4; ++i) {
    Request request;
    for (int j = 0; j < 140 + 40 * i; ++j) request.prompt.push_back((7 * j + i) % 50);
    request.root = scheduler.default_root();
    request.tokens_max = 400;
    request.sampling.temperature = i % 2 == 0 ? 0.0f : 0.9f;
    request.sampling.seed = 5;
    EXPECT_TRUE(scheduler.Submit(std::move(request)).ok());
  }
  int64_t tokens = 0;
  const auto on_event = [&](const Event& event) { tokens += event.kind == Event::Kind::kToken; };
  while (tokens < 4 * 40) EXPECT_TRUE(scheduler.Step(on_event));
  allocations = 0;
  counting = true;
  for (int i = 0; i < 64; ++i) scheduler.Step(on_event);
  counting = false;
  return allocations;
}

TEST(Serving, AStepOfAnswersAllocatesNothing) {
  const model::Numerics f32 = {model::Activations::kF32, kernels::KvType::kF32};
  const model::Numerics native = {model::Activations::kNative, kernels::KvType::kBF16};
  const Case cases[] = {{"moe-nano", f32, 0},
                        {"moe-nano", native, 0},
                        {"latent-super", native, 0},
                        {"gguf/moe-k.gguf", native, 0},
                        {"latent-super", native, 3}};  // its MTP head guesses
  for (const Case& c : cases) {
    // Four texts and the tree's records of them may double once each.
    EXPECT_LE(CountAllocations(c), 12) << c.model << ", " << c.drafts << " guesses";
  }
}

TEST(Serving, TheCountWouldSeeOne) {
  allocations = 0;
  counting = true;
  delete new int(1);
  counting = false;
  EXPECT_EQ(allocations, 1);
}

}  // namespace
}  // namespace lode::runtime

// Whatever a config says, reading it gives a spec or an error; and whatever spec is let through can be
// listed, counted and laid out. Input: a config.json, or a GGUF's metadata as one flat JSON object.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/json.h"
#include "model/bind.h"
#include "model/config.h"
#include "model/forward.h"
#include "model/state.h"
#include "model/tensors.h"
#include "tests/support/memory_source.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lode;
  auto config = ParseJson({reinterpret_cast<const char*>(data), size}, {.python_numbers = true});
  if (!config.ok()) return 0;
  const bool gguf = FindKey(*config, "general.architecture") != nullptr;
  auto source = std::make_shared<testing::MemorySource>(
      std::move(*config), gguf ? tensor::Naming::kGguf : tensor::Naming::kHuggingFace);
  if (gguf) {
    source->Add("token_embd.weight", tensor::DType::kF32, {16, 8});
    source->Add("blk.1.ffn_gate_inp.weight", tensor::DType::kF32, {4, 8});
  }
  const auto spec = model::ReadSpec(*source);
  if (!spec.ok()) return 0;
  (void)model::PatternOf(*spec);
  (void)model::ListTensors(*spec);
  (void)model::CountTensors(*spec);
  for (const auto kv : {kernels::KvType::kF32, kernels::KvType::kBF16}) {
    (void)model::MakeStateLayout(*spec, {model::Activations::kF32, kv});
  }
  (void)model::Workspace::Bytes(*spec, {}, 256, 64);
  if (model::Bind(source).ok()) __builtin_trap();  // there are no weights
  return 0;
}

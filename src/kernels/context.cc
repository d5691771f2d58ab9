#include <cstdlib>

#include "base/check.h"
#include "kernels/ops.h"

namespace lode::kernels {

void Context::Free::operator()(float* data) const { std::free(data); }

uint64_t Context::ScratchBytes(int threads, int64_t scratch_floats, int64_t activation_bytes) {
  const auto round = [](uint64_t bytes) { return (bytes + 63) / 64 * 64; };
  return static_cast<uint64_t>(threads) *
             round(static_cast<uint64_t>(scratch_floats) * sizeof(float)) +
         round(static_cast<uint64_t>(activation_bytes));
}

Context::Context(ThreadPool* pool, int64_t scratch_floats, int64_t activation_bytes)
    : pool_(pool), activation_bytes_(activation_bytes) {
  if (activation_bytes > 0) {
    activations_.reset(
        static_cast<float*>(std::aligned_alloc(64, ScratchBytes(0, 0, activation_bytes))));
    LODE_CHECK(activations_ != nullptr);
  }
  for (int i = 0; i < pool->threads(); ++i) {
    auto* data = static_cast<float*>(std::aligned_alloc(64, ScratchBytes(1, scratch_floats)));
    LODE_CHECK(data != nullptr);
    scratch_.emplace_back(data);
  }
}

}  // namespace lode::kernels

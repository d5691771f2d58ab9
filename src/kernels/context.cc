#include <cstdlib>

#include "base/check.h"
#include "kernels/ops.h"

namespace lode::kernels {

void Context::Free::operator()(float* data) const { std::free(data); }

uint64_t Context::ScratchBytes(int threads, int64_t scratch_floats) {
  const uint64_t bytes = static_cast<uint64_t>(scratch_floats) * sizeof(float);
  return static_cast<uint64_t>(threads) * ((bytes + 63) / 64 * 64);
}

Context::Context(ThreadPool* pool, int64_t scratch_floats) : pool_(pool) {
  for (int i = 0; i < pool->threads(); ++i) {
    auto* data = static_cast<float*>(std::aligned_alloc(64, ScratchBytes(1, scratch_floats)));
    LODE_CHECK(data != nullptr);
    scratch_.emplace_back(data);
  }
}

}  // namespace lode::kernels

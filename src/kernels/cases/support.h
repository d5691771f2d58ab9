// What the kernel tests share: random data, and running a body on every instruction set of this
// machine.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "hwy/targets.h"
#include "kernels/isa.h"
#include "kernels/ops.h"

namespace lode::kernels::cases {

inline std::vector<float> Random(int64_t count, uint32_t seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> out(static_cast<size_t>(count));
  for (float& x : out) x = normal(generator);
  return out;
}

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Targets without a fused multiply-add round twice and so have bits of their own.
inline bool HasFma(int64_t target) {
#if defined(__x86_64__)
  return target == HWY_AVX2 || target == HWY_AVX3 || target == HWY_AVX3_DL;
#else
  return target != HWY_EMU128 && target != HWY_SCALAR;
#endif
}

// Calls body(target) once for each instruction set that was compiled and that this machine has.
template <class Body>
void OnEveryTarget(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body(target);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

// Calls body(isa) once for each instruction set of kernels/isa.h that this machine has.
template <class Body>
void OnEveryIsa(const Body& body) {
  const Isa active = ActiveIsa();
  for (const Isa isa : SupportedIsas()) {
    ForceIsa(isa);
    body(isa);
  }
  ForceIsa(active);
}

}  // namespace lode::kernels::cases

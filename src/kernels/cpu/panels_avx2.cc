// Panels on AVX2.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__x86_64__)
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,bmi,bmi2")
namespace lode::kernels::panels_avx2 {
#include "kernels/cpu/panels_avx2-inl.h"
#include "kernels/cpu/panels-inl.h"
}  // namespace lode::kernels::panels_avx2
HWY_POP_ATTRIBUTES

namespace lode::kernels {
const PanelKernels& PanelKernelsAvx2() {
  static constexpr PanelKernels kKernels = panels_avx2::MakeKernels();
  return kKernels;
}
}  // namespace lode::kernels
#endif

// Panels on AVX-512 without dot products.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__x86_64__)
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,bmi,bmi2,avx512f,avx512vl,avx512dq,avx512bw")
namespace lode::kernels::panels_avx512 {
#define LODE_DOT_INSTRUCTIONS 0
#include "kernels/cpu/panels_avx512-inl.h"
#include "kernels/cpu/panels-inl.h"
}  // namespace lode::kernels::panels_avx512
HWY_POP_ATTRIBUTES

namespace lode::kernels {
const PanelKernels& PanelKernelsAvx512() {
  static constexpr PanelKernels kKernels = panels_avx512::MakeKernels();
  return kKernels;
}
}  // namespace lode::kernels
#endif

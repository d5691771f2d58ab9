// Panels on AVX2 with the integer dot product of AVX-VNNI.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__x86_64__)
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,bmi,bmi2,avxvnni")
namespace lode::kernels::panels_avxvnni {
#define LODE_DPBUSD _mm256_dpbusd_avx_epi32
#include "kernels/cpu/panels_avx2-inl.h"
#include "kernels/cpu/panels-inl.h"
}  // namespace lode::kernels::panels_avxvnni
HWY_POP_ATTRIBUTES

namespace lode::kernels {
const PanelKernels& PanelKernelsAvxVnni() {
  static constexpr PanelKernels kKernels = panels_avxvnni::MakeKernels();
  return kKernels;
}
}  // namespace lode::kernels
#endif

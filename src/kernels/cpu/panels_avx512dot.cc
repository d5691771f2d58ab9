// Panels on AVX-512 with VNNI and BF16 dot products.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__x86_64__)
#include <immintrin.h>

HWY_PUSH_ATTRIBUTES("avx2,fma,f16c,bmi,bmi2,avx512f,avx512vl,avx512dq,avx512bw,avx512vnni,avx512bf16")
namespace lode::kernels::panels_avx512dot {
#define LODE_DOT_INSTRUCTIONS 1
#include "kernels/cpu/panels_avx512-inl.h"
#include "kernels/cpu/panels-inl.h"
#include "kernels/cpu/panels_expanded-inl.h"
}  // namespace lode::kernels::panels_avx512dot
HWY_POP_ATTRIBUTES

namespace lode::kernels {
const PanelKernels& PanelKernelsAvx512Dot() {
  static constexpr PanelKernels kKernels = panels_avx512dot::MakeKernelsWithExpansion();
  return kKernels;
}
}  // namespace lode::kernels
#endif

// Panels on arm64's baseline, NEON.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define LODE_NEON_DOT 0
namespace lode::kernels::panels_neon {
#include "kernels/cpu/panels_neon-inl.h"
#include "kernels/cpu/panels-inl.h"
}  // namespace lode::kernels::panels_neon

namespace lode::kernels {
const PanelKernels& PanelKernelsNeon() {
  static constexpr PanelKernels kKernels = panels_neon::MakeKernels();
  return kKernels;
}
}  // namespace lode::kernels
#endif

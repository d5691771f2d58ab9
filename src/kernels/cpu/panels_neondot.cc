// Panels on NEON with the integer dot products of Armv8.2.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

#if defined(__aarch64__)
#include <arm_neon.h>

#define LODE_NEON_DOT 1
HWY_PUSH_ATTRIBUTES("arch=armv8.2-a+dotprod")
namespace lode::kernels::panels_neondot {
#include "kernels/cpu/panels_neon-inl.h"
#include "kernels/cpu/panels-inl.h"
}  // namespace lode::kernels::panels_neondot
HWY_POP_ATTRIBUTES

namespace lode::kernels {
const PanelKernels& PanelKernelsNeonDot() {
  static constexpr PanelKernels kKernels = panels_neondot::MakeKernels();
  return kKernels;
}
}  // namespace lode::kernels
#endif

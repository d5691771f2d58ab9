// Panels in plain C++, for any machine.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

// There are no vector registers to keep sums in, and unrolled the tiles take a minute to compile.
#undef LODE_UNROLL
#define LODE_UNROLL

namespace lode::kernels {
namespace panels_portable {
#include "kernels/cpu/panels_portable-inl.h"
#include "kernels/cpu/panels-inl.h"
}  // namespace panels_portable

const PanelKernels& PanelKernelsPortable() {
  static constexpr PanelKernels kKernels = panels_portable::MakeKernels();
  return kKernels;
}
}  // namespace lode::kernels

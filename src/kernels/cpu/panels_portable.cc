// Panels in plain C++, for any machine.
#include "kernels/cpu/panels.h"
#include "kernels/cpu/panels_macros.h"

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

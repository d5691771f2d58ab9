#include "kernels/cpu/panels.h"

namespace lode::kernels {

const PanelKernels& PanelKernelsPortable();
const PanelKernels& PanelKernelsAvx2();
const PanelKernels& PanelKernelsAvxVnni();
const PanelKernels& PanelKernelsAvx512();
const PanelKernels& PanelKernelsAvx512Dot();
const PanelKernels& PanelKernelsNeon();
const PanelKernels& PanelKernelsNeonDot();

const PanelKernels& PanelKernelsFor(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::kAvx2:
      return PanelKernelsAvx2();
    case Isa::kAvxVnni:
      return PanelKernelsAvxVnni();
    case Isa::kAvx512:
      return PanelKernelsAvx512();
    case Isa::kAvx512Dot:
      return PanelKernelsAvx512Dot();
#elif defined(__aarch64__)
    case Isa::kNeon:
      return PanelKernelsNeon();
    case Isa::kNeonDot:
      return PanelKernelsNeonDot();
#endif
    default:
      return PanelKernelsPortable();
  }
}

}  // namespace lode::kernels

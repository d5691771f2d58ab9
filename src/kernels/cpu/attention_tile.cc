// Attention over BF16 and int8 pages without dot products, for every instruction set: see
// attention_tile-inl.h.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_tile.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lode::kernels {
namespace HWY_NAMESPACE {
namespace attention_fma {
#include "kernels/cpu/attention_tile-inl.h"
}  // namespace attention_fma

AttentionKernels TileBF16() {
  using namespace attention_fma;
  return {AppendBF16, AttendBF16, MergeSpan, Finish};
}
AttentionKernels TileInt8() {
  using namespace attention_fma;
  return {AppendInt8, AttendInt8, MergeSpan, Finish};
}

}  // namespace HWY_NAMESPACE
}  // namespace lode::kernels
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lode::kernels {

HWY_EXPORT(TileBF16);
HWY_EXPORT(TileInt8);

AttentionKernels AttentionBF16() { return HWY_DYNAMIC_DISPATCH(TileBF16)(); }
AttentionKernels AttentionInt8() { return HWY_DYNAMIC_DISPATCH(TileInt8)(); }

}  // namespace lode::kernels
#endif  // HWY_ONCE

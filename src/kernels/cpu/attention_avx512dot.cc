// Attention over BF16 and int8 pages with the dot products of Isa::kAvx512Dot: see
// attention_tile-inl.h. Highway's own AVX-512 target has no dot products, so this file adds the two
// extensions to that target's attributes; Highway's functions are inlined into it as they are.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_avx512dot.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "kernels/cpu/lanes-inl.h"

#if HWY_TARGET == HWY_AVX3
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR_AVX3 ",avx512vnni,avx512bf16")
namespace lode::kernels {
namespace HWY_NAMESPACE {
namespace attention_dot {
#define LODE_ATTENTION_DOT
#include "kernels/cpu/attention_tile-inl.h"
#undef LODE_ATTENTION_DOT
}  // namespace attention_dot
}  // namespace HWY_NAMESPACE

AttentionKernels AttentionBF16Dot() {
  using namespace HWY_NAMESPACE::attention_dot;
  return {AppendBF16, AttendBF16, MergeSpan, Finish};
}
AttentionKernels AttentionInt8Dot() {
  using namespace HWY_NAMESPACE::attention_dot;
  return {AppendInt8, AttendInt8, MergeSpan, Finish};
}

}  // namespace lode::kernels
HWY_POP_ATTRIBUTES
#endif  // HWY_TARGET == HWY_AVX3
#endif  // __x86_64__

#include "kernels/isa.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "base/check.h"
#include "base/text.h"
#include "hwy/targets.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace lode::kernels {
namespace {

constexpr Isa kAll[] = {Isa::kAvx512Dot, Isa::kAvx512, Isa::kAvxVnni, Isa::kAvx2,
                        Isa::kNeonDot,   Isa::kNeon,   Isa::kPortable};

#if defined(__x86_64__)
// Two that clang 14 has no names for. That the system saves their registers the others' names say.
bool HasF16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
bool HasAvxVnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & 1u << 4) != 0;
}
#endif

bool Has(Isa isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw");
  switch (isa) {
    case Isa::kAvx512Dot:
      return avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
    case Isa::kAvx512:
      return avx512;
    case Isa::kAvxVnni:
      return avx2 && HasAvxVnni();
    case Isa::kAvx2:
      return avx2;
    default:
      return isa == Isa::kPortable;
  }
#elif defined(__aarch64__)
  if (isa == Isa::kNeonDot) return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
  return isa == Isa::kNeon || isa == Isa::kPortable;
#else
  return isa == Isa::kPortable;
#endif
}

// Highway's targets that belong to an instruction set: itself and everything less.
int64_t HighwayTargets(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::kAvx512Dot:
    case Isa::kAvx512:
      return HWY_AVX3;
    case Isa::kAvxVnni:
    case Isa::kAvx2:
      return HWY_AVX2;
    default:
      return HWY_STATIC_TARGET;
  }
#else
  (void)isa;
  return HWY_STATIC_TARGET;
#endif
}

bool Find(const std::string& name, Isa* found) {
  for (const Isa isa : SupportedIsas()) {
    if (name == Name(isa)) {
      *found = isa;
      return true;
    }
  }
  return false;
}

void Apply(Isa isa) {
  hwy::SetSupportedTargetsForTest(HighwayTargets(isa));
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

std::atomic<Isa>& Active() {
  static std::atomic<Isa> active = [] {
    Isa isa = SupportedIsas().front();
    const char* wanted = std::getenv("LODE_ISA");
    if (wanted != nullptr && Find(wanted, &isa)) Apply(isa);
    return isa;
  }();
  return active;
}

}  // namespace

const char* Name(Isa isa) {
  switch (isa) {
    case Isa::kPortable:
      return "portable";
    case Isa::kNeon:
      return "neon";
    case Isa::kNeonDot:
      return "neon-dot";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvxVnni:
      return "avx-vnni";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kAvx512Dot:
      return "avx512-dot";
  }
  LODE_CHECK(false);
}

std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas;
  std::copy_if(std::begin(kAll), std::end(kAll), std::back_inserter(isas), Has);
  return isas;
}

Isa ActiveIsa() { return Active().load(std::memory_order_relaxed); }

void ForceIsa(Isa isa) {
  LODE_CHECK(Has(isa));
  Active().store(isa);
  Apply(isa);
}

Result<void> CheckIsaVariable() {
  const char* wanted = std::getenv("LODE_ISA");
  Isa isa;
  if (wanted == nullptr || Find(wanted, &isa)) {
    ActiveIsa();  // applies it
    return {};
  }
  std::vector<std::string> names;
  for (const Isa each : SupportedIsas()) names.emplace_back(Name(each));
  return Error(Code::kBadInput,
               "LODE_ISA names " + Quote(wanted) + ", which this program or machine does not have",
               "take one of " + Join(names, ", ") + ", or unset it");
}

}  // namespace lode::kernels

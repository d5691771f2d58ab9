// The instruction sets that kernels are written for, and which of them runs. The Highway kernels
// (cpu/targets.h) follow the same choice.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace lode::kernels {

// Ascending: what stands later is preferred where the machine has it.
enum class Isa : uint8_t {
  kPortable,    // plain C++, any machine
  kNeon,        // arm64
  kNeonDot,     // arm64 with the dot products of Armv8.2
  kAvx2,        // with FMA and F16C
  kAvxVnni,     // AVX2 and 256-bit integer dot products
  kAvx512,      // F, VL, DQ, BW
  kAvx512Dot,   // and VNNI and BF16 dot products
};

// As LODE_ISA spells it: "portable", "avx2", "avx512-dot".
const char* Name(Isa isa);

// What this program was built for and this machine has, the best first; ends with kPortable.
std::vector<Isa> SupportedIsas();

// What runs: the best, or what the environment variable LODE_ISA names (checked by
// CheckIsaVariable).
Isa ActiveIsa();

// For tests: from now on ActiveIsa() is `isa`, which must be among SupportedIsas().
// Threads: none may be inside a kernel.
void ForceIsa(Isa isa);

// Errors: kBadInput when LODE_ISA names nothing this program and machine have, with the names.
Result<void> CheckIsaVariable();

}  // namespace lode::kernels

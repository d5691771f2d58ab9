// What the machine can do at most, for benchmarks to compare with: products whose operands stay in
// registers, and plain reads. Not used to compute anything.
//
// One operation is one multiplication or one addition. Each loop keeps more independent chains than
// an instruction's latency times its ports, so it measures throughput. What an instruction set
// lacks is measured as the kernels would do it: bf16 without a dot product is widened and goes
// through fused multiply-adds, int8 without one is multiplied into 16 bits and summed in pairs.
// Threads: every function may run on any number of threads at once. Errors: none.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/isa.h"

namespace lode::kernels {

enum class Peak : uint8_t { kF32, kBF16, kInt8 };
const char* Name(Peak peak);  // "f32", "bf16", "int8"

// Runs `rounds` rounds of the loop on the calling thread; returns how many operations that were.
// The machine must support `isa`.
double RunPeak(Isa isa, Peak peak, int64_t rounds);

// Reads every byte of [data, data + bytes) once with the widest loads of `isa`, asking ahead;
// `bytes` is a multiple of 4096 and `data` aligned to 64. Returns something that depends on all of
// them.
uint64_t ReadAll(Isa isa, const std::byte* data, size_t bytes);

}  // namespace lode::kernels

// What the benchmarks of kernels report: GB/s, GFLOP/s, and their shares of this machine's limits
// (kernels/peaks.h), which are measured in the same process on as many threads, with the
// instruction set that runs (LODE_ISA).
#pragma once

#include <benchmark/benchmark.h>

#include "kernels/isa.h"
#include "kernels/peaks.h"

namespace lode::bench {

// Sets the counters from the whole run's bytes and operations; either may be 0.
void Report(benchmark::State& state, double bytes, double operations, kernels::Peak peak,
            int threads);

}  // namespace lode::bench

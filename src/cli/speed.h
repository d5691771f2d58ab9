// The line after an answer: how fast it came.
#pragma once

#include <optional>

#include "runtime/generate.h"

namespace lode::cli {

// "prompt 12 tokens, 310.2 tok/s; answer 100 tokens, 85.1 tok/s, 0.21 GB/s of weights; 40.1 J, 0.36
// J/token" on standard error. `joules`: of prompt and answer together, where that can be measured.
void PrintSpeed(const runtime::GenerateReport& report, const runtime::Engine& engine,
                std::optional<double> joules);

}  // namespace lode::cli

// The line after an answer: how fast it came.
#pragma once

#include "runtime/generate.h"

namespace lode::cli {

// "prompt 12 tokens, 310.2 tok/s; answer 100 tokens, 85.1 tok/s, 0.21 GB/s of weights" on standard error.
void PrintSpeed(const runtime::GenerateReport& report, const runtime::Engine& engine);

}  // namespace lode::cli

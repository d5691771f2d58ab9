// From one root of the prefix tree into another: what all may read (the same beginning of
// everybody's prompts) is computed once, and each root that wants it gets a copy of its own. Roots
// never share frames, so nothing of one can be seen from, or pushed out by, another.
#pragma once

#include <span>

#include "base/result.h"
#include "runtime/scheduler.h"

namespace lode::runtime {

// The state at the end of `tokens` in `from`, and the pages before it, into `to`. False: `from` has
// no state there. Errors: kNoSpace. Cost: a copy of the bytes that `to` does not have. Threads: the
// owner.
Result<bool> CopyPoint(Scheduler* scheduler, RootId from, RootId to,
                       std::span<const Token> tokens);

}  // namespace lode::runtime

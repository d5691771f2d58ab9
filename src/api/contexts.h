// Saved contexts of this user: where they lie, what they must agree with, which of them are used.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "api/model_digest.h"
#include "api/open.h"
#include "base/result.h"
#include "runtime/saved/context_store.h"

namespace lode::api {

// HOME/contexts beside the models (hub/store.h).
Result<std::string> ContextFolder();
// Errors: those of a folder that cannot be made.
Result<runtime::ContextStore> OpenContexts();

// What a run of this model is known by: all bytes of its weights (model_digest.h, which calls
// `progress` while it reads them for the first time), the words of its vocabulary, its template,
// and as numerics the set of kernels, the instruction set, how inputs and the KV cache are rounded.
// Without text tools (null) there are no fingerprints of tokenizer and template. Errors:
// kCancelled.
Result<runtime::ContextFingerprints> FingerprintsOf(const tensor::TensorSource& source,
                                                    const model::Numerics& numerics,
                                                    int64_t vocabulary, const TextTools* tools,
                                                    const DigestProgress& progress = nullptr);
Result<runtime::ContextFingerprints> FingerprintsOf(const Running& running, const TextTools* tools,
                                                    const DigestProgress& progress = nullptr);

// Notes that a saved context was used now, as its file's time of modification: whoever lists or
// copies files changes the time of access. What cannot be noted is not.
void MarkUsed(const runtime::ContextStore& store, const std::string& name);
// Seconds since 1970; 0: not known.
int64_t LastUse(const runtime::ContextStore& store, const std::string& name);

// A saved context that is kept is spared by `lode ctx gc`: FOLDER/NAME.keep stands beside it.
Result<void> KeepSaved(const runtime::ContextStore& store, const std::string& name, bool keep);
bool IsKept(const runtime::ContextStore& store, const std::string& name);

}  // namespace lode::api

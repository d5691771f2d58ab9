// The verbs of `lode ctx`: what they share.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "api/contexts.h"
#include "base/json.h"
#include "cli/model_flags.h"
#include "runtime/saved/context_file.h"
#include "runtime/saved/context_seal.h"
#include "runtime/saved/context_store.h"

namespace lode::cli {

struct CtxFlags {
  ModelFlags model;
  std::string name, other;  // contexts; of some verbs one is a path
  std::vector<std::string> names;
  std::string prompt, file, recompute, keep, key_file, text_model, ttl;
  int64_t at = -1, tokens = 0, every = 0;
  int zstd = 0;
  bool json = false, force = false, off = false, dry_run = false, seal = false, no_special = false;
};

// ctx_files.cc: without a model.
Result<void> RunCtxFork(const CtxFlags& flags);
Result<void> RunCtxTruncate(const CtxFlags& flags);
Result<void> RunCtxSave(const CtxFlags& flags);
Result<void> RunCtxRestore(const CtxFlags& flags);
Result<void> RunCtxPin(const CtxFlags& flags);
Result<void> RunCtxGc(const CtxFlags& flags);
Result<void> RunCtxDiff(const CtxFlags& flags);

// ctx_model.cc: with one, or its tokenizer.
Result<void> RunCtxNew(CtxFlags& flags);
Result<void> RunCtxExplain(CtxFlags& flags);
// Computes the ids anew and compares every byte with what the file has.
Result<void> RecomputeCtx(CtxFlags& flags, const runtime::ContextFile& file, Json* json);

// A saved context by its name; what has a '/' or ends in .lctx and is there is a file at that path.
Result<std::unique_ptr<runtime::ContextFile>> OpenCtx(const runtime::ContextStore& store,
                                                      const std::string& name,
                                                      const runtime::Sealer* sealer);
// "8GiB", "500M": bytes. Errors: kBadInput.
Result<uint64_t> ParseByteCount(const std::string& text);
// "90", "15m", "12h", "7d": seconds; empty: 0. Errors: kBadInput.
Result<double> ParseSeconds(const std::string& text);

}  // namespace lode::cli

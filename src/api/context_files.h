// Saving and restoring contexts of include/lode/context.h: frames are leased by the owner thread
// and written by the caller's, so a save runs beside whatever the engine computes.
#pragma once

#include <memory>
#include <string>

#include "api/context_core.h"
#include "api/context_public.h"

namespace lode::api {

// Its ids, and the deepest state that is in memory, and those at its marks.
v1::Result<v1::Saved> SaveState(ContextCore* core, ContextState* state, const std::string& name,
                                const v1::SaveOptions& options);

// Its file is spared by the collector of garbage, or not any more.
v1::Status KeepOnDisk(ContextCore* core, const ContextState& state, const std::string& name,
                      bool keep);

// Fills a new state that nobody else has yet; `report` may be null.
v1::Status RestoreState(ContextCore* core, ContextState* state, const std::string& name,
                        const v1::RestoreOptions& options, v1::Restored* report);

}  // namespace lode::api

// Completion scripts for shells, made from the verbs and options that the program declares: a new
// flag completes without anybody having to remember it. Nothing here asks the program at completion
// time.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/result.h"

namespace lode::cli {

enum class Shell { kBash, kZsh, kFish };

// The whole script for `app` and its subcommands. Hidden options (empty group) are left out; an
// option whose values are a fixed set ("TEXT:{a,b}", as CLI::IsMember writes it) offers them, an
// option with a number offers nothing, any other value and every positional offers files.
std::string CompletionScript(const CLI::App& app, Shell shell);

}  // namespace lode::cli

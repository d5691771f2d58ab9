// The verbs of the program. Each Add... declares its subcommand and, when that is chosen, sets `action`.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>

#include "base/result.h"

namespace lode::cli {

using Action = std::function<Result<void>()>;

void AddChat(CLI::App& app, Action* action);
void AddGenerate(CLI::App& app, Action* action);
void AddLogits(CLI::App& app, Action* action);
void AddTokenize(CLI::App& app, Action* action);
void AddDetokenize(CLI::App& app, Action* action);
void AddRender(CLI::App& app, Action* action);
void AddInspect(CLI::App& app, Action* action);
void AddConvert(CLI::App& app, Action* action);
void AddPack(CLI::App& app, Action* action);
void AddCtx(CLI::App& app, Action* action);
void AddData(CLI::App& app, Action* action);
void AddPerplexity(CLI::App& app, Action* action);
void AddQuantize(CLI::App& app, Action* action);
void AddPull(CLI::App& app, Action* action);
void AddBench(CLI::App& app, Action* action);
void AddServe(CLI::App& app, Action* action);
void AddTrain(CLI::App& app, Action* action);
void AddSelftest(CLI::App& app, Action* action);
void AddCompletion(CLI::App& app, Action* action);

}  // namespace lode::cli

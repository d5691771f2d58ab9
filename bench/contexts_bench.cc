// What is reused, and how soon the first token comes: prompts of random ids that share beginnings,
// one after the other on one engine, as a server would see them; then many agents with one prompt.
//
//   contexts_bench MODEL [PREFIX [AGENTS [CACHE_MIB]]] [--json] [--prompts FILE]
//                                                            4096 tokens, 16 agents, 1024 MiB
//
// Milliseconds are those from handing the prompt over to the first token; with a bound, where the
// project has set itself one. --prompts writes the single prompts' ids for another program to be
// asked the same (runs/contexts_vs_llamacpp).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "api/open.h"
#include "base/file.h"
#include "base/json.h"
#include "runtime/scheduler.h"

namespace lode {
namespace {

using runtime::Event;
using runtime::Token;

double Now() {
  return std::chrono::duration<double, std::milli>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

class Bench {
 public:
  Bench(api::Running* running, int64_t prefix, int64_t agents, bool json)
      : json_(json),
        running_(*running), agents_(agents), scheduler_(running->engine.get(), Options(agents)) {
    std::mt19937 random(1);
    const auto some = [&](int64_t count) {
      std::vector<Token> tokens;
      for (int64_t i = 0; i < count; ++i) {
        tokens.push_back(static_cast<Token>(random() % static_cast<uint32_t>(
                                                           running->model->spec.vocabulary)));
      }
      return tokens;
    };
    prefix_ = some(prefix);
    for (auto& end : ends_) end = some(64);
    other_ = some(512);
  }

  void OneAfterAnother() {
    if (!json_) {
      std::printf("%-36s %8s %8s %8s %10s\n", "prompt", "tokens", "reused", "computed", "ms");
    }
    const int64_t all = static_cast<int64_t>(prefix_.size());
    Ask("cold", all, 0);
    Ask("same prefix, another end", all, 1, kSoon);
    Ask("same prefix, third end", all, 2, kSoon);
    Ask("exact repeat", all, 2);
    Ask("branch at the half, new end", all / 2, 3, kSoon);
    Ask("back to the full prefix, new end", all, 4, kSoon);
    Ask("branch at three quarters, new end", all * 3 / 4, 5);
    Report("unrelated", {other_});
    Ask("back to the full prefix, new end", all, 6);
  }

  void Agents() {
    std::vector<std::vector<Token>> prompts;
    std::mt19937 random(2);
    std::vector<Token> shared(prefix_.rbegin(), prefix_.rend());  // nobody has seen it
    for (int64_t i = 0; i < agents_; ++i) {
      prompts.push_back(shared);
      for (int j = 0; j < 32; ++j) {
        prompts.back().push_back(static_cast<Token>(
            random() % static_cast<uint32_t>(running_.model->spec.vocabulary)));
      }
    }
    const int64_t computed = Report(std::to_string(agents_) + " agents at once", prompts);
    const int64_t ideal = static_cast<int64_t>(shared.size()) + 32 * agents_;
    const double ratio = static_cast<double>(computed) / static_cast<double>(ideal);
    if (json_) {
      rows_.push_back(
          {{"name", "computed tokens over ideal"}, {"value", ratio}, {"at_most", 1.05}});
    } else {
      std::printf("  computed tokens over ideal: %.3f (<= 1.05)\n", ratio);
    }
  }

  // Errors: the file cannot be written.
  Result<void> Finish(const std::string& prompts) {
    if (json_) std::printf("%s\n", DumpJson(rows_).c_str());
    if (prompts.empty()) return {};
    return WriteFileAtomic(prompts, DumpJson(prompts_));
  }

 private:
  static runtime::SchedulerOptions Options(int64_t agents) {
    runtime::SchedulerOptions options;
    options.running_max = std::max<int64_t>(1, agents);
    return options;
  }
  // Milliseconds to reach with a prefix of 4,096 on a small model (docs/performance.md).
  static constexpr double kSoon = 250.0;

  void Ask(const std::string& name, int64_t prefix, size_t end, double most = 0.0) {
    std::vector<Token> prompt(prefix_.begin(), prefix_.begin() + prefix);
    prompt.insert(prompt.end(), ends_[end].begin(), ends_[end].end());
    Report(name, {prompt}, most);
  }
  // Returns how many tokens were computed.
  int64_t Report(const std::string& name, const std::vector<std::vector<Token>>& prompts,
                 double most = 0.0) {
    if (prompts.size() == 1) prompts_.push_back({{"name", name}, {"ids", prompts[0]}});
    int64_t tokens = 0, reused = 0;
    const double start = Now();
    double last_first = start;
    for (const auto& prompt : prompts) {
      runtime::Request request;
      request.prompt = prompt;
      request.tokens_max = 1;
      request.root = scheduler_.default_root();
      tokens += static_cast<int64_t>(prompt.size());
      const auto id = scheduler_.Submit(std::move(request));
      if (!id.ok()) {
        std::printf("%s\n", id.error().ToString().c_str());
        return 0;
      }
    }
    while (scheduler_.Step([&](const Event& event) {
      if (event.kind == Event::Kind::kStarted) reused += event.match.resume;
      if (event.kind == Event::Kind::kToken) last_first = Now();
      if (event.kind == Event::Kind::kFailed) std::printf("%s\n", event.error->ToString().c_str());
    })) {
    }
    const double milliseconds = last_first - start;
    if (json_) {
      Json row = {{"name", name}, {"tokens", tokens}, {"reused", reused}, {"ms", milliseconds}};
      if (most > 0.0) row["at_most"] = most;
      rows_.push_back(std::move(row));
      return tokens - reused;
    }
    const char* const verdict = most == 0.0            ? ""
                                : milliseconds <= most ? "  <= 250"
                                                       : "  MISSED 250";
    std::printf("%-36s %8lld %8lld %8lld %10.1f%s\n", name.c_str(), static_cast<long long>(tokens),
                static_cast<long long>(reused), static_cast<long long>(tokens - reused),
                milliseconds, verdict);
    std::fflush(stdout);
    return tokens - reused;
  }

  bool json_;
  Json rows_ = Json::array(), prompts_ = Json::array();
  api::Running& running_;
  int64_t agents_;
  runtime::Scheduler scheduler_;
  std::vector<Token> prefix_, other_;
  std::vector<Token> ends_[7];
};

int Main(int argc, char** argv) {
  std::vector<std::string> words;
  std::string prompts;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--json") == 0) {
      json = true;
    } else if (std::strcmp(argv[i], "--prompts") == 0 && i + 1 < argc) {
      prompts = argv[++i];
    } else {
      words.emplace_back(argv[i]);
    }
  }
  if (words.empty()) {
    std::fprintf(stderr, "contexts_bench MODEL [PREFIX [AGENTS [CACHE_MIB]]] [--json] "
                         "[--prompts FILE]\n");
    return 2;
  }
  const auto number = [&](size_t at, int64_t otherwise) {
    return at < words.size() ? std::atoll(words[at].c_str()) : otherwise;
  };
  const int64_t prefix = number(1, 4096), agents = number(2, 16), cache = number(3, 1024);
  auto source = api::OpenSource(words[0]);
  if (!source.ok()) {
    std::fprintf(stderr, "%s\n", source.error().ToString().c_str());
    return 2;
  }
  api::RunOptions options;
  options.context_tokens = prefix + 1024;
  options.cache_bytes = static_cast<uint64_t>(cache) << 20;
  auto running = api::Run(std::move(*source), options);
  if (!running.ok()) {
    std::fprintf(stderr, "%s\n", running.error().ToString().c_str());
    return 2;
  }
  running->FinishPacking();
  Bench bench(&*running, prefix, agents, json);
  bench.OneAfterAnother();
  if (agents > 0) bench.Agents();
  if (const auto done = bench.Finish(prompts); !done.ok()) {
    std::fprintf(stderr, "%s\n", done.error().ToString().c_str());
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace lode

int main(int argc, char** argv) { return lode::Main(argc, argv); }

// What is reused, and how soon the first token comes: prompts of random ids that share beginnings,
// one after the other on one engine, as a server would see them; then many agents with one prompt.
//
//   contexts_bench MODEL [PREFIX [AGENTS [CACHE_MIB]]]       4096 tokens, 16 agents, 1024 MiB
//
// Milliseconds are those from handing the prompt over to the first token.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "api/open.h"
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
  Bench(api::Running* running, int64_t prefix, int64_t agents)
      : running_(*running), agents_(agents), scheduler_(running->engine.get(), Options(agents)) {
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
    std::printf("%-36s %8s %8s %8s %10s\n", "prompt", "tokens", "reused", "computed", "ms");
    const int64_t all = static_cast<int64_t>(prefix_.size());
    Ask("cold", all, 0);
    Ask("same prefix, another end", all, 1);
    Ask("same prefix, third end", all, 2);
    Ask("exact repeat", all, 2);
    Ask("branch at the half, new end", all / 2, 3);
    Ask("back to the full prefix, new end", all, 4);
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
    std::printf("  computed tokens over ideal: %.3f\n",
                static_cast<double>(computed) / static_cast<double>(ideal));
  }

 private:
  static runtime::SchedulerOptions Options(int64_t agents) {
    runtime::SchedulerOptions options;
    options.running_max = agents;
    return options;
  }
  void Ask(const std::string& name, int64_t prefix, size_t end) {
    std::vector<Token> prompt(prefix_.begin(), prefix_.begin() + prefix);
    prompt.insert(prompt.end(), ends_[end].begin(), ends_[end].end());
    Report(name, {prompt});
  }
  // Returns how many tokens were computed.
  int64_t Report(const std::string& name, const std::vector<std::vector<Token>>& prompts) {
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
    std::printf("%-36s %8lld %8lld %8lld %10.1f\n", name.c_str(), static_cast<long long>(tokens),
                static_cast<long long>(reused), static_cast<long long>(tokens - reused),
                last_first - start);
    std::fflush(stdout);
    return tokens - reused;
  }

  api::Running& running_;
  int64_t agents_;
  runtime::Scheduler scheduler_;
  std::vector<Token> prefix_, other_;
  std::vector<Token> ends_[7];
};

int Main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "contexts_bench MODEL [PREFIX [AGENTS [CACHE_MIB]]]\n");
    return 2;
  }
  const int64_t prefix = argc > 2 ? std::atoll(argv[2]) : 4096;
  const int64_t agents = argc > 3 ? std::atoll(argv[3]) : 16;
  const int64_t cache = argc > 4 ? std::atoll(argv[4]) : 1024;
  auto source = api::OpenSource(argv[1]);
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
  Bench bench(&*running, prefix, agents);
  bench.OneAfterAnother();
  bench.Agents();
  return 0;
}

}  // namespace
}  // namespace lode

int main(int argc, char** argv) { return lode::Main(argc, argv); }

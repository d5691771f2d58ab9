// lode selftest: proves on this machine and this model that bits do not depend on how they are
// computed.
#include <cstdio>
#include <cstring>
#include <memory>
#include <random>
#include <utility>

#include "base/json.h"
#include "base/text.h"
#include "base/topology.h"
#include "cli/console.h"
#include "cli/model_flags.h"
#include "cli/selftest_contexts.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

struct Flags {
  ModelFlags model;
  int64_t tokens = 160;
  bool json = false;
};

using Bits = std::vector<float>;

// One way to compute the same thing.
struct Way {
  std::string name;
  int threads;
  int64_t chunk;    // rows of a step; 0: the whole prompt at once
  int64_t company;  // other sequences in every step, with other tokens and other lengths
  bool forked;      // the second half continues on a copy of the state
};

std::vector<Way> Ways(int threads) {
  std::vector<Way> ways = {{"token by token", 1, 1, 0, false}};
  for (const int64_t chunk : {0, 1, 7, 64, 512}) {
    const std::string name = chunk == 0 ? "whole" : "chunks of " + std::to_string(chunk);
    ways.push_back({name, 1, chunk, 0, false});
    if (threads > 1) {
      ways.push_back({name + Format(", %d threads", threads), threads, chunk, 0, false});
    }
  }
  ways.push_back({"beside 1 other sequence", threads, 7, 1, false});
  ways.push_back({"beside 3 other sequences", threads, 1, 3, false});
  ways.push_back({"forked half-way", threads, 64, 0, true});
  return ways;
}

std::vector<int32_t> SomeTokens(int64_t count, int64_t vocabulary, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<int32_t>(generator() % static_cast<uint32_t>(vocabulary)));
  }
  return tokens;
}

// Logits of every position, then the recurrent state and the full pages.
Result<Bits> Compute(const api::Running& running, const Way& way,
                     const std::vector<int32_t>& tokens) {
  runtime::EngineOptions options = running.options;
  options.threads = way.threads;
  options.sequences_max = 2 + way.company;
  const auto count = static_cast<int64_t>(tokens.size());
  const int64_t chunk = way.chunk == 0 ? count : std::min(way.chunk, count);
  options.rows_max = chunk * (1 + 2 * way.company);
  options.context_tokens = count * (2 + 2 * way.company) + 512;
  options.sequence_tokens_max = 0;
  runtime::Engine engine(*running.model, options);
  const auto width = static_cast<size_t>(engine.vocabulary());
  Bits bits(tokens.size() * width);

  LODE_ASSIGN(runtime::Sequence sequence, engine.NewSequence());
  std::vector<runtime::Sequence> others;
  std::vector<std::vector<int32_t>> other_tokens;
  for (int64_t i = 0; i < way.company; ++i) {
    LODE_ASSIGN(runtime::Sequence other, engine.NewSequence());
    others.push_back(std::move(other));
    other_tokens.push_back(
        SomeTokens(2 * count, engine.vocabulary(), 1000 + static_cast<uint32_t>(i)));
  }
  bool forked = false;
  for (int64_t at = 0; at < count; at += chunk) {
    const int64_t rows = std::min(chunk, count - at);
    if (way.forked && !forked && at >= count / 2) {
      LODE_ASSIGN(sequence, engine.Fork(sequence));
      forked = true;
    }
    // Others stand before and behind, with one row more or fewer.
    std::vector<runtime::StepItem> items;
    const auto add_other = [&](size_t i) {
      const auto begin = static_cast<size_t>(others[i].tokens());
      const size_t take =
          std::min<size_t>(other_tokens[i].size() - begin, static_cast<size_t>(rows) + i % 2);
      items.push_back({&others[i], std::span(other_tokens[i]).subspan(begin, take),
                       runtime::StepItem::Want::kNone});
    };
    for (size_t i = 0; i < others.size(); i += 2) add_other(i);
    items.push_back({&sequence,
                     std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(rows)),
                     runtime::StepItem::Want::kAll});
    for (size_t i = 1; i < others.size(); i += 2) add_other(i);
    LODE_TRY(engine.Step(items, bits.data() + static_cast<size_t>(at) * width));
    if (Interrupted()) return InterruptedError();
  }
  const std::vector<std::byte> state = engine.StateBytes(sequence);
  const size_t logits = bits.size();
  bits.resize(logits + state.size() / sizeof(float));
  std::memcpy(bits.data() + logits, state.data(), state.size() / sizeof(float) * sizeof(float));
  return bits;
}

// The matrix of histories: how many rows of logits have other bits. Adds to `ways`.
Result<int> RunHistories(const Flags& flags, const api::Running& running,
                         const std::vector<int32_t>& tokens, int threads, Json* ways) {
  if (!flags.json) {
    Print(Format("\nthe same prompt and its answer with other histories, the logits that tokens\n"
                 "are drawn from:\n  %-50s %-22s %s\n",
                 "", "1 thread, chunks of 7", Format("%d threads, whole", threads).c_str()));
  }
  int failures = 0;
  std::string last;
  const auto on_cell = [&](const HistoryCell& cell) {
    failures += cell.different > 0;
    ways->push_back({{"way", cell.history + ", " + cell.machine},
                     {"equal", cell.different == 0},
                     {"different", cell.different},
                     {"values", cell.rows},
                     {"reused", cell.reused}});
    if (flags.json) return true;
    const std::string verdict =
        cell.different == 0
            ? Format("same bits (%lld reused)", static_cast<long long>(cell.reused))
            : Format("%lld DIFFER", static_cast<long long>(cell.different));
    const bool begins = std::exchange(last, cell.history) != cell.history;
    Print(begins ? Format("  %-50s %-22s ", cell.history.c_str(), verdict.c_str())
                 : verdict + "\n");
    std::fflush(stdout);
    return true;
  };
  LODE_TRY(CompareHistories(running, tokens, threads, on_cell));
  return failures;
}

Result<void> RunSelftest(Flags& flags) {
  LODE_ASSIGN(auto source, api::OpenSource(flags.model.model));
  LODE_ASSIGN(const api::Running running, flags.model.Open(std::move(source), flags.tokens));
  const std::vector<int32_t> tokens = SomeTokens(flags.tokens, running.model->spec.vocabulary, 42);
  const int threads = std::max(2, running.options.threads);
  Json rows = Json::array();
  Bits first;
  int failures = 0;
  if (!flags.json) {
    Print(
        Format("%s: %lld tokens, every logit and the whole state, compared bit for bit with\n"
               "token by token on 1 thread, alone\n",
               flags.model.model.c_str(), static_cast<long long>(flags.tokens)));
  }
  for (const Way& way : Ways(threads)) {
    LODE_ASSIGN(Bits bits, Compute(running, way, tokens));
    if (first.empty()) first = bits;
    size_t different = 0;
    for (size_t i = 0; i < first.size() && bits.size() == first.size(); ++i) {
      different += std::memcmp(&first[i], &bits[i], sizeof(float)) != 0;
    }
    const bool equal = different == 0 && bits.size() == first.size();
    failures += !equal;
    rows.push_back({{"way", way.name},
                    {"threads", way.threads},
                    {"equal", equal},
                    {"different", different},
                    {"values", first.size()}});
    if (!flags.json) {
      Print(Format("  %-34s %s\n", way.name.c_str(),
                   equal ? "same bits"
                         : Format("%zu of %zu values DIFFER", different, first.size()).c_str()));
      std::fflush(stdout);
    }
  }
  LODE_ASSIGN(const int other, RunHistories(flags, running, tokens, threads, &rows));
  failures += other;
  if (flags.json) Print(DumpJson({{"equal", failures == 0}, {"ways", rows}}, 2) + "\n");
  if (failures > 0) {
    return Error(Code::kInternal, Format("%d ways gave other bits", failures),
                 "please report this with your CPU and the output of 'lode --version'");
  }
  if (!flags.json) Print("All the same.\n");
  return {};
}

}  // namespace

void AddSelftest(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  flags->model.model = "demo";
  CLI::App* verb = app.add_subcommand(
      "selftest", "Prove that results do not depend on chunks, threads, company or history");
  flags->model.AddTo(verb);
  verb->get_option("MODEL")->required(false);
  verb->add_option("-n,--tokens", flags->tokens, "length of the sequence")
      ->check(CLI::Range(int64_t{4}, int64_t{65536}))
      ->capture_default_str();
  verb->add_flag("--json", flags->json, "the grid as JSON");
  verb->callback([=] { *action = [=] { return RunSelftest(*flags); }; });
}

}  // namespace lode::cli

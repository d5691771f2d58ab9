// Replays traces of requests against the prefix tree of the product (the same class, without memory
// behind its frames) and against small models of other engines' policies, and prints computed
// prompt tokens over the ideal: infinite memory, resume anywhere. 1.00 is perfect.
//
//   contexts_sim [--seeds 3] [--trace FILE.jsonl ...] [--shape nano|super] [--budget-gib 2,4,8,16]
//                [--only mixed|single] [--explain] [--json]
//
// What is not modelled: time, transfers, quotas, faults of others. The priors of the tree's classes
// were set with such traces in view, so expect less on others: a synthetic load ranks policies, it
// does not predict a site's rate of hits.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/json.h"
#include "bench/contexts_peers.h"
#include "bench/contexts_trace.h"
#include "runtime/tree/frame_pool.h"
#include "runtime/tree/prefix_tree.h"

namespace lode::bench {
namespace {

using runtime::FramePool;
using runtime::kNoFrame;
using runtime::kTokensPerPage;
using runtime::PageCount;
using runtime::PageId;
using runtime::PointRole;
using runtime::PrefixTree;
using runtime::SlotId;

// A page of keys and values in bfloat16, a state in f32, with its convolution rows and a hidden
// row.
const Shape kNano = {"nano", 768 << 10, 49177190, 2096};
const Shape kSuper = {"super", 1 << 20, 170288743, 4160};

struct Variant {
  const char* name;
  bool announced = true, observed = true;
  int64_t grid = 1;
  bool shares = true;   // tenants are protected from each other (R9)
  bool learned = true;
  bool spare = true;
};

const std::vector<Variant> kVariants = {
    {.name = "Lode"},
    {.name = "Lode without spare points", .spare = false},
    {.name = "  and without announcing", .announced = false, .spare = false},
    {.name = "  and without any divergence", .announced = false, .observed = false, .spare = false},
    {.name = "Lode without learning", .learned = false},
    {.name = "Lode, all tenants as one", .shares = false},
    {.name = "Lode on a grid of 128", .grid = 128},
};

struct Outcome {
  int64_t computed = 0;
  runtime::TreeCounts counts;
};

// Requests one after the other through the real tree, as an engine would run them.
class Replay {
 public:
  Replay(const Shape& shape, uint64_t budget, const Variant& variant) : variant_(variant) {
    runtime::FramePoolOptions frames;
    frames.page_bytes = shape.page_bytes;
    frames.slot_bytes = shape.slot_bytes;
    frames.budget_bytes = budget;
    frames.with_memory = false;
    auto pool = FramePool::Make(frames);
    LODE_CHECK(pool.ok());
    pool_ = std::move(pool).value();
    runtime::TreeOptions options;
    // A small CPU: 36 tokens a second, half of that at 200,000 tokens of context.
    options.cost.per_token = 1.0 / 36;
    options.cost.per_token_squared = options.cost.per_token / 200000;
    options.announced = variant.announced;
    options.observed = variant.observed;
    options.learned = variant.learned;
    options.tap_grid = variant.grid;
    if (!variant.spare) options.spare_tokens = 0;
    tree_ = std::make_unique<PrefixTree>(pool_.get(), options);
  }

  Outcome Run(const Trace& trace) {
    Outcome outcome;
    const std::vector<SimRequest>& all = trace.requests;
    for (size_t i = 0; i < all.size();) {
      size_t end = i;
      std::vector<runtime::LiveId> burst;
      for (; end < all.size() && all[end].arrival == all[i].arrival; ++end) {
        runtime::AnnounceOptions options;
        options.probes = all[end].probes;
        burst.push_back(tree_->Announce(RootOf(all[end].tenant), all[end].prompt, options));
      }
      for (size_t j = i; j < end; ++j) outcome.computed += Serve(all[j], burst[j - i]);
      i = end;
    }
    tree_->Check();
    outcome.counts = tree_->counts();
    return outcome;
  }

 private:
  runtime::RootId RootOf(int tenant) {
    const auto found = roots_.find(tenant);
    if (found != roots_.end()) return found->second;
    if (variant_.shares || roots_.empty()) {
      auto id = tree_->AddTenant({});
      LODE_CHECK(id.ok());
      tenant_ = *id;
    }
    runtime::RootKey key{};
    key[0] = static_cast<std::byte>(tenant);
    auto root = tree_->OpenRoot(tenant_, key);
    LODE_CHECK(root.ok());
    return roots_[tenant] = *root;
  }

  int64_t Serve(const SimRequest& request, runtime::LiveId live) {
    root_ = RootOf(request.tenant);
    live_ = live;
    runtime::Admission admission = tree_->Admit(live);
    table_ = std::move(admission.pages);
    done_ = admission.match.resume;
    const int64_t computed = admission.match.computed();
    bool room = tree_->MakeRoom(root_, done_ % kTokensPerPage == 0 ? 0 : 1, 1).ok();
    if (done_ % kTokensPerPage != 0) {  // rows of the last page go to one of our own
      pool_->pages().Unlease(table_.back());
      table_.pop_back();
      room = room && Grow(done_);
    }
    if (admission.match.slot != kNoFrame) pool_->slots().Unlease(admission.match.slot);
    slot_ = room ? pool_->slots().Take(tree_->owner(root_)) : kNoFrame;
    room = room && RunTo(static_cast<int64_t>(request.prompt.size()));
    if (room && variant_.grid == 1) {
      tree_->Append(live, request.output);
      room = RunTo(static_cast<int64_t>(request.prompt.size() + request.output.size()));
      if (room) tree_->AddSnapshot(live, done_, slot_, PointRole::kEnd, table_);
    }
    tree_->Finish(live, room ? request.finish : runtime::FinishReason::kCancelled);
    for (const PageId page : table_) pool_->pages().Unlease(page);
    if (slot_ != kNoFrame) pool_->slots().Unlease(slot_);
    return computed;
  }

  bool Grow(int64_t tokens) {
    const int64_t pages = PageCount(tokens) -
                          static_cast<int64_t>(table_.size());
    if (pages <= 0) return true;
    if (!tree_->MakeRoom(root_, pages, 0).ok()) return false;
    for (int64_t i = 0; i < pages; ++i) {
      table_.push_back(pool_->pages().Take(tree_->owner(root_)));
    }
    return true;
  }

  bool RunTo(int64_t end) {
    while (done_ < end) {
      const std::optional<runtime::Tap> tap = tree_->NextTap(live_, done_);
      const int64_t stop = tap ? std::min(tap->offset, end) : end;
      if (!Grow(stop)) return false;
      done_ = stop;
      tree_->Progress(live_, done_);
      if (!tap || tap->offset != done_ || !tree_->RoomForPoint(live_, done_, tap->role)) continue;
      const SlotId next = pool_->slots().Take(tree_->owner(root_));
      tree_->AddSnapshot(live_, done_, slot_, tap->role, table_);
      pool_->slots().Unlease(slot_);
      slot_ = next;
    }
    return true;
  }

  Variant variant_;
  std::unique_ptr<FramePool> pool_;
  std::unique_ptr<PrefixTree> tree_;
  std::map<int, runtime::RootId> roots_;
  runtime::TenantId tenant_ = 0;
  // Of the request that runs.
  runtime::RootId root_ = 0;
  runtime::LiveId live_ = 0;
  std::vector<PageId> table_;
  SlotId slot_ = kNoFrame;
  int64_t done_ = 0;
};

// --- Tables ---

struct Options {
  int seeds = 3;
  std::vector<std::string> traces;
  std::vector<double> budgets;  // GiB; none: those of the shape
  std::string shape;            // none: both
  std::string only;
  bool explain = false;
  bool json = false;
};

uint64_t Gib(double gib) { return static_cast<uint64_t>(gib * (1 << 30)); }

// Rows are policies, columns what they were tried on; a cell is the mean over seeds of
// computed/ideal.
struct Table {
  std::string title;
  std::vector<std::string> columns;
  std::vector<std::pair<std::string, std::vector<double>>> rows;

  void Add(const std::string& row, size_t column, double value) {
    auto found = std::find_if(rows.begin(), rows.end(),
                              [&](const auto& each) { return each.first == row; });
    if (found == rows.end()) {
      rows.emplace_back(row, std::vector<double>());
      found = rows.end() - 1;
    }
    found->second.resize(columns.size());
    found->second[column] += value;
  }

  void Print(double divide) const {
    std::printf("\n%s\n%-34s", title.c_str(), "");
    for (const std::string& column : columns) std::printf(" %11s", column.c_str());
    std::printf("\n");
    for (const auto& [name, values] : rows) {
      std::printf("%-34s", name.c_str());
      for (const double value : values) std::printf(" %11.2f", value / divide);
      std::printf("\n");
    }
  }

  Json ToJson(double divide) const {
    Json out;
    out["title"] = title;
    out["columns"] = columns;
    for (const auto& [name, values] : rows) {
      for (const double value : values) out["rows"][name].push_back(value / divide);
    }
    return out;
  }
};

std::string Budget(double gib) {
  char text[32];
  std::snprintf(text, sizeof text, "%g GiB", gib);
  return text;
}

void PrintCounts(const std::string& name, const Outcome& outcome) {
  const runtime::TreeCounts& counts = outcome.counts;
  std::printf("  %s: %lld computed, %lld states taken, %lld refused, %lld evicted; computed for",
              name.c_str(), static_cast<long long>(outcome.computed),
              static_cast<long long>(counts.taken), static_cast<long long>(counts.refused),
              static_cast<long long>(counts.evicted));
  for (int i = 0; i < runtime::kReasons; ++i) {
    const int64_t tokens = counts.tokens_by_reason[static_cast<size_t>(i)];
    if (tokens == 0) continue;
    std::printf(" %s %lld", Name(static_cast<runtime::Reason>(i)), static_cast<long long>(tokens));
  }
  std::printf("\n");
}

// All policies on one trace, one column of a table.
void Fill(const Options& options, const Trace& trace, const Shape& shape, double gib, Table* table,
          size_t column) {
  const std::vector<HashedRequest> hashed = HashTrace(trace);
  const double ideal = static_cast<double>(IdealTokens(hashed));
  table->Add("no cache", column, static_cast<double>(NoCacheTokens(hashed)) / ideal);
  for (const Peer& peer : Peers()) {
    const int64_t computed = peer.tokens(hashed, shape, Gib(gib));
    table->Add(peer.name, column, static_cast<double>(computed) / ideal);
  }
  for (const Variant& variant : kVariants) {
    const Outcome outcome = Replay(shape, Gib(gib), variant).Run(trace);
    table->Add(variant.name, column, static_cast<double>(outcome.computed) / ideal);
    if (options.explain && !options.json) {
      PrintCounts(trace.name + ", " + Budget(gib) + ", " + variant.name, outcome);
    }
  }
}

Table Mixed(const Options& options, const Shape& shape, std::vector<double> budgets) {
  Table table;
  if (!options.budgets.empty()) budgets = options.budgets;
  for (const double gib : budgets) table.columns.push_back(Budget(gib));
  for (int seed = 1; seed <= options.seeds; ++seed) {
    const Trace trace = MixedTrace(static_cast<uint64_t>(seed));
    if (seed == 1) {
      table.title = trace.name + ", " + shape.name + ": seed 1 has " +
                    std::to_string(trace.requests.size()) + " requests, " +
                    std::to_string(trace.prompt_tokens()) + " prompt tokens, ideal " +
                    std::to_string(IdealTokens(HashTrace(trace)));
    }
    for (size_t i = 0; i < budgets.size(); ++i) {
      Fill(options, trace, shape, budgets[i], &table, i);
    }
  }
  return table;
}

Table Single(const Options& options, const std::vector<Trace>& traces, const Shape& shape,
             double gib) {
  Table table;
  table.title = "single traces, " + shape.name + ", " + Budget(gib);
  for (size_t i = 0; i < traces.size(); ++i) {
    table.columns.push_back("(" + std::to_string(i + 1) + ")");
    table.title += "\n  (" + std::to_string(i + 1) + ") " + traces[i].name + ": " +
                   std::to_string(traces[i].requests.size()) + " requests, " +
                   std::to_string(traces[i].prompt_tokens()) + " prompt tokens, ideal " +
                   std::to_string(IdealTokens(HashTrace(traces[i])));
  }
  for (size_t i = 0; i < traces.size(); ++i) Fill(options, traces[i], shape, gib, &table, i);
  return table;
}

std::vector<Trace> SingleTraces() {
  std::vector<Trace> traces;
  traces.push_back(ChatTrace(1, false));
  traces.push_back(ChatTrace(1, true));
  traces.push_back(ToolLoopTrace(1));
  traces.push_back(FanOutTrace(1, 16, true));
  traces.push_back(FanOutTrace(1, 16, false));
  traces.push_back(FanOutTrace(1, 64, false));
  traces.push_back(RetrievalTrace(1));
  traces.push_back(BranchTrace(1));
  traces.push_back(AssistantTrace(1, false));
  traces.push_back(AssistantTrace(1, true));
  return traces;
}

bool Parse(int argc, char** argv, Options* options) {
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--json") {
      options->json = true;
    } else if (flag == "--explain") {
      options->explain = true;
    } else if (i + 1 == argc) {
      return false;
    } else if (flag == "--seeds") {
      options->seeds = std::atoi(argv[++i]);
    } else if (flag == "--trace") {
      options->traces.push_back(argv[++i]);
    } else if (flag == "--shape") {
      options->shape = argv[++i];
    } else if (flag == "--only") {
      options->only = argv[++i];
    } else if (flag == "--budget-gib") {
      for (const char* at = argv[++i]; *at != 0;) {
        char* end = nullptr;
        options->budgets.push_back(std::strtod(at, &end));
        if (end == at || options->budgets.back() <= 0) return false;
        at = *end == ',' ? end + 1 : end;
      }
    } else {
      return false;
    }
  }
  return options->seeds > 0 && (options->shape.empty() || options->shape == kNano.name ||
                                options->shape == kSuper.name);
}

int Main(int argc, char** argv) {
  Options options;
  if (!Parse(argc, argv, &options)) {
    std::fprintf(stderr, "contexts_sim: unknown or incomplete flag; try runs/contexts_sim --help\n");
    return 2;
  }
  Json json = Json::array();
  const auto show = [&](const Table& table, double divide) {
    if (options.json) {
      json.push_back(table.ToJson(divide));
    } else {
      table.Print(divide);
      std::fflush(stdout);
    }
  };
  const Shape& shape = options.shape == kSuper.name ? kSuper : kNano;
  if (!options.traces.empty()) {
    std::vector<Trace> traces;
    for (const std::string& path : options.traces) {
      auto trace = ReadTrace(path);
      if (!trace.ok()) {
        std::fprintf(stderr, "contexts_sim: %s\n", trace.error().ToString().c_str());
        return 2;
      }
      traces.push_back(std::move(trace).value());
    }
    const std::vector<double> fallback = {8};
    for (const double gib : options.budgets.empty() ? fallback : options.budgets) {
      show(Single(options, traces, shape, gib), 1);
    }
  } else {
    if (options.only != "single") {
      const double seeds = options.seeds;
      if (options.shape != kSuper.name) show(Mixed(options, kNano, {2, 4, 8, 16}), seeds);
      if (options.shape != kNano.name) show(Mixed(options, kSuper, {8, 16, 32, 64}), seeds);
    }
    if (options.only != "mixed") show(Single(options, SingleTraces(), shape, 8), 1);
  }
  if (options.json) std::printf("%s\n", DumpJson(json, 1).c_str());
  return 0;
}

}  // namespace
}  // namespace lode::bench

int main(int argc, char** argv) { return lode::bench::Main(argc, argv); }

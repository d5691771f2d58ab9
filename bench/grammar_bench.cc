// What grammars cost and whether they are right, on files of JSON schemas with instances: how long
// a schema compiles, how long the mask before each token takes, whether valid instances pass and
// others do not. Instances are written compactly and cut into tokens greedily by the longest.
//
// usage: grammar_bench [--any-order] VOCABULARY FILE...
//   --any-order keys of objects may come in any order
//   VOCABULARY  a line per token id: its bytes in hexadecimal; empty for control tokens
//   FILE        {"schema": ..., "tests": [{"valid": bool, "data": ...}]}, or the list of
//               {"schema": ..., "tests": [...]} that the JSON Schema test suite has
// Prints one JSON object for each schema, and a summary at the end.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/grammar/compile.h"
#include "text/grammar/matcher.h"

namespace lode::text::grammar {
namespace {

double ThreadMicroseconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e6 + static_cast<double>(time.tv_nsec) * 1e-3;
}

std::vector<std::string> ReadVocabulary(const char* path) {
  std::ifstream file(path);
  std::vector<std::string> tokens;
  for (std::string line; std::getline(file, line);) {
    std::string bytes;
    for (size_t i = 0; i + 1 < line.size(); i += 2)
      bytes += static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16));
    tokens.push_back(std::move(bytes));
  }
  return tokens;
}

// The longest token that the text begins with, again and again.
std::vector<uint32_t> Cut(const TokenTrie& trie, std::string_view text) {
  std::vector<uint32_t> ids;
  const auto nodes = trie.nodes();
  while (!text.empty()) {
    uint32_t at = 0, found = UINT32_MAX;
    size_t length = 0, depth = 0;
    while (depth < text.size()) {
      uint32_t child = at + 1;
      const uint32_t end = nodes[at].end;
      const auto byte = static_cast<uint8_t>(text[depth]);
      while (child < end && nodes[child].byte != byte) child = nodes[child].end;
      if (child >= end) break;
      at = child;
      ++depth;
      if (nodes[at].first_token < nodes[at + 1].first_token) {
        found = trie.tokens()[nodes[at].first_token];
        length = depth;
      }
    }
    if (length == 0) return {};
    ids.push_back(found);
    text.remove_prefix(length);
  }
  return ids;
}

struct Totals {
  std::vector<double> compile, first, mask;
  std::map<std::string, size_t> counts;
};

class Bench {
 public:
  Bench(const TokenTrie* trie, const JsonStyle& style)
      : trie_(trie), style_(style), words_(trie->words()) {}

  void Schema(const std::string& name, const Json& schema, const Json& tests) {
    ++totals_.counts["schemas"];
    const double begin = ThreadMicroseconds();
    auto grammar = CompileJsonSchema(schema, style_);
    std::unique_ptr<Matcher> matcher;
    if (grammar.ok()) matcher = std::make_unique<Matcher>(*grammar, trie_);
    const double compiled = ThreadMicroseconds() - begin;
    totals_.compile.push_back(compiled);
    Json row{{"name", name}, {"compile_us", compiled}};
    if (!grammar.ok()) {
      const bool none = grammar.error().code() == Code::kBadInput;
      ++totals_.counts[none ? "bad or empty" : "refused"];
      row["error"] = grammar.error().message();
      std::printf("%s\n", DumpJson(row).c_str());
      return;
    }
    const double before = ThreadMicroseconds();
    matcher->Mask(matcher->Start(), words_);
    totals_.first.push_back(ThreadMicroseconds() - before);
    size_t wrong = 0, accepts = 0;
    double slowest = 0;
    for (const Json& test : tests) {
      const bool valid = GetBool(test, "valid");
      const std::string text = DumpJson(*FindKey(test, "data"));
      size_t at = 0;
      const bool fits = Run(matcher.get(), text, &at, &slowest);
      if (fits == valid) continue;
      ++wrong;
      accepts += fits;
      row[fits ? "accepts" : "rejects"].push_back(
          GetString(test, "description") + ": " + text.substr(0, 200) + " at " +
          std::to_string(at));
    }
    ++totals_.counts[wrong == 0 ? "passed" : accepts > 0 ? "false accept" : "false reject"];
    row["mask_max_us"] = slowest;
    row["bytes"] = matcher->bytes();
    std::printf("%s\n", DumpJson(row).c_str());
  }

  void Summary() {
    Json row;
    for (const auto& [name, count] : totals_.counts) row[name] = count;
    const auto add = [&](const char* name, std::vector<double> values) {
      if (values.empty()) return;
      std::sort(values.begin(), values.end());
      double sum = 0;
      for (const double value : values) sum += value;
      Json figures{{"count", values.size()}, {"mean", sum / static_cast<double>(values.size())}};
      for (const auto& [label, share] : {std::pair("p50", 0.5), std::pair("p90", 0.9),
                                         std::pair("p99", 0.99), std::pair("p99.9", 0.999)})
        figures[label] =
            values[static_cast<size_t>(share * static_cast<double>(values.size() - 1))];
      figures["max"] = values.back();
      row[name] = figures;
    };
    add("compile_us", totals_.compile);
    add("first_mask_us", totals_.first);
    add("mask_us", totals_.mask);
    std::printf("%s\n", DumpJson(row, 2).c_str());
  }

 private:
  bool Run(Matcher* matcher, const std::string& text, size_t* at, double* slowest) {
    MatchState state = matcher->Start();
    for (const uint32_t token : Cut(*trie_, text)) {
      const double begin = ThreadMicroseconds();
      matcher->Mask(state, words_);
      const double took = ThreadMicroseconds() - begin;
      totals_.mask.push_back(took);
      *slowest = std::max(*slowest, took);
      const bool allowed = words_[token / 64] >> (token % 64) & 1;
      auto next = matcher->Advance(state, token);
      if (next.ok() != allowed) {
        ++totals_.counts["mask and step differ"];
        std::fprintf(stderr, "mask %d and step %d differ at %zu of %s\n", allowed, next.ok(), *at,
                     text.c_str());
      }
      if (!next.ok()) return false;
      state = *next;
      *at += trie_->bytes_of(token).size();
    }
    return matcher->CanEnd(state);
  }

  const TokenTrie* trie_;
  const JsonStyle style_;
  std::vector<uint64_t> words_;
  Totals totals_;
};

}  // namespace
}  // namespace lode::text::grammar

int main(int argc, char** argv) {
  using lode::text::grammar::Bench;
  lode::text::grammar::JsonStyle style;
  if (argc > 1 && std::string_view(argv[1]) == "--any-order") {
    style.any_order = true;
    --argc, ++argv;
  }
  if (argc < 3) {
    std::fprintf(stderr, "usage: grammar_bench [--any-order] VOCABULARY FILE...\n");
    return 2;
  }
  const std::vector<std::string> tokens = lode::text::grammar::ReadVocabulary(argv[1]);
  const std::vector<std::string_view> views(tokens.begin(), tokens.end());
  const lode::text::grammar::TokenTrie trie(views);
  Bench bench(&trie, style);
  for (int i = 2; i < argc; ++i) {
    const auto json = lode::ReadJsonFile(argv[i]);
    if (!json.ok()) {
      std::fprintf(stderr, "%s\n", json.error().ToString().c_str());
      continue;
    }
    const lode::Json list = json->is_array() ? *json : lode::Json::array({*json});
    for (const lode::Json& entry : list) {
      const lode::Json* schema = lode::FindKey(entry, "schema");
      const lode::Json* tests = lode::FindKey(entry, "tests");
      if (schema == nullptr) continue;
      const std::string name = std::string(argv[i]).substr(std::string(argv[i]).rfind('/') + 1) +
                               ": " + lode::GetString(entry, "description");
      bench.Schema(name, *schema, tests != nullptr ? *tests : lode::Json::array());
    }
  }
  bench.Summary();
  return 0;
}

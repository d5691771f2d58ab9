// Verbs on the public interface (include/lode/context.h): an engine from the shared flags, a
// progress bar while a text is read, answers that go on from a saved context.
#pragma once

#include <lode/context.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "api/contexts.h"
#include "base/result.h"
#include "cli/model_flags.h"
#include "runtime/saved/context_seal.h"

namespace lode::cli {

// What saved contexts must agree with; reads all weights when it sees them for the first time.
Result<runtime::ContextFingerprints> FingerprintsWithBar(const api::Running& running,
                                                         const api::TextTools* tools);

// The key in a file: 32 bytes, or 64 hex digits. None without a path.
Result<std::optional<std::array<uint8_t, 32>>> ReadKey(const std::string& path);
// Null: no key was given.
Result<std::unique_ptr<runtime::Sealer>> ReadSealer(const std::string& path);

// --key-file and --recompute, of verbs that go on from a kept context.
void AddContextFlags(CLI::App* verb, std::string* key_file, bool* recompute);

// --trace and --trace-ids.
void AddTraceFlags(CLI::App* verb, std::string* trace, bool* ids);

Error Internal(const v1::Error& error);
template <typename T>
Result<T> Internal(v1::Result<T> result) {
  if (!result.ok()) return Internal(result.error());
  return std::move(result).value();
}

// With room for one context of so many tokens, unless --context says how many, and for so many
// states of it beside the newest.
Result<v1::Engine> OpenEngine(ModelFlags* flags, int64_t tokens_needed, int64_t states = 4);

// The ids of a text; opens no more than the tokenizer.
Result<std::vector<int32_t>> TokensFor(const std::string& model, const std::string& text, bool bos,
                                       bool no_special);

// An answer that goes on from a saved context, or is saved as one, or both.
struct ContextRun {
  std::string from, save_as;        // names; empty: none
  std::string key_file;             // of what is read and written; empty: not sealed
  bool recompute = false;           // `from` may be another model's: its ids are taken
  std::vector<int32_t> prompt;      // what is appended first; may be empty with `from`
  v1::GenerateOptions options;
  std::function<void(int32_t)> on_token;
};
struct ContextAnswer {
  v1::Appended read;
  v1::Generated answer;
  v1::Restored restored;            // with `from`
  std::optional<v1::Saved> saved;   // with `save_as`
  int64_t tokens = 0;               // of the context now
  std::vector<int32_t> ids;         // all of it
};
// Room: the context, the prompt and `tokens_max` of the answer. Ctrl-C ends the answer, and what
// was said until then is saved.
Result<ContextAnswer> RunInContext(ModelFlags* flags, const ContextRun& run);

// Ctrl-C cancels. With `every` > 0 a state is kept after each so many tokens, marked by its offset.
Result<v1::Appended> AppendWithBar(v1::Context* context, const std::vector<int32_t>& tokens,
                                   int64_t every = 0);

}  // namespace lode::cli

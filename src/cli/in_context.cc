#include "cli/in_context.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <utility>

#include "api/contexts.h"
#include "api/open.h"
#include "base/file.h"
#include "cli/console.h"

namespace lode::cli {

namespace {

constexpr uint64_t kMega = 1'000'000;

class DigestBar {
 public:
  bool operator()(uint64_t done, uint64_t total) {
    if (!bar_) {
      bar_.emplace("reading the weights once", "MB", static_cast<int64_t>(total / kMega));
    }
    bar_->Update(static_cast<int64_t>(done / kMega));
    if (done == total) bar_->Finish();
    return !Interrupted();
  }

 private:
  std::optional<ProgressBar> bar_;
};

}  // namespace

Result<runtime::ContextFingerprints> FingerprintsWithBar(const api::Running& running,
                                                         const api::TextTools* tools) {
  DigestBar bar;
  return api::FingerprintsOf(running, tools, std::ref(bar));
}

Result<std::optional<std::array<uint8_t, 32>>> ReadKey(const std::string& path) {
  using Key = std::array<uint8_t, 32>;
  if (path.empty()) return std::optional<Key>();
  LODE_ASSIGN(std::string text, ReadFile(path, 1024));
  Key key{};
  if (text.size() == key.size()) {
    std::memcpy(key.data(), text.data(), key.size());
    return std::optional<Key>(key);
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
  bool good = text.size() == 2 * key.size();
  for (size_t i = 0; good && i < text.size(); ++i) {
    const char c = text[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    good = digit >= 0;
    key[i / 2] = static_cast<uint8_t>(key[i / 2] << 4 | (digit & 15));
  }
  if (good) return std::optional<Key>(key);
  return Error(Code::kBadInput, path + ": is no key",
               "32 bytes, or 64 hex digits: openssl rand -hex 32 > KEY");
}

Result<std::unique_ptr<runtime::Sealer>> ReadSealer(const std::string& path) {
  LODE_ASSIGN(const auto key, ReadKey(path));
  if (!key) return std::unique_ptr<runtime::Sealer>();
  std::array<std::byte, 32> bytes;
  std::memcpy(bytes.data(), key->data(), bytes.size());
  return runtime::MakeAesGcmSealer(bytes);
}

void AddContextFlags(CLI::App* verb, std::string* key_file, bool* recompute) {
  verb->add_option("--key-file", *key_file,
                   "seal the kept context with this key: a file of 32 bytes, or 64 hex digits");
  verb->add_flag("--recompute", *recompute,
                 "go on from a context that another model or precision made: compute its tokens "
                 "anew");
}

void AddTraceFlags(CLI::App* verb, std::string* trace, bool* ids) {
  CLI::Option* file = verb->add_option(
      "--trace", *trace,
      "add a line about each request to this file, for runs/contexts_sim: lengths, times, and "
      "hashes of blocks of tokens, but no text");
  verb->add_flag("--trace-ids", *ids, "write the token ids into it instead of hashes")->needs(file);
}

Error Internal(const v1::Error& error) {
  switch (error.code) {
    case v1::Code::kBadInput:
    case v1::Code::kBusy:
      return {Code::kBadInput, error.message, error.hint};
    case v1::Code::kNotFound:
      return {Code::kNotFound, error.message, error.hint};
    case v1::Code::kUnsupported:
      return {Code::kUnsupported, error.message, error.hint};
    case v1::Code::kNoSpace:
      return {Code::kNoSpace, error.message, error.hint};
    case v1::Code::kCancelled:
      return {Code::kCancelled, error.message, error.hint};
    case v1::Code::kInternal:
      break;
  }
  return {Code::kInternal, error.message, error.hint};
}

Result<v1::Engine> OpenEngine(ModelFlags* flags, int64_t tokens_needed, int64_t states) {
  // What it saves and restores needs the digest of the weights; with a bar it is read here.
  LODE_ASSIGN(const auto source, api::OpenSource(flags->model));
  DigestBar bar;
  LODE_TRY(api::ModelDigest(*source, std::ref(bar)));
  LODE_ASSIGN(const Pin pin, ParsePin(flags->pin));
  v1::EngineOptions options;
  options.threads = flags->run.threads;
  options.context_tokens =
      flags->run.context_tokens > 0 ? flags->run.context_tokens : tokens_needed;
  options.running_max = 1;
  options.drafts_max = flags->run.drafts;
  options.bind_threads = pin != Pin::kOff;
  options.activations = flags->activations;
  options.kv = flags->kv;
  options.cache_states = states;
  return Internal(v1::Engine::Open(flags->model, options));
}

Result<std::vector<int32_t>> TokensFor(const std::string& model, const std::string& text, bool bos,
                                       bool no_special) {
  LODE_ASSIGN(const auto source, api::OpenSource(model));
  LODE_ASSIGN(const auto tokenizer, api::OpenTokenizer(*source));
  return tokenizer->Encode(text, {.recognise_special = !no_special, .add_special = bos});
}

Result<v1::Appended> AppendWithBar(v1::Context* context, const std::vector<int32_t>& tokens,
                                   int64_t every) {
  const int64_t before = context->size();
  ProgressBar bar("reading the prompt", "tok", std::ssize(tokens));
  v1::AppendOptions options;
  options.progress = [&](int64_t done) {
    bar.Update(done - before);
    return !Interrupted();
  };
  v1::Appended all;
  for (int64_t at = 0; at < std::ssize(tokens);) {
    const int64_t left = std::ssize(tokens) - at;
    const int64_t piece = every > 0 ? std::min(every, left) : left;
    options.mark = every > 0 ? std::to_string(before + at + piece) : "";
    auto appended = context->Append(
        std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(piece)), options);
    if (!appended.ok() && Interrupted()) return InterruptedError();
    if (!appended.ok()) return Internal(appended.error());
    if (at == 0) all.reuse = appended->reuse;
    all.reuse.computed += at == 0 ? 0 : appended->reuse.computed;
    all.tokens = appended->tokens;
    all.seconds += appended->seconds;
    at += piece;
  }
  bar.Finish();
  return all;
}

Result<ContextAnswer> RunInContext(ModelFlags* flags, const ContextRun& run) {
  int64_t needed = std::ssize(run.prompt) + std::max<int64_t>(0, run.options.tokens_max) + 1;
  LODE_ASSIGN(const auto key, ReadKey(run.key_file));
  if (!run.from.empty()) {
    LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
    runtime::ContextOpenOptions open;
    open.name_foreign = true;
    LODE_ASSIGN(const auto sealer, ReadSealer(run.key_file));
    open.sealer = sealer.get();
    LODE_ASSIGN(const auto file, store.OpenContext(run.from, open));
    needed += std::ssize(file->tokens());
  }
  LODE_ASSIGN(v1::Engine engine, OpenEngine(flags, needed));
  ContextAnswer out;
  v1::RestoreOptions restore;
  restore.key = key;
  if (run.recompute) restore.on_mismatch = v1::RestoreOptions::OnMismatch::kRecompute;
  auto opened = run.from.empty() ? engine.NewContext({.name = run.save_as})
                                 : engine.Restore(run.from, restore, &out.restored);
  if (!opened.ok() && !opened.error().fields.empty()) {
    Error error = Internal(opened.error());
    return Error(error.code(), error.message(), error.hint() + ": --recompute does");
  }
  LODE_ASSIGN(v1::Context context, Internal(std::move(opened)));
  for (const std::string& damage : out.restored.damage) {
    std::fprintf(stderr, "lode: warning: %s: %s; computed anew from token %lld\n",
                 run.from.c_str(), damage.c_str(), static_cast<long long>(out.restored.state));
  }
  if (!run.prompt.empty()) {
    LODE_ASSIGN(out.read, AppendWithBar(&context, run.prompt));
  }
  LODE_ASSIGN(out.answer,
              Internal(context.Generate(run.options, [&](const v1::Event& event) {
                if (event.kind == v1::Event::Kind::kToken) run.on_token(event.token);
                return !Interrupted();
              })));
  if (!run.save_as.empty()) {
    LODE_ASSIGN(out.saved, Internal(context.Save(run.save_as, {.key = key})));
  }
  out.ids = context.tokens();
  out.tokens = std::ssize(out.ids);
  return out;
}

}  // namespace lode::cli

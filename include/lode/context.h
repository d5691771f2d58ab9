// Contexts as things that a program owns: append to them, generate from them, fork, truncate, keep
// and explain them. This is the whole public interface; it needs the standard library only.
//
//     auto engine = lode::v1::Engine::Open("model.gguf");
//     auto shared = engine->NewContext();
//     shared->Append(engine->Tokenize("A long document ...").value());
//     auto agents = shared->Fork(3);        // copies nothing and computes nothing
//     for (auto& agent : *agents) {
//       agent.Append(engine->Tokenize("A question of its own").value());
//       auto answer = agent.Generate({.tokens_max = 100});
//     }
//
// A context is a name, exact token ids, and what is pinned of them. Its state is a pure function of
// its ids, so whatever of it is still in memory is reused, by whichever context of the same tenant
// has the same beginning, and whatever is not is computed again: the same bits come out either way.
// An engine has one thread that computes; calls from any number of threads are put in its queue.
//
// Errors are values: one sentence that says what is wrong, and a hint of what can still be done.
// Nothing is thrown. The namespace is the version of this interface.
#pragma once

#include <array>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace lode::v1 {

using Token = int32_t;

enum class Code {
  kBadInput,     // an argument or a file that is wrong
  kNotFound,     // no such model, context, mark; or another tenant's
  kUnsupported,  // understood, but not done
  kNoSpace,      // memory, disk, a quota or a limit; the message has the sum
  kBusy,         // the context is running: fork it instead
  kCancelled,    // cancelled, or the engine is closed
  kInternal,     // our fault
};

struct Error {
  Code code = Code::kInternal;
  std::string message, hint;
  // Of a saved context that does not fit: which of "model", "tokenizer", "template", "numerics",
  // "page_bytes", ... differ.
  std::vector<std::string> fields = {};

  std::string ToString() const { return hint.empty() ? message : message + "; " + hint; }
};

// Either a value or an Error. Asking for the one that is not there ends the program.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & { return Get<0>(state_); }
  const T& value() const& { return Get<0>(state_); }
  T value() && { return std::move(Get<0>(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  const Error& error() const { return Get<1>(state_); }

 private:
  template <size_t kIndex, typename V>
  static auto& Get(V& state) {
    auto* held = std::get_if<kIndex>(&state);
    if (held == nullptr) std::terminate();
    return *held;
  }
  std::variant<T, Error> state_;
};

struct Done {};
using Status = Result<Done>;

struct Digest {
  std::array<uint8_t, 32> bytes{};
  std::string Hex() const;
  bool operator==(const Digest&) const = default;
};

// --- Options -------------------------------------------------------------------------------------

// Tenants never see, hit or flush one another's contexts, however alike their tokens are.
struct TenantOptions {
  std::string name = {};
  std::string secret = {};  // separates its caches and its files from others'
  double weight = 1.0;  // its share of memory and time among all tenants
  uint64_t pin_bytes_max = ~uint64_t{0};
};

struct EngineOptions {
  int threads = 0;             // 0: the cores that we may use
  int64_t context_tokens = 0;  // of one context at most; 0: a default
  // Of memory for kept pages and states, beside one context of context_tokens: so many states and
  // so many bytes. Both 0: a quarter of what is free.
  int64_t cache_states = 0;
  uint64_t cache_bytes = 0;
  // Of the disk, for states that had to leave memory; 0: they are dropped. One engine at a time may use
  // the folder; empty: `cache` beside the user's contexts. A cache, not an archive: nothing in it is
  // needed.
  uint64_t cache_disk_bytes = 0;
  std::string cache_folder = {};
  int64_t running_max = 4;     // contexts that compute at once; others wait
  int64_t rows_max = 0;        // tokens in a step; 0: a default. No result depends on it
  int64_t drafts_max = 0;      // guessed tokens in a step. No result depends on it
  bool bind_threads = true;    // to cores, where that cannot hurt
  bool pack = true;            // bring weights into the fastest form meanwhile
  std::string activations = "auto", kv = "auto";  // as `lode --activations` and `--kv`
  std::string folder = {};     // of saved contexts; empty: this user's
  // Beside the tenant with the empty name, which is always there and has no quota.
  std::vector<TenantOptions> tenants = {};
};

enum class Pin {
  kNone,    // its state stays while it is worth more than what wants its place
  kMemory,  // its newest state stays; counted against the tenant's quota
  kDisk,    // it is saved under its name, and `lode ctx gc` spares it
};

struct ContextOptions {
  std::string tenant = {};  // empty: the one that is always there
  std::string salt = {};    // contexts with other salts share nothing, even within a tenant
  std::string name = {};    // a label, and what it is saved as; empty: none
  Pin pin = Pin::kNone;
  // Not used for so long, and not pinned, it expires: then its ids are forgotten and every call is
  // refused with kNotFound. It is saved along; `lode ctx gc` removes the file as late. 0: never.
  double ttl_seconds = 0.0;
  std::string adapter = {};  // there are none yet: kUnsupported unless it is empty
};

struct AppendOptions {
  std::string mark = {};  // a name for the end of what is appended, to fork or truncate at
  // Tokens of the context that are computed so far; in the calling thread. False cancels:
  // kCancelled.
  std::function<bool(int64_t tokens)> progress = nullptr;
};

struct Sampling {
  double temperature = 0.0;  // 0: the likeliest token
  int64_t top_k = 0;         // 0: all
  double top_p = 1.0, min_p = 0.0, typical_p = 1.0;
  double repetition_penalty = 1.0, frequency_penalty = 0.0, presence_penalty = 0.0;
  std::map<Token, float> logit_bias = {};
  uint64_t seed = 0;    // the same seed draws the same tokens, however they are computed
  uint32_t choice = 0;  // which of several answers
};

struct GenerateOptions {
  Sampling sampling = {};
  int64_t tokens_max = -1;           // below 0: until the context is full
  std::vector<Token> stop_ids = {};  // beside the model's own; none of them becomes part of it
  bool model_stops = true;           // false: only stop_ids end it
  int64_t tokens_min = 0;            // before so many none of them is drawn
  std::vector<Token> allowed = {};   // only these, and what ends it, are drawn; empty: all
  bool logprobs = false;
};

struct SaveOptions {
  bool delta = true;   // only what the same name, or the parent of a fork, has not saved yet
  int zstd_level = 0;  // 0: not compressed, which restores fastest
  std::optional<std::array<uint8_t, 32>> key = {};  // encrypted and signed with it
};

struct RestoreOptions {
  std::string tenant = {}, salt = {};
  enum class OnMismatch {
    kFail,
    kRecompute,  // of another model or numerics: its ids are taken and computed here when needed
  } on_mismatch = OnMismatch::kFail;
  bool verify = false;  // reads every byte now; else each record when it is first needed
  std::optional<std::array<uint8_t, 32>> key = {};
};

// --- Reports -------------------------------------------------------------------------------------

// What was not computed again, and why not more. Offsets are in tokens from 0.
struct Reuse {
  int64_t prompt = 0;    // tokens that were needed
  int64_t cached = 0;    // of these, not computed
  int64_t computed = 0;
  int64_t lost = 0;      // once known, and computed again
  std::string reason;    // "complete", "diverged", "evicted_state", ...
  std::string point;     // what kind of state it went on from; empty: from the start
  int64_t divergence = -1;  // the first token that differs from the nearest known text
  Token was = -1, now = -1;
};

struct Appended {
  int64_t tokens = 0;  // of the context now
  Reuse reuse;
  double seconds = 0.0;
  std::string warning;  // a pin that could not follow
};

enum class Stop { kStopToken, kLength, kContextFull, kCancelled };

struct Event {
  enum class Kind {
    kStarted,   // `reuse` is known
    kProgress,  // `tokens` of the context are computed
    kToken,     // `token` was drawn
  } kind = Kind::kToken;
  int64_t tokens = 0;
  Token token = -1;
  double logprob = 0.0;  // of the token, in the model's distribution; if asked for
  Reuse reuse = {};
};

struct Generated {
  std::vector<Token> tokens;  // that were added
  Stop stop = Stop::kStopToken;
  Reuse reuse;
  double prompt_seconds = 0.0, seconds = 0.0;
  std::string warning;  // a pin that could not follow
};

struct Saved {
  std::string path;
  int64_t tokens = 0;  // saved, all of them
  int64_t state = 0;   // the deepest saved state: a restore computes what comes after it
  uint64_t file_bytes = 0, written_bytes = 0;
  bool delta = false;
  double seconds = 0.0;
};

// One stretch of a path through what is known.
struct Stretch {
  int64_t begin = 0, end = 0;
  bool on_path = true;  // of these tokens; else what was known beside them
  bool in_memory = false, on_disk = false, pinned = false, running = false;
  int64_t states = 0;   // at or below its end
  uint64_t bytes = 0;
  std::string kind;     // of the state at its end; empty: none
};

struct Explanation {
  Reuse reuse;               // of asking for these tokens now
  double seconds = 0.0;      // of computing what is not cached, as measured so far
  int64_t same_after = 0;    // tokens behind the difference that are as they were
  int64_t cost_if_moved = 0; // tokens to compute, had the difference stood at the end
  std::vector<Stretch> tree;
  std::string text;          // all of it for a person
};

struct Info {
  std::string name, tenant;
  int64_t tokens = 0;
  Pin pin = Pin::kNone;
  bool running = false;
  std::map<std::string, int64_t> marks;
  double ttl_seconds = 0.0, idle_seconds = 0.0;
  bool expired = false;
};

// What became of a restored context.
struct Restored {
  int64_t tokens = 0;
  int64_t state = 0;     // is here; what comes after it is computed when needed
  bool exact = true;     // false: of another model or numerics, so its ids only
  std::vector<std::string> damage;  // records that are not what was written, one sentence each
};

// --- Streams, contexts, engines ------------------------------------------------------------------

// An answer under way. Life: needs neither the context nor the engine; going away cancels it.
// Threads: one reader; Cancel from any.
class Stream {
 public:
  ~Stream();
  Stream(Stream&&) noexcept;
  Stream& operator=(Stream&&) noexcept;

  // Waits for the next event; none: it has ended.
  std::optional<Event> Next();
  // It ends within one step; the tokens drawn until then stay in the context.
  void Cancel();
  // Reads to the end. Errors: what ended it, unless that was a stop.
  Result<Generated> Finish();

 private:
  friend class Context;
  struct Impl;
  explicit Stream(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A handle. Move-only: a copy is spelled Fork(1). Calls that need its state (Append, Generate, Pin)
// are refused with kBusy while it runs; those that need its ids alone (Fork, Truncate, sizes,
// marks) never wait for a step. Threads: any. Life: may outlive its engine, then every call is
// refused.
class Context {
 public:
  ~Context();
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;

  // Adds tokens and computes their state (all but the newest one's, which the next call needs
  // first). Errors: kBadInput for ids outside the vocabulary; kNoSpace, with the sum, when it
  // cannot fit. In every error the context is as it was.
  Result<Appended> Append(std::span<const Token> tokens, const AppendOptions& options = {});

  // Draws tokens and adds them. `on_event` runs in the calling thread; false cancels.
  Result<Stream> Start(const GenerateOptions& options = {});
  Result<Generated> Generate(const GenerateOptions& options = {},
                             const std::function<bool(const Event&)>& on_event = nullptr);

  // n contexts with these tokens, or the first `at` of them, and their marks; without a name or a
  // pin. Shares ids and state: under a millisecond for any length.
  Result<std::vector<Context>> Fork(int64_t n = 1, std::optional<int64_t> at = {}) const;
  // Drops the tail. Explain() says what going on from there costs.
  Status Truncate(int64_t tokens);

  // To a folder's NAME.lctx: a name goes to the engine's folder; with a '/' it is a path. Runs
  // beside others' work; a context that is running is saved as it was before. Errors: kNoSpace with
  // the bytes needed and free; the old file stays in all cases.
  Result<Saved> Save(const std::string& name, const SaveOptions& options = {});

  // Errors: kNoSpace over the quota, with the sum: refused now, never broken later.
  Status SetPin(Pin pin);

  // What using it now would cost and why; or a prompt that follows nothing (a dry run: nothing is
  // computed, nothing changes).
  Result<Explanation> Explain() const;
  Result<Explanation> Explain(std::span<const Token> prompt) const;

  int64_t size() const;
  std::vector<Token> tokens() const;
  Info info() const;
  void SetName(const std::string& name);  // no file is renamed
  void SetTtl(double seconds);            // of ContextOptions; 0: it does not expire
  // Names for offsets. Truncating drops those behind the end. Errors: kNotFound with the nearest.
  Status Mark(const std::string& mark, std::optional<int64_t> at = {});
  Result<int64_t> MarkedAt(const std::string& mark) const;
  // Of model, numerics and tokens: equal chains have equal state. Costs a hash of the ids; the
  // first one of an engine may read the model's file.
  Result<Digest> Chain() const;
  // Of the bytes of its state, which is computed if it is not there: for tests and audits.
  Result<Digest> StateDigest();

 private:
  friend class Engine;
  struct Impl;
  explicit Context(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// A model, loaded, and one thread that computes. Going away cancels what runs and waits for it.
class Engine {
 public:
  // `model`: a .gguf file, a folder, `demo`, or what was pulled.
  static Result<Engine> Open(const std::string& model, const EngineOptions& options = {});
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  Result<Context> NewContext(const ContextOptions& options = {});
  // A name of the engine's folder, or a path with a '/'. Errors: kNotFound, also for other tenants'
  // files; kBadInput for a wrong key or damage beyond repair; kUnsupported for one of another model
  // or numerics, with the fields that differ.
  Result<Context> Restore(const std::string& name, const RestoreOptions& options = {},
                          Restored* report = nullptr);

  // A beginning that all may read, whatever their tenant and salt: a system text, say. It is
  // computed once, now, and stays; a context that begins with it takes over a copy of its state
  // instead of computing it. Whoever asks learns at most that somebody published it, and can
  // neither change nor push out the original. Errors: those of Append.
  Status Publish(std::span<const Token> tokens);

  // Special tokens written in the text are recognised; BOS as the model wants it with `bos`.
  Result<std::vector<Token>> Tokenize(const std::string& text, bool bos = false) const;
  std::string Text(std::span<const Token> tokens) const;
  int64_t vocabulary() const;
  uint64_t pinned_bytes(const std::string& tenant = "") const;

 private:
  struct Impl;
  explicit Engine(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace lode::v1

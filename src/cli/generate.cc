// lode generate: continue a text.
#include <unistd.h>

#include <cstdio>
#include <memory>

#include "base/file.h"
#include "base/json.h"
#include "base/power.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/in_context.h"
#include "cli/model_flags.h"
#include "cli/speed.h"
#include "cli/trace.h"
#include "cli/verbs.h"

namespace lode::cli {
namespace {

constexpr int64_t kContextMax = int64_t{1} << 24;

struct Flags {
  ModelFlags model;
  SamplingFlags sampling;
  std::string prompt, file;
  int64_t count = 256;
  int64_t chunk = 0;
  std::string context, save, key_file;  // names of kept contexts; their key
  std::string trace;
  bool recompute = false, trace_ids = false;
  bool json = false, no_special = false, ignore_eos = false, quiet = false;
};

const char* ReasonName(runtime::StopReason reason) {
  switch (reason) {
    case runtime::StopReason::kStopToken:
      return "stop";
    case runtime::StopReason::kLength:
      return "length";
    case runtime::StopReason::kContextFull:
      return "context_full";
    case runtime::StopReason::kCancelled:
      return "cancelled";
  }
  return "?";
}

// One answer: no state is kept for another.
runtime::SchedulerOptions Scheduling(const Flags& flags) {
  runtime::SchedulerOptions options;
  options.chunk_rows = flags.chunk;
  options.drafts_max = flags.model.run.drafts;
  options.tree.spare_tokens = options.tree.rolling_tokens = options.tree.ladder_first = 0;
  return options;
}

const char* ReasonName(v1::Stop stop) {
  switch (stop) {
    case v1::Stop::kStopToken:
      return "stop";
    case v1::Stop::kLength:
      return "length";
    case v1::Stop::kContextFull:
      return "context_full";
    case v1::Stop::kCancelled:
      return "cancelled";
  }
  return "?";
}

v1::Sampling Public(const runtime::SamplingOptions& from) {
  v1::Sampling sampling;
  sampling.temperature = from.temperature;
  sampling.top_k = from.top_k;
  sampling.top_p = from.top_p;
  sampling.min_p = from.min_p;
  sampling.typical_p = from.typical_p;
  sampling.repetition_penalty = from.repetition_penalty;
  sampling.frequency_penalty = from.frequency_penalty;
  sampling.presence_penalty = from.presence_penalty;
  sampling.seed = from.seed;
  return sampling;
}

void PrintContextReport(const Flags& flags, const ContextAnswer& done) {
  std::string line = Format("[%s tokens were here, %s computed for the prompt",
                            WithThousands(static_cast<uint64_t>(done.restored.tokens)).c_str(),
                            WithThousands(static_cast<uint64_t>(done.read.reuse.computed +
                                                                done.answer.reuse.computed))
                                .c_str());
  const double seconds = done.answer.seconds - done.answer.prompt_seconds;
  if (!done.answer.tokens.empty() && seconds > 0) {
    line += Format("; answer %zu tokens, %.1f tok/s", done.answer.tokens.size(),
                   static_cast<double>(done.answer.tokens.size()) / seconds);
  }
  if (done.saved) {
    line += Format("; %s: %s tokens, %s written", flags.save.c_str(),
                   WithThousands(static_cast<uint64_t>(done.saved->tokens)).c_str(),
                   HumanBytes(done.saved->written_bytes).c_str());
  }
  std::fprintf(stderr, "%s]\n", line.c_str());
}

// In the file of --trace: the ids of prompt and answer, how many of them the prompt's are.
Result<void> Record(const Flags& flags, std::span<const int32_t> tokens, TracedRequest request) {
  if (flags.trace.empty()) return {};
  LODE_ASSIGN(TraceFile trace, TraceFile::Open(flags.trace, flags.trace_ids));
  request.tokens = tokens;
  return trace.Add(request);
}

Result<void> RecordContext(const Flags& flags, const ContextAnswer& done) {
  TracedRequest request;
  request.prompt = std::ssize(done.ids) - std::ssize(done.answer.tokens);
  request.length = done.answer.stop != v1::Stop::kStopToken;
  request.reused = request.prompt - done.read.reuse.computed - done.answer.reuse.computed;
  const bool reads = done.read.tokens > 0;
  request.reason = reads ? done.read.reuse.reason : done.answer.reuse.reason;
  request.prompt_seconds = done.read.seconds + done.answer.prompt_seconds;
  request.answer_seconds = done.answer.seconds - done.answer.prompt_seconds;
  return Record(flags, done.ids, request);
}

Result<void> RecordPlain(const Flags& flags, std::vector<int32_t> ids,
                         const std::vector<int32_t>& answer,
                         const runtime::GenerateReport& report) {
  ids.insert(ids.end(), answer.begin(), answer.end());
  TracedRequest request;
  request.prompt = report.prompt_tokens;
  request.length = report.reason != runtime::StopReason::kStopToken;
  request.reason = Name(report.match.reason);
  request.prompt_seconds = report.prompt_seconds;
  request.answer_seconds = report.generate_seconds;
  return Record(flags, ids, request);
}

// With --context or --save: the public interface does what is needed.
Result<void> RunContext(Flags& flags) {
  LODE_ASSIGN(const auto source, api::OpenSource(flags.model.model));
  LODE_ASSIGN(const api::TextTools tools, api::OpenText(*source));
  ContextRun run;
  run.from = flags.context;
  run.save_as = flags.save;
  run.key_file = flags.key_file;
  run.recompute = flags.recompute;
  // What goes on has its beginning already.
  const bool begins = flags.context.empty();
  LODE_ASSIGN(run.prompt,
              tools.tokenizer->Encode(flags.prompt, {.recognise_special = !flags.no_special,
                                                     .add_special = begins}));
  LODE_ASSIGN(const auto sampling, flags.sampling.Resolve(tools.sampling));
  run.options.sampling = Public(sampling);
  run.options.model_stops = !flags.ignore_eos;
  run.options.tokens_max = flags.count;
  text::StreamDecoder decoder(*tools.tokenizer);
  std::string text;
  run.on_token = [&](int32_t token) {
    const std::string piece = decoder.Push(token);
    text += piece;
    if (flags.json) return;
    Print(piece);
    std::fflush(stdout);
  };
  LODE_ASSIGN(const ContextAnswer done, RunInContext(&flags.model, run));
  LODE_TRY(RecordContext(flags, done));
  const std::string rest = decoder.Flush();
  text += rest;
  if (flags.json) {
    Json json;
    json["text"] = text;
    json["tokens"] = done.answer.tokens;
    json["finish_reason"] = ReasonName(done.answer.stop);
    json["seed"] = sampling.seed;
    json["context_tokens"] = done.tokens;
    json["restored_tokens"] = done.restored.tokens;
    json["computed_tokens"] = done.read.reuse.computed + done.answer.reuse.computed;
    json["prompt_seconds"] = done.read.seconds + done.answer.prompt_seconds;
    json["generate_seconds"] = done.answer.seconds - done.answer.prompt_seconds;
    if (done.saved) {
      json["saved"] = {{"path", done.saved->path},
                       {"tokens", done.saved->tokens},
                       {"file_bytes", done.saved->file_bytes},
                       {"written_bytes", done.saved->written_bytes},
                       {"delta", done.saved->delta}};
    }
    Print(DumpJson(json) + "\n");
  } else {
    Print(rest + "\n");
    if (!flags.quiet) PrintContextReport(flags, done);
  }
  if (done.answer.stop == v1::Stop::kCancelled) return InterruptedError();
  return {};
}

// Whether there is a prompt, and what --context means.
Result<void> CheckFlags(Flags* checked) {
  Flags& flags = *checked;
  const bool prompted = !flags.prompt.empty() || !flags.file.empty();
  if ((!prompted && flags.context.empty()) || (!flags.prompt.empty() && !flags.file.empty())) {
    return Error(Code::kBadInput, "give the prompt with -p TEXT or with --file");
  }
  if (!flags.file.empty()) {
    LODE_ASSIGN(flags.prompt, ReadFile(flags.file));
  }
  int64_t tokens = 0;  // --context also takes a number of tokens, as in other verbs
  if (ParseInt64(flags.context, &tokens)) {
    if (tokens < 1 || tokens > kContextMax) {
      return Error(Code::kBadInput, "--context of " + Quote(flags.context) + " tokens",
                   "take 1 to 16777216, or a name");
    }
    flags.model.run.context_tokens = tokens;
    flags.context.clear();
  }
  return {};
}

Result<void> RunGenerate(Flags& flags) {
  LODE_TRY(CheckFlags(&flags));
  if (!flags.trace.empty()) LODE_TRY(TraceFile::Open(flags.trace, flags.trace_ids));
  if (!flags.context.empty() || !flags.save.empty()) return RunContext(flags);
  LODE_ASSIGN(auto source, api::OpenSource(flags.model.model));
  LODE_ASSIGN(const api::TextTools tools, api::OpenText(*source));
  LODE_ASSIGN(const std::vector<int32_t> prompt,
              tools.tokenizer->Encode(flags.prompt, {.recognise_special = !flags.no_special,
                                                     .add_special = true}));
  const int64_t needed = static_cast<int64_t>(prompt.size()) + flags.count;
  LODE_ASSIGN(api::Running running, flags.model.Open(std::move(source), needed));

  runtime::GenerateOptions options;
  LODE_ASSIGN(options.sampling, flags.sampling.Resolve(tools.sampling));
  if (!flags.ignore_eos) options.stop_ids = tools.stop_ids;
  options.tokens_max = flags.count;
  options.cancel = &Interrupted();
  ProgressBar bar("reading the prompt", "tok", static_cast<int64_t>(prompt.size()));
  options.prompt_progress = [&](int64_t done) { bar.Update(done); };

  EnergyMeter energy;
  std::optional<double> prompt_joules;  // known when the first token comes
  runtime::Conversation conversation(running.engine.get(), Scheduling(flags));
  text::StreamDecoder decoder(*tools.tokenizer);
  std::string text;
  std::vector<int32_t> tokens;
  LODE_ASSIGN(const auto report, conversation.Generate(prompt, options, [&](int32_t token) {
    bar.Finish();
    if (tokens.empty()) prompt_joules = energy.Joules();
    tokens.push_back(token);
    const std::string piece = decoder.Push(token);
    text += piece;
    if (!flags.json) {
      Print(piece);
      std::fflush(stdout);
    }
    return true;
  }));
  const std::optional<double> joules = energy.Joules();
  LODE_TRY(RecordPlain(flags, prompt, tokens, report));
  const std::string rest = decoder.Flush();
  text += rest;
  if (flags.json) {
    Json json;
    json["text"] = text;
    json["tokens"] = tokens;
    json["finish_reason"] = ReasonName(report.reason);
    json["seed"] = options.sampling.seed;
    json["prompt_tokens"] = report.prompt_tokens;
    json["drafted_tokens"] = report.drafted_tokens;
    json["accepted_tokens"] = report.accepted_tokens;
    json["prompt_seconds"] = report.prompt_seconds;
    json["generate_seconds"] = report.generate_seconds;
    // Null where the machine does not tell. Per token: of the answer alone.
    const double answer = joules.value_or(0.0) - prompt_joules.value_or(0.0);
    json["joules"] = joules ? Json(*joules) : Json();
    json["joules_per_token"] = joules && prompt_joules && !tokens.empty()
                                   ? Json(answer / static_cast<double>(tokens.size()))
                                   : Json();
    Print(DumpJson(json) + "\n");
  } else {
    Print(rest + "\n");
    if (!flags.quiet) PrintSpeed(report, *running.engine, joules);
  }
  if (report.reason == runtime::StopReason::kCancelled) return InterruptedError();
  return {};
}

}  // namespace

void AddGenerate(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand("generate", "Continue a text, without a chat template");
  flags->model.AddTo(verb);
  flags->model.AddDrafts(verb);
  verb->remove_option(verb->get_option("--context"));
  verb->add_option("--context", flags->context,
                   "tokens of context to hold; or the name of a kept one to go on from")
      ->type_name("N|NAME");
  verb->add_option("--save", flags->save, "keep text and answer as a context of this name");
  AddContextFlags(verb, &flags->key_file, &flags->recompute);
  AddTraceFlags(verb, &flags->trace, &flags->trace_ids);
  verb->add_option("-p,--prompt", flags->prompt, "the text to continue");
  verb->add_option("--file", flags->file, "read the text from a file");
  verb->add_option("-n,--tokens", flags->count, "at most so many new tokens")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 24))
      ->capture_default_str();
  flags->sampling.AddTo(verb);
  verb->add_option("--chunk", flags->chunk, "rows of a prompt step (changes no bit)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20));
  verb->add_flag("--ignore-eos", flags->ignore_eos, "go on after a stop token");
  verb->add_flag("--no-special", flags->no_special,
                 "special tokens written in the prompt stay ordinary text");
  verb->add_flag("--json", flags->json, "one JSON object instead of text as it comes");
  verb->add_flag("-q,--quiet", flags->quiet, "no speed line");
  verb->footer(
      "Example: lode generate demo -p 'ROMEO:' -n 100 --temp 0.8 --seed 1\n"
      "         lode generate demo -p 'ROMEO:' --save scene    and tomorrow\n"
      "         lode generate demo --context scene -n 50       go on where it stopped");
  verb->callback([=] { *action = [=] { return RunGenerate(*flags); }; });
}

}  // namespace lode::cli

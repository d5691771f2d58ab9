// lode chat: a dialogue at the terminal.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>

#include "api/contexts.h"
#include "base/file.h"
#include "base/json.h"
#include "base/power.h"
#include "base/text.h"
#include "chat/session.h"
#include "cli/console.h"
#include "cli/in_context.h"
#include "cli/model_flags.h"
#include "cli/speed.h"
#include "cli/trace.h"
#include "cli/verbs.h"
#include "runtime/saved/saved_context.h"

namespace lode::cli {
namespace {

struct Flags {
  ModelFlags model;
  SamplingFlags sampling;
  std::string system, message;
  int64_t count = 1024;
  std::string context;  // a number of tokens, or the name of a kept one
  std::string key_file, trace;
  bool recompute = false, trace_ids = false;
  bool think = false, no_think = false, no_special = false, quiet = false;
};

// Behind the last user turn, before a tool's result, at the end of the answer.
constexpr int64_t kKeptStates = 3;
constexpr int64_t kContextMax = int64_t{1} << 24;
// Room for so many tokens more of a dialogue that is kept; as much as a new one has.
constexpr int64_t kMoreTokens = 8192;

constexpr char kHelp[] =
    "  /help           this\n"
    "  /reset          forget the dialogue\n"
    "  /system TEXT    set the system text and forget the dialogue\n"
    "  /regen          answer the last message again\n"
    "  /history        what was said so far\n"
    "  /save FILE      write the dialogue as JSON\n"
    "  /quit           leave (so does Ctrl-D)\n"
    "  Ctrl-C stops an answer. End a line with \\ to write several.\n";

runtime::SchedulerOptions Scheduling(const Flags& flags) {
  runtime::SchedulerOptions options;
  options.drafts_max = flags.model.run.drafts;
  return options;
}

class Dialogue {
 public:
  Dialogue(Flags* flags, api::Running* running, const api::TextTools* tools,
           runtime::SamplingOptions sampling)
      : flags_(*flags),
        running_(*running),
        sampling_(sampling),
        terminal_(IsTerminal(STDOUT_FILENO)),
        session_(running->engine.get(), tools->tokenizer.get(), tools->chat_template.get(),
                 {tools->bos, tools->eos, !flags->no_special, Scheduling(*flags)}) {
    options_.stop_ids = tools->stop_ids;
    options_.tokens_max = flags->count;
    options_.cancel = &Interrupted();
    Reset();
  }

  void Reset() {
    messages_ = Json::array();
    if (!flags_.system.empty()) {
      messages_.push_back({{"role", "system"}, {"content", flags_.system}});
    }
  }

  // Asks with `message` appended to the history; prints the answer as it comes.
  Result<void> Ask(const std::string& message) {
    messages_.push_back({{"role", "user"}, {"content", message}});
    Result<void> answered = Answer();
    if (!answered.ok()) messages_.erase(messages_.size() - 1);  // nothing was said
    return answered;
  }

  Result<void> Regenerate() {
    while (!messages_.empty() && GetString(messages_.back(), "role") == "assistant") {
      messages_.erase(messages_.size() - 1);
    }
    if (messages_.empty() || GetString(messages_.back(), "role") != "user") {
      return Error(Code::kBadInput, "there is nothing to answer yet");
    }
    ++sampling_.choice;  // other noise, another answer
    return Answer();
  }

  const Json& messages() const { return messages_; }

  // The dialogue and its states as they were kept under this name; from now on every answer keeps
  // them again. A name that is not there yet is a new dialogue.
  Result<void> GoOn(const std::string& name, const api::TextTools& tools) {
    LODE_TRY(runtime::ContextStore::CheckName(name));
    LODE_ASSIGN(sealer_, ReadSealer(flags_.key_file));
    LODE_ASSIGN(runtime::ContextStore store, api::OpenContexts());
    store_.emplace(std::move(store));
    LODE_ASSIGN(fingerprints_, FingerprintsWithBar(running_, &tools));
    context_ = name;
    runtime::ContextOpenOptions open;
    open.sealer = sealer_.get();
    const auto file = store_->OpenContext(name, open);
    if (!file.ok()) {
      if (file.error().code() == Code::kNotFound) return {};
      return file.error();
    }
    const Json* messages = FindKey((*file)->meta(), "messages");
    if (messages == nullptr || !messages->is_array()) {
      return Error(Code::kBadInput, "the saved context " + Quote(name) + " is no dialogue",
                   "`lode generate --context` goes on from a text");
    }
    return TakeUp(**file, *messages);
  }

 private:
  Result<void> TakeUp(const runtime::ContextFile& file, const Json& messages) {
    const auto match = file.Match(runtime::GeometryOf(*running_.engine), fingerprints_);
    const bool exact = match.use == runtime::ContextMatch::Use::kExact;
    if (!exact && !flags_.recompute) {
      return Error(Code::kUnsupported, match.sentence, match.hint + ": --recompute does");
    }
    int64_t state = 0;
    if (exact) {
      LODE_ASSIGN(state, runtime::RestoreStates(&session_.scheduler(), file, fingerprints_));
    }
    for (const runtime::ContextDamage& damage : file.damage()) {
      std::fprintf(stderr, "lode: warning: %s of %s: %s\n", damage.what.c_str(),
                   damage.file.c_str(), damage.reason.c_str());
    }
    messages_ = messages;
    Json asked = messages;  // what the last answer answered
    while (!asked.empty() && GetString(asked.back(), "role") == "assistant") {
      asked.erase(asked.size() - 1);
    }
    session_.GoOnFrom(std::move(asked));
    if (flags_.quiet) return {};
    const auto tokens = static_cast<int64_t>(file.tokens().size());
    std::string line = Format("[%s: %lld messages, %lld tokens are here again", context_.c_str(),
                              static_cast<long long>(messages_.size()),
                              static_cast<long long>(tokens));
    if (state + 1 < tokens) {
      line += Format(", of which %lld are to be computed", static_cast<long long>(tokens - state));
    }
    std::fprintf(stderr, "%s]\n", line.c_str());
    return {};
  }

  Result<void> Keep() {
    if (context_.empty()) return {};
    Json meta;
    meta["messages"] = messages_;
    const auto saved =
        runtime::SaveContext(&session_.scheduler(), &*store_, context_, session_.tokens(),
                             fingerprints_, meta, kKeptStates + 1, sealer_.get());
    if (!saved.ok()) return saved.error();
    return {};
  }

  // In the file of --trace.
  Result<void> Record(const runtime::GenerateReport& report) {
    if (flags_.trace.empty()) return {};
    LODE_ASSIGN(TraceFile trace, TraceFile::Open(flags_.trace, flags_.trace_ids));
    TracedRequest request;
    request.tokens = session_.tokens();
    request.prompt = report.prompt_tokens;
    request.probes = session_.probes();
    request.length = report.reason == runtime::StopReason::kLength ||
                     report.reason == runtime::StopReason::kContextFull;
    request.reused = report.reused_tokens;
    request.reason = Name(report.match.reason);
    request.prompt_seconds = report.prompt_seconds;
    request.answer_seconds = report.generate_seconds;
    return trace.Add(request);
  }

  Result<void> Answer() {
    Json request;
    request["messages"] = messages_;
    request["add_generation_prompt"] = true;
    if (flags_.think) request["enable_thinking"] = true;
    if (flags_.no_think) request["enable_thinking"] = false;
    options_.sampling = sampling_;
    ProgressBar bar("reading", "tok", 0);
    bool reasoning = false;
    const auto show = [&](const text::OutputEvent& event) {
      const bool now = event.kind == text::OutputEvent::Kind::kReasoning;
      if (terminal_ && now != reasoning) Print(now ? "\x1b[2m" : "\x1b[0m\n");
      reasoning = now;
      if (now || event.kind == text::OutputEvent::Kind::kContent) Print(event.text);
      std::fflush(stdout);
    };
    EnergyMeter energy;
    LODE_ASSIGN(const chat::Reply reply, session_.Ask(request, options_, show));
    if (terminal_ && reasoning) Print("\x1b[0m");
    Print("\n");
    LODE_TRY(FlushOutput());
    Json said = {{"role", "assistant"}, {"content", reply.output.content}};
    if (!reply.output.reasoning.empty()) said["reasoning_content"] = reply.output.reasoning;
    messages_.push_back(std::move(said));
    if (!flags_.quiet) PrintSpeed(reply.report, *running_.engine, energy.Joules());
    LODE_TRY(Keep());
    LODE_TRY(Record(reply.report));
    if (reply.report.reason == runtime::StopReason::kContextFull) {
      std::fprintf(stderr, "The context of %lld tokens is full; /reset starts anew, %s.\n",
                   static_cast<long long>(running_.options.context_tokens),
                   context_.empty() ? "--context N makes more room"
                                    : "and whoever leaves and comes back finds more room");
    }
    return {};
  }

  Flags& flags_;
  api::Running& running_;
  runtime::SamplingOptions sampling_;
  runtime::GenerateOptions options_;
  bool terminal_;
  chat::Session session_;
  Json messages_;
  std::string context_;  // kept under this name; empty: not kept
  std::unique_ptr<runtime::Sealer> sealer_;  // of it; null: not sealed
  std::optional<runtime::ContextStore> store_;
  runtime::ContextFingerprints fingerprints_;
};

// One message, over several lines when they end in a backslash. False at the end of input.
bool ReadMessage(bool prompt, std::string* message) {
  message->clear();
  bool more = false;
  do {
    if (prompt) {
      Print(more ? ". " : "> ");
      std::fflush(stdout);
    }
    std::string line;
    if (!std::getline(std::cin, line)) {
      if (Interrupted().exchange(false)) {  // Ctrl-C at the prompt: a new line, not the end
        std::cin.clear();
        std::clearerr(stdin);
        Print("\n(Ctrl-D or /quit leaves)\n");
        message->clear();
        more = true;
        continue;
      }
      return false;
    }
    more = !line.empty() && line.back() == '\\';
    if (more) line.back() = '\n';
    *message += line;
  } while (more);
  return true;
}

// A line that begins with '/'. False: leave.
bool RunCommand(const std::string& line, Flags* flags, Dialogue* dialogue) {
  const size_t blank = line.find(' ');
  const std::string name = line.substr(0, blank);
  const std::string rest = blank == std::string::npos ? "" : line.substr(blank + 1);
  const auto report = [](const Result<void>& result) {
    if (!result.ok()) std::fprintf(stderr, "%s\n", result.error().ToString().c_str());
  };
  if (name == "/quit" || name == "/exit" || name == "/q") return false;
  if (name == "/help" || name == "/?") {
    Print(kHelp);
  } else if (name == "/reset") {
    dialogue->Reset();
    Print("(a new dialogue)\n");
  } else if (name == "/system") {
    flags->system = rest;
    dialogue->Reset();
    Print("(a new dialogue)\n");
  } else if (name == "/regen") {
    report(dialogue->Regenerate());
  } else if (name == "/history") {
    for (const Json& message : dialogue->messages()) {
      Print(GetString(message, "role") + ": " + GetString(message, "content") + "\n");
    }
  } else if (name == "/save" && !rest.empty()) {
    Json file;
    file["messages"] = dialogue->messages();
    report(WriteFileAtomic(rest, DumpJson(file, 2) + "\n"));
  } else {
    const std::string guess = ClosestName(
        name, {"/help", "/reset", "/system", "/regen", "/history", "/save", "/quit"});
    Print("There is no command " + name + (guess.empty() ? "; /help lists them\n"
                                                         : "; did you mean " + guess + "?\n"));
  }
  return true;
}

// Of the kept dialogue, and some more; 0: there is none.
Result<int64_t> RoomFor(const std::string& name) {
  LODE_ASSIGN(const runtime::ContextStore store, api::OpenContexts());
  LODE_ASSIGN(const auto entries, store.List());
  for (const runtime::ContextEntry& entry : entries) {
    if (entry.name == name && entry.tokens > 0) return entry.tokens + kMoreTokens;
  }
  return 0;
}

Result<void> RunChat(Flags& flags) {
  if (!flags.trace.empty()) LODE_TRY(TraceFile::Open(flags.trace, flags.trace_ids));
  LODE_ASSIGN(auto source, api::OpenSource(flags.model.model));
  LODE_ASSIGN(const api::TextTools tools, api::OpenText(*source));
  for (const std::string& warning : tools.warnings) {
    std::fprintf(stderr, "lode: warning: %s\n", warning.c_str());
  }
  if (tools.chat_template == nullptr) {
    return Error(Code::kUnsupported, flags.model.model + ": has no chat template that works",
                 "'lode generate' continues plain text");
  }
  LODE_ASSIGN(const runtime::SamplingOptions sampling, flags.sampling.Resolve(tools.sampling));
  std::string name = flags.context;
  if (ParseInt64(flags.context, &flags.model.run.context_tokens)) {
    name.clear();
    if (flags.model.run.context_tokens < 1 || flags.model.run.context_tokens > kContextMax) {
      return Error(Code::kBadInput, "--context of " + Quote(flags.context) + " tokens",
                   "take 1 to 16777216, or a name");
    }
  }
  if (!name.empty()) {
    LODE_ASSIGN(flags.model.run.context_tokens, RoomFor(name));
  }
  flags.model.run.kept_states = kKeptStates;
  LODE_ASSIGN(api::Running running, flags.model.Open(std::move(source)));
  Dialogue dialogue(&flags, &running, &tools, sampling);
  if (!name.empty()) LODE_TRY(dialogue.GoOn(name, tools));
  if (!flags.message.empty()) return dialogue.Ask(flags.message);

  const bool terminal = IsTerminal(STDIN_FILENO);
  if (terminal) Print("Chatting with " + flags.model.model + ". /help lists commands.\n");
  std::string message;
  while (ReadMessage(terminal, &message)) {
    if (message.empty()) continue;
    if (message[0] == '/') {
      if (!RunCommand(message, &flags, &dialogue)) break;
      continue;
    }
    const Result<void> answered = dialogue.Ask(message);
    if (!answered.ok()) {
      if (!terminal) return answered.error();
      std::fprintf(stderr, "lode: %s\n", answered.error().ToString().c_str());
    }
    if (Interrupted().exchange(false) && !terminal) return InterruptedError();
  }
  if (terminal) Print("\n");
  return {};
}

}  // namespace

void AddChat(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb = app.add_subcommand("chat", "Talk to a model at the terminal");
  flags->model.AddTo(verb);
  flags->model.AddDrafts(verb);
  verb->remove_option(verb->get_option("--context"));
  verb->add_option("--context", flags->context,
                   "tokens of context to hold; or a name: the dialogue is kept under it and goes on "
                   "from there next time")
      ->type_name("N|NAME");
  AddContextFlags(verb, &flags->key_file, &flags->recompute);
  AddTraceFlags(verb, &flags->trace, &flags->trace_ids);
  verb->add_option("--system", flags->system, "a text that sets the scene");
  verb->add_option("-m,--message", flags->message, "ask this one thing and leave");
  verb->add_option("-n,--tokens", flags->count, "at most so many tokens an answer")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  flags->sampling.AddTo(verb);
  auto* think = verb->add_flag("--think", flags->think, "ask for a reasoning trace");
  verb->add_flag("--no-think", flags->no_think, "ask for none")->excludes(think);
  verb->add_flag("--no-special", flags->no_special,
                 "control tokens written in messages stay ordinary text");
  verb->add_flag("-q,--quiet", flags->quiet, "no speed line");
  verb->footer("With no terminal, each line of standard input is a message.");
  verb->callback([=] { *action = [=] { return RunChat(*flags); }; });
}

}  // namespace lode::cli

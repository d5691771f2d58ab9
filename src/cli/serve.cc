// lode serve: the model behind HTTP, in the dialects that clients speak.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "api/contexts.h"
#include "base/file.h"
#include "base/text.h"
#include "chat/contexts.h"
#include "chat/engine_backend.h"
#include "chat/script_backend.h"
#include "chat/service.h"
#include "cli/console.h"
#include "cli/model_flags.h"
#include "cli/trace_backend.h"
#include "cli/verbs.h"
#include "cli/version.h"
#include "serve/app.h"
#include "serve/http/server.h"

namespace lode::cli {
namespace {

constexpr std::string_view kScript = "script:";

struct Flags {
  ModelFlags model;
  SamplingFlags sampling;
  serve::ServerOptions server;
  std::vector<std::string> aliases, origins;
  std::string keys_file, contexts_folder, trace_file, log = "json";
  int64_t agents = 8, states = 16, queue = 256;
  int64_t drain_seconds = 30, body_megabytes = 64, answer_seconds = 0;
  bool no_keys = false, no_special = false;
};

bool IsLoopback(const std::string& host) {
  return StartsWith(host, "unix:") || host == "localhost" || host == "::1" ||
         host.starts_with("127.");
}

std::string UrlOf(const serve::ServerOptions& options, int port) {
  if (StartsWith(options.host, "unix:")) return options.host;
  const bool wide = options.host.find(':') != std::string::npos;
  return Format("%s://%s%s%s:%d", options.certificate_file.empty() ? "http" : "https",
                wide ? "[" : "", options.host.c_str(), wide ? "]" : "", port);
}

// "lode-demo" of "models/lode-demo.gguf".
std::string NameOf(const std::string& model) {
  std::string name = model;
  while (name.size() > 1 && name.back() == '/') name.pop_back();
  name = name.substr(name.rfind('/') + 1);
  return EndsWith(name, ".gguf") ? name.substr(0, name.size() - 5) : name;
}

Result<void> CheckFlags(const Flags& flags) {
  if (!IsLoopback(flags.server.host) && flags.keys_file.empty() && !flags.no_keys) {
    return Error(Code::kBadInput,
                 "--host " + Quote(flags.server.host) + " lets other machines in, without a key",
                 "give --keys FILE, or say --no-keys as well");
  }
  if (flags.log != "json" && flags.log != "off") {
    return Error(Code::kBadInput, "--log has no form " + Quote(flags.log), "take json or off");
  }
  return {};
}

// `contexts`: null where there are none, as for scripts.
Result<void> Serve(const Flags& flags, chat::Backend* backend, chat::Contexts* contexts,
                   const api::TextTools& tools) {
  const bool scripted = StartsWith(flags.model.model, kScript);
  chat::ServiceOptions options;
  options.prompt = {tools.bos, tools.eos, !flags.no_special};
  options.stop_ids = tools.stop_ids;
  LODE_ASSIGN(options.sampling, flags.sampling.Resolve(tools.sampling));
  options.scripted = scripted;
  chat::Service service(backend, tools.tokenizer.get(), tools.chat_template.get(), options);

  serve::AppOptions site;
  site.models = flags.aliases;
  const std::string name = scripted ? "script" : NameOf(flags.model.model);
  site.models.push_back(name);
  if (flags.model.model != name && !scripted) site.models.push_back(flags.model.model);
  site.version = VersionText();
  site.bos = tools.bos;
  site.eos = tools.eos;
  site.template_source = tools.template_source;
  site.keys_file = flags.keys_file;
  site.origins = flags.origins;
  site.check_host = IsLoopback(flags.server.host);
  site.contexts = contexts;
  site.log = flags.log == "json";
  LODE_ASSIGN(const auto app, serve::App::Make(&service, site));
  serve::ServerOptions server_options = flags.server;
  server_options.drain_time = std::chrono::seconds(flags.drain_seconds);
  server_options.answer_time = std::chrono::seconds(flags.answer_seconds);
  server_options.parser.body_bytes = static_cast<uint64_t>(flags.body_megabytes) << 20;
  LODE_ASSIGN(const auto server, serve::Server::Listen(server_options, app.get()));
  app->SetServer(server.get());
  server->CatchSignals();
  Print("listening on " + UrlOf(flags.server, server->port()) + "\n");
  LODE_TRY(FlushOutput());
  server->Run([backend] { backend->Stop(); });
  return {};
}

Result<void> ServeScript(const Flags& flags) {
  const std::string path = flags.model.model.substr(kScript.size());
  LODE_ASSIGN(const auto source, api::OpenSource("demo"));
  LODE_ASSIGN(const api::TextTools tools, api::OpenText(*source));
  LODE_ASSIGN(const std::string text, ReadFile(path));
  auto script = chat::Script::Parse(text, *tools.tokenizer);
  if (!script.ok()) return std::move(script.error().AddContext(path));
  chat::ScriptBackend backend(std::move(*script), tools.tokenizer->vocab_size());
  return Serve(flags, &backend, nullptr, tools);
}

Result<void> RunServe(Flags& flags) {
  LODE_TRY(CheckFlags(flags));
  if (StartsWith(flags.model.model, kScript)) return ServeScript(flags);
  LODE_ASSIGN(auto source, api::OpenSource(flags.model.model));
  LODE_ASSIGN(const api::TextTools tools, api::OpenText(*source));
  for (const std::string& warning : tools.warnings) {
    std::fprintf(stderr, "lode: warning: %s\n", warning.c_str());
  }
  flags.model.run.agents = flags.agents;
  flags.model.run.kept_states = flags.states;
  LODE_ASSIGN(api::Running running, flags.model.Open(std::move(source)));
  chat::EngineBackendOptions options;
  options.scheduling.running_max = flags.agents;
  options.scheduling.queue_max = flags.queue;
  options.scheduling.drafts_max = flags.model.run.drafts;
  chat::EngineBackend backend(running.engine.get(), options);
  chat::ContextsOptions keeping;
  keeping.folder = flags.contexts_folder;
  keeping.threads = running.engine->threads();
  keeping.fingerprints = [&] { return api::FingerprintsOf(running, &tools); };
  LODE_ASSIGN(const auto contexts, chat::Contexts::Make(&backend, std::move(keeping)));
  if (flags.trace_file.empty()) return Serve(flags, &backend, contexts.get(), tools);
  LODE_ASSIGN(TraceFile file, TraceFile::Open(flags.trace_file, false));
  TraceBackend traced(&backend, std::move(file));
  return Serve(flags, &traced, contexts.get(), tools);
}

void AddServerFlags(CLI::App* verb, Flags* flags) {
  verb->add_option("--host", flags->server.host, "address to listen on, or unix:PATH")
      ->capture_default_str();
  verb->add_option("--port", flags->server.port, "port to listen on; 0: any that is free")
      ->capture_default_str();
  verb->add_option("--alias", flags->aliases,
                   "a name that clients may call the model by; repeatable")
      ->type_name("NAME");
  verb->add_option(
          "--keys", flags->keys_file,
          "a file with a name and the SHA-256 of a key per line; read again when it changes")
      ->type_name("FILE");
  verb->add_flag("--no-keys", flags->no_keys, "let other machines in without a key");
  verb->add_option("--tls-cert", flags->server.certificate_file, "certificates for TLS, as PEM")
      ->type_name("FILE");
  verb->add_option("--tls-key", flags->server.key_file, "the certificate's key, as PEM")
      ->type_name("FILE");
  verb->add_option("--tls-client-ca", flags->server.client_ca_file,
                   "only clients with a certificate by one of these come in; PEM")
      ->type_name("FILE");
  verb->add_option("--request-timeout", flags->answer_seconds,
                   "seconds that an answer may take; 0: as long as it takes")
      ->check(CLI::Range(int64_t{0}, int64_t{86400}))
      ->capture_default_str();
  verb->add_option("--cors", flags->origins,
                   "an origin whose pages may ask from a browser, or *; repeatable")
      ->type_name("ORIGIN");
  verb->add_option("--drain", flags->drain_seconds,
                   "seconds that running requests get when the server is told to end")
      ->check(CLI::Range(int64_t{0}, int64_t{86400}))
      ->capture_default_str();
  verb->add_option("--body", flags->body_megabytes, "megabytes that a request may have")
      ->check(CLI::Range(int64_t{1}, int64_t{1024}))
      ->capture_default_str();
  verb->add_option("--contexts", flags->contexts_folder,
                   "a folder for contexts that clients save; none is saved without it")
      ->type_name("DIR");
  verb->add_option("--trace", flags->trace_file,
                   "adds a line for each answer to FILE: hashes of blocks of tokens, no text")
      ->type_name("FILE");
  verb->add_option("--log", flags->log, "a line for each request on standard error: json or off")
      ->capture_default_str();
}

}  // namespace

void AddServe(CLI::App& app, Action* action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* verb =
      app.add_subcommand("serve", "Answer over HTTP, as OpenAI's and Anthropic's APIs do");
  flags->model.AddTo(verb);
  flags->model.AddDrafts(verb);
  AddServerFlags(verb, flags.get());
  verb->add_option("--agents", flags->agents, "answers at once; each has --context tokens")
      ->check(CLI::Range(int64_t{1}, int64_t{1024}))
      ->capture_default_str();
  verb->add_option("--states", flags->states, "states to keep beside, to go on from later")
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 20))
      ->capture_default_str();
  verb->add_option("--queue", flags->queue, "requests that may wait")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
      ->capture_default_str();
  flags->sampling.AddTo(verb);
  verb->add_flag("--no-special", flags->no_special,
                 "control tokens written in messages stay ordinary text");
  verb->footer("MODEL may be script:FILE, which plays given answers. SIGTERM ends it gracefully.");
  verb->callback([=] { *action = [=] { return RunServe(*flags); }; });
}

}  // namespace lode::cli

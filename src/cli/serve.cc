// lode serve: the model behind HTTP, in the dialects that clients speak.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "chat/engine_backend.h"
#include "chat/script_backend.h"
#include "chat/service.h"
#include "cli/console.h"
#include "cli/model_flags.h"
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
  std::string keys_file, log = "json";
  int64_t agents = 8, states = 16, queue = 256;
  int64_t drain_seconds = 30, body_megabytes = 64;
  bool no_keys = false, no_special = false;
};

bool IsLoopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
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

Result<void> Serve(const Flags& flags, chat::Backend* backend, const api::TextTools& tools,
                   bool scripted) {
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
  site.log = flags.log == "json";
  LODE_ASSIGN(const auto app, serve::App::Make(&service, site));
  serve::ServerOptions server_options = flags.server;
  server_options.drain_time = std::chrono::seconds(flags.drain_seconds);
  server_options.parser.body_bytes = static_cast<uint64_t>(flags.body_megabytes) << 20;
  LODE_ASSIGN(const auto server, serve::Server::Listen(server_options, app.get()));
  app->SetServer(server.get());
  const bool wide = flags.server.host.find(':') != std::string::npos;
  Print(Format("listening on %s://%s%s%s:%d\n",
               flags.server.certificate_file.empty() ? "http" : "https", wide ? "[" : "",
               flags.server.host.c_str(), wide ? "]" : "", int{server->port()}));
  LODE_TRY(FlushOutput());
  server->Run(true, [backend] { backend->Stop(); });
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
  return Serve(flags, &backend, tools, true);
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
  return Serve(flags, &backend, tools, false);
}

void AddServerFlags(CLI::App* verb, Flags* flags) {
  verb->add_option("--host", flags->server.host, "address to listen on")->capture_default_str();
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

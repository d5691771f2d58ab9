#include "serve/app.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <random>
#include <utility>

#include "base/text.h"
#include "serve/answer_exchange.h"
#include "serve/faults.h"
#include "serve/fields.h"
#include "serve/openapi.h"

namespace lode::serve {
namespace {

int64_t Now() { return static_cast<int64_t>(std::time(nullptr)); }

int64_t ChangeTime(const std::string& path) {
  struct stat info = {};
  if (::stat(path.c_str(), &info) != 0) return -1;
  return int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

std::string TimeStamp() {
  timespec now = {};
  ::clock_gettime(CLOCK_REALTIME, &now);
  std::tm utc = {};
  ::gmtime_r(&now.tv_sec, &utc);
  return Format("%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", utc.tm_year + 1900, utc.tm_mon + 1,
                utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1'000'000);
}

// The key that a request brings, in either dialect's header.
std::string_view KeyOf(const HttpRequest& request) {
  const std::string_view bearer = request.Header("authorization");
  if (bearer.size() > 7 && (bearer.starts_with("Bearer ") || bearer.starts_with("bearer "))) {
    return bearer.substr(7);
  }
  return request.Header("x-api-key");
}

// Whether "GET, POST" has it.
bool TakesMethod(std::string_view methods, std::string_view method) {
  const std::vector<std::string> all = Split(methods, ',');
  return std::any_of(all.begin(), all.end(), [&](const std::string& own) {
    return std::string_view(own).substr(own.starts_with(' ') ? 1 : 0) == method;
  });
}

bool IsJsonType(std::string_view type) {
  const std::string_view own = type.substr(0, type.find(';'));
  return own.empty() || own.starts_with("application/json") || own.ends_with("+json");
}

}  // namespace

// --- Routes --------------------------------------------------------------------------------------

struct App::Route {
  const char* path;   // with a '/' at the end: everything below it, but for the first page
  bool open = false;  // to those without a key, too
  HttpResponse (App::*quick)(const HttpRequest&) = nullptr;                        // GET
  Result<Reaction> (App::*work)(const HttpRequest&, const Json&, Wake) = nullptr;  // POST
  bool erase = false;        // DELETE is answered as GET is
  const char* methods = "";  // of `work`, where it takes others
};

const std::vector<App::Route>& App::Routes() {
  static const std::vector<Route> routes = {
      {"/", true, &App::Page, nullptr},
      {"/ui/", true, &App::Page, nullptr},
      {"/lode/status", false, &App::Status, nullptr},
      {"/openapi.json", true, &App::OpenApi, nullptr},
      {"/health", true, &App::Health, nullptr},
      {"/ready", true, &App::Health, nullptr},
      {"/live", true, &App::Live, nullptr},
      {"/version", true, &App::Version, nullptr},
      {"/metrics", true, &App::MetricsText, nullptr},
      {"/v1/models", true, &App::Models, nullptr},
      {"/models", true, &App::Models, nullptr},
      {"/v1/models/", true, &App::ModelByName, nullptr},
      {"/models/", true, &App::ModelByName, nullptr},
      {"/tokenizer_info", false, &App::TokenizerInfo, nullptr},
      {"/v1/chat/completions", false, nullptr, &App::ChatCompletions},
      {"/chat/completions", false, nullptr, &App::ChatCompletions},
      {"/v1/completions", false, nullptr, &App::Completions},
      {"/completions", false, nullptr, &App::Completions},
      {"/v1/responses", false, nullptr, &App::Responses},
      {"/responses", false, nullptr, &App::Responses},
      {"/v1/responses/input_tokens", false, nullptr, &App::ResponseTokens},
      {"/responses/input_tokens", false, nullptr, &App::ResponseTokens},
      {"/v1/responses/", false, &App::ResponseById, nullptr, true},
      {"/responses/", false, &App::ResponseById, nullptr, true},
      {"/v1/embeddings", false, nullptr, &App::Embeddings},
      {"/embeddings", false, nullptr, &App::Embeddings},
      {"/v1/messages", false, nullptr, &App::Messages},
      {"/v1/messages/count_tokens", false, nullptr, &App::CountTokens},
      {"/tokenize", false, nullptr, &App::Tokenize},
      {"/detokenize", false, nullptr, &App::Detokenize},
      {"/apply-template", false, nullptr, &App::ApplyTemplate},
      {"/v1/contexts", false, nullptr, &App::ContextList, false, "GET, POST"},
      {"/v1/contexts/restore", false, nullptr, &App::ContextRestore},
      {"/v1/contexts/explain", false, nullptr, &App::ContextExplain},
      {"/v1/contexts/", false, nullptr, &App::OneContext, false, "GET, POST, PATCH, DELETE"},
  };
  return routes;
}

const App::Route* App::FindRoute(std::string_view path) {
  for (const Route& route : Routes()) {
    const std::string_view own = route.path;
    const bool below = own != "/" && own.ends_with('/') && path.size() > own.size() &&
                       path.starts_with(own);
    if (path == own || below) return &route;
  }
  return nullptr;
}

HttpResponse App::OpenApi(const HttpRequest&) {
  std::vector<ApiRoute> routes;
  for (const Route& route : Routes()) {
    routes.push_back(
        {route.path, route.open, route.work != nullptr, route.erase, route.methods});
  }
  return Json200(OpenApiDocument(routes, Limits(), options_.version));
}

// --- Coming in -----------------------------------------------------------------------------------

App::App(chat::Service* service, AppOptions options)
    : service_(service), options_(std::move(options)), created_(Now()) {
  std::random_device device;
  id_salt_ = (uint64_t{device()} << 32) | device();
}

Result<std::unique_ptr<App>> App::Make(chat::Service* service, AppOptions options) {
  std::unique_ptr<App> app(new App(service, std::move(options)));
  if (!app->options_.keys_file.empty()) {
    app->keys_changed_ = ChangeTime(app->options_.keys_file);
    LODE_ASSIGN(Keys keys, Keys::Read(app->options_.keys_file));
    app->keys_ = std::make_shared<const Keys>(std::move(keys));
  }
  return app;
}

bool App::OriginAllowed(std::string_view origin) const {
  return std::any_of(options_.origins.begin(), options_.origins.end(),
                     [&](const std::string& own) { return own == "*" || own == origin; });
}

// A page of somebody else's that a browser believes to be at our address must not talk to us: its
// requests carry its own name.
bool App::HostAllowed(std::string_view host) const {
  if (!options_.check_host || keys_ != nullptr || host.empty()) return true;
  if (host.starts_with('[')) return true;  // an address
  const std::string_view name = host.substr(0, host.find(':'));
  if (name == "localhost" || name.ends_with(".localhost")) return true;
  return std::all_of(name.begin(), name.end(),
                     [](char c) { return c == '.' || (c >= '0' && c <= '9'); });
}

std::optional<HttpResponse> App::Admit(HttpRequest* request) {
  const Dialect dialect = DialectOf(request->path);
  const auto refuse = [&](Fault fault, std::string message) {
    return ErrorResponse(dialect, {fault, std::move(message)}, request->id);
  };
  if (request->method == "OPTIONS") {
    HttpResponse response{.status = 204, .content_type = ""};
    if (OriginAllowed(request->Header("origin"))) {
      const std::string_view wanted = request->Header("access-control-request-headers");
      response.headers = {
          {"Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE, OPTIONS"},
          {"Access-Control-Allow-Headers", wanted.empty() ? "*" : std::string(wanted)},
          {"Access-Control-Max-Age", "600"}};
    }
    return response;
  }
  if (!HostAllowed(request->Header("host"))) {
    return refuse(Fault::kForbidden, "this server answers to localhost only; give it --keys");
  }
  const Route* route = FindRoute(request->path);
  if (route == nullptr) {
    return refuse(Fault::kNoRoute, "there is nothing at " + Quote(request->path));
  }
  std::shared_ptr<const Keys> keys;
  {
    const std::lock_guard lock(mutex_);
    keys = keys_;
  }
  if (keys != nullptr && !route->open) {
    request->tenant = keys->Find(KeyOf(*request));
    if (request->tenant.empty()) return refuse(Fault::kNoKey, "the API key is missing or wrong");
  }
  const bool get = request->method == "GET" || request->method == "HEAD";
  const std::string_view methods = *route->methods != '\0'   ? route->methods
                                   : route->erase            ? "GET, DELETE"
                                   : route->quick != nullptr ? "GET"
                                                             : "POST";
  if (!TakesMethod(methods, get ? "GET" : request->method)) {
    HttpResponse response =
        refuse(Fault::kWrongMethod, request->path + " does not take " + Quote(request->method, 20));
    response.headers.emplace_back("Allow", std::string(methods));
    return response;
  }
  if (route->work != nullptr && !get && !IsJsonType(request->Header("content-type"))) {
    return refuse(Fault::kMediaType, "the body must be application/json");
  }
  const std::string_view coding = request->Header("content-encoding");
  if (route->work != nullptr && !coding.empty() && coding != "identity") {
    HttpResponse response = refuse(
        Fault::kMediaType, "the body must be sent as it is, and not as " + Quote(coding, 20));
    response.headers.emplace_back("Accept-Encoding", "identity");
    return response;
  }
  if (route->work != nullptr && server_ != nullptr && server_->draining()) {
    return refuse(Fault::kUnavailable, "the server is stopping");
  }
  if (route->work == nullptr || request->tenant.empty()) return std::nullopt;
  const auto problem = CheckRate(request->tenant, *keys);
  if (!problem) return std::nullopt;
  return ErrorResponse(dialect, *problem, request->id);
}

// What is looked up at once counts nothing.
std::optional<Problem> App::CheckRate(const std::string& tenant, const Keys& keys) {
  const auto found = keys.tenants().find(tenant);
  const int64_t most = found == keys.tenants().end() ? 0 : found->second.per_minute;
  if (most == 0) return std::nullopt;
  using Seconds = std::chrono::duration<double>;
  const double now = Seconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  const std::lock_guard lock(mutex_);
  const double wait = rates_.Take(tenant, most, now);
  if (wait == 0.0) return std::nullopt;
  return Problem{.fault = Fault::kTooOften,
                 .message = Format("this key may send %lld requests a minute",
                                   static_cast<long long>(most)),
                 .retry_seconds = wait};
}

void App::Tick() {
  responses_.Expire();
  if (options_.contexts != nullptr) options_.contexts->Sweep();
  energy_.Joules();  // its counters wrap around
  if (options_.keys_file.empty()) return;
  const int64_t changed = ChangeTime(options_.keys_file);
  if (changed == keys_changed_) return;
  keys_changed_ = changed;
  auto keys = Keys::Read(options_.keys_file);
  if (!keys.ok()) {  // those that were stay
    std::fprintf(stderr, "lode: %s\n", keys.error().ToString().c_str());
    return;
  }
  const std::lock_guard lock(mutex_);
  keys_ = std::make_shared<const Keys>(std::move(*keys));
}

void App::Decorate(const HttpRequest& request, HttpResponse* response) {
  if (options_.origins.empty()) return;
  response->headers.emplace_back("Vary", "Origin");
  const std::string_view origin = request.Header("origin");
  if (origin.empty() || !OriginAllowed(origin)) return;
  for (const unsigned char c : origin) {
    if (c <= ' ' || c > '~') return;
  }
  response->headers.emplace_back("Access-Control-Allow-Origin", std::string(origin));
  response->headers.emplace_back("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
}

HttpResponse App::Refuse(const HttpRequest& request, int status, std::string_view reason) {
  return ErrorResponse(DialectOf(request.path), {FaultOfStatus(status), std::string(reason)},
                       request.id);
}

// --- Answering -----------------------------------------------------------------------------------

std::optional<HttpResponse> App::Quick(const HttpRequest& request) {
  const Route* route = FindRoute(request.path);
  if (route == nullptr || route->quick == nullptr) return std::nullopt;
  return (this->*route->quick)(request);
}

Reaction App::Handle(const HttpRequest& request, Wake wake) {
  const auto answer = [&]() -> Result<Reaction> {
    const bool without = request.body.empty() && request.method != "POST";
    LODE_ASSIGN(const Json body,
                without ? Result<Json>(Json::object()) : ParseBody(request.body));
    return (this->*FindRoute(request.path)->work)(request, body, std::move(wake));
  };
  auto reaction = answer();
  if (reaction.ok()) return std::move(*reaction);
  Reaction refused;
  refused.response =
      ErrorResponse(DialectOf(request.path), ProblemOf(reaction.error()), request.id);
  return refused;
}

Reaction App::MakeReaction(const HttpRequest& request, std::unique_ptr<chat::Answer> answer,
                           std::unique_ptr<AnswerWriter> writer, bool stream) {
  AnswerRoute route;
  route.dialect = DialectOf(request.path);
  route.stream = stream;
  route.request_id = request.id;
  Reaction reaction;
  reaction.exchange = std::make_unique<AnswerExchange>(std::move(answer), std::move(writer),
                                                       std::move(route), &metrics_);
  return reaction;
}

Result<void> App::CheckModel(const Json& body) const {
  const Fields fields(body);
  LODE_ASSIGN(const auto model, fields.String("model"));
  if (!model) return {};
  const auto& names = options_.models;
  if (std::find(names.begin(), names.end(), *model) != names.end()) return {};
  return Error(Code::kNotFound,
               "model: " + Quote(*model) + " is not here; this server has " + names.front());
}

chat::Origin App::OriginOf(const HttpRequest& request) const {
  chat::Origin origin;
  origin.tenant = request.tenant;
  const std::lock_guard lock(mutex_);
  if (keys_ == nullptr) return origin;
  const auto found = keys_->tenants().find(request.tenant);
  origin.may_publish = false;
  if (found == keys_->tenants().end()) return origin;
  origin.limits = found->second.limits;
  origin.contexts_max = found->second.contexts_max;
  origin.may_publish = found->second.may_publish;
  return origin;
}

FieldLimits App::Limits() const {
  return {service_->backend().vocabulary(), service_->context_max(),
          service_->options().choices_max};
}

std::string App::NewId(const char* prefix) {
  const std::lock_guard lock(mutex_);
  return prefix + Format("%016llx%06llx", static_cast<unsigned long long>(id_salt_),
                         static_cast<unsigned long long>(++next_id_));
}

HttpResponse App::Json200(const Json& body) const { return {.body = DumpJson(body)}; }

// --- What is written down ------------------------------------------------------------------------

void App::Finished(const Access& access) {
  const Route* route = FindRoute(access.request->path);
  metrics_.CountRequest(route == nullptr ? "other" : route->path, access.status);
  if (!options_.log) return;
  Json line = {{"time", TimeStamp()},
               {"event", "request"},
               {"id", access.request->id},
               {"method", access.request->method},
               {"path", route == nullptr ? Quote(access.request->path) : access.request->path},
               {"status", access.status},
               {"ms", std::round(access.milliseconds * 10.0) / 10.0},
               {"bytes", access.bytes},
               {"remote", access.request->remote}};
  if (!access.request->tenant.empty()) line["tenant"] = access.request->tenant;
  if (access.exchange != nullptr) access.exchange->Describe(&line);
  const std::string text = DumpJson(line) + "\n";
  if (options_.write_log) return options_.write_log(text);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace lode::serve

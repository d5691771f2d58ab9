// The site: which paths there are, who may come in, what is counted and written down.
// Each dialect is in a folder beside it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/power.h"
#include "chat/contexts.h"
#include "chat/service.h"
#include "serve/answer_writer.h"
#include "serve/contexts/context_requests.h"
#include "serve/http/server.h"
#include "serve/http/site.h"
#include "serve/keys.h"
#include "serve/metrics.h"
#include "serve/openai/rules.h"
#include "serve/request_rates.h"
#include "serve/responses/response_request.h"
#include "serve/responses/response_store.h"

namespace lode::serve {

struct AppOptions {
  std::vector<std::string> models;  // names that the model answers to; the first is told
  std::string version;
  std::string bos, eos, template_source;  // for those who ask for the tokenizer's
  std::string keys_file;                  // empty: everybody may come in
  std::vector<std::string> origins;       // that browsers may come from; "*": all
  bool check_host = true;                 // without keys: names of other hosts are refused
  chat::Contexts* contexts = nullptr;     // null: none are kept
  bool log = true;
  std::function<void(const std::string&)> write_log;  // null: standard error
};

class App : public Site {
 public:
  // `service` must outlive it. Errors: those of the keys' file.
  static Result<std::unique_ptr<App>> Make(chat::Service* service, AppOptions options);

  // Whom it asks how many connections there are, and whether the server ends. May stay unset.
  void SetServer(const Server* server) { server_ = server; }

  std::optional<HttpResponse> Admit(HttpRequest* request) override;
  std::optional<HttpResponse> Quick(const HttpRequest& request) override;
  Reaction Handle(const HttpRequest& request, std::function<void()> wake) override;
  HttpResponse Refuse(const HttpRequest& request, int status, std::string_view reason) override;
  void Decorate(const HttpRequest& request, HttpResponse* response) override;
  void Finished(const Access& access) override;
  void Tick() override;

 private:
  using Wake = std::function<void()>;
  struct Route;

  App(chat::Service* service, AppOptions options);
  static const std::vector<Route>& Routes();
  static const Route* FindRoute(std::string_view path);

  Result<void> CheckModel(const Json& body) const;
  chat::Origin OriginOf(const HttpRequest& request) const;
  FieldLimits Limits() const;
  std::string NewId(const char* prefix);
  bool OriginAllowed(std::string_view origin) const;
  bool HostAllowed(std::string_view host) const;
  std::optional<Problem> CheckRate(const std::string& tenant, const Keys& keys);
  HttpResponse Json200(const Json& body) const;
  Reaction MakeReaction(const HttpRequest& request, std::unique_ptr<chat::Answer> answer,
                        std::unique_ptr<AnswerWriter> writer, bool stream);

  // An answer that goes on from a context (contexts/routes.cc); `look`: nobody will.
  Result<void> BindContext(const ContextUse& use, chat::ChatRequest* request, bool look = false);
  Result<void> BindContext(const ContextUse& use, chat::CompletionRequest* request);
  std::unique_ptr<AnswerWriter> TellReuse(const ContextUse& use,
                                          const std::shared_ptr<chat::ContextTurn>& turn,
                                          const chat::Answer* answer, Json head,
                                          std::unique_ptr<AnswerWriter> writer) const;
  Result<void> CheckContexts() const;
  Result<void> CheckGoingOn(const chat::AnswerRules& rules) const;
  Reaction JobReaction(const HttpRequest& request, std::shared_ptr<chat::ContextJob> job,
                       std::function<Json(const chat::ContextReport&)> shape, int status,
                       bool stream, int64_t total);
  Result<Reaction> NewContext(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> ExplainOne(const HttpRequest& request, const std::string& id, bool short_form,
                              Wake wake);
  Result<Reaction> ForkOne(const HttpRequest& request, const std::string& id, const Json& body);
  Result<Reaction> ChangeOne(const HttpRequest& request, const std::string& id, const Json& body,
                             Wake wake);

  // Answered at once.
  HttpResponse Health(const HttpRequest& request);
  HttpResponse Live(const HttpRequest& request);
  HttpResponse Version(const HttpRequest& request);
  HttpResponse Models(const HttpRequest& request);
  HttpResponse ModelByName(const HttpRequest& request);
  HttpResponse MetricsText(const HttpRequest& request);
  HttpResponse Page(const HttpRequest& request);
  HttpResponse Status(const HttpRequest& request);
  HttpResponse OpenApi(const HttpRequest& request);
  HttpResponse TokenizerInfo(const HttpRequest& request);
  HttpResponse ResponseById(const HttpRequest& request);
  // By a worker.
  Result<Reaction> ChatCompletions(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> Completions(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> Embeddings(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> Messages(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> CountTokens(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> Responses(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> ResponseTokens(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> Tokenize(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> Detokenize(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> ApplyTemplate(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> ContextList(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> ContextRestore(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> ContextExplain(const HttpRequest& request, const Json& body, Wake wake);
  Result<Reaction> OneContext(const HttpRequest& request, const Json& body, Wake wake);

  // `refusal` is set where what the request names is not kept.
  Result<ResponseCall> ReadResponse(const HttpRequest& request, Json* body,
                                    std::optional<HttpResponse>* refusal);
  Result<void> DropOldTurns(chat::ChatRequest* request) const;

  chat::Service* service_;
  AppOptions options_;
  const Server* server_ = nullptr;
  int64_t created_ = 0;
  Metrics metrics_;
  ResponseStore responses_;
  EnergyMeter energy_;        // the server's thread alone
  mutable std::mutex mutex_;  // guards the next five
  std::shared_ptr<const Keys> keys_;
  int64_t keys_changed_ = 0;  // time of the file, in nanoseconds
  uint64_t next_id_ = 0;
  uint64_t id_salt_ = 0;
  RequestRates rates_;
};

}  // namespace lode::serve

// Contexts: the site's routes below /v1/contexts, and answers that go on from one.
#include <utility>

#include "serve/app.h"
#include "serve/contexts/context_exchange.h"
#include "serve/contexts/context_json.h"
#include "serve/contexts/context_requests.h"
#include "serve/openai/chat_request.h"
#include "serve/openai/completion_request.h"

namespace lode::serve {
namespace {

constexpr std::string_view kRoot = "/v1/contexts";

// "ctx_1" and "fork" of /v1/contexts/ctx_1/fork.
std::pair<std::string, std::string> Parts(std::string_view path) {
  path.remove_prefix(std::min(path.size(), kRoot.size() + 1));
  const size_t slash = path.find('/');
  if (slash == std::string_view::npos) return {std::string(path), ""};
  return {std::string(path.substr(0, slash)), std::string(path.substr(slash + 1))};
}

// A job's reply that is the context itself.
auto TellContext(const text::Tokenizer& tokenizer) {
  return [tokenizer = &tokenizer](const chat::ContextReport& report) {
    return ContextJson(report.context, *tokenizer);
  };
}

HttpResponse Made(const Json& body) { return {.status = 201, .body = DumpJson(body)}; }

}  // namespace

Result<void> App::CheckContexts() const {
  if (options_.contexts != nullptr) return {};
  return Error(Code::kUnsupported, "this server keeps no contexts", "a script has none");
}

// Whether an answer by such rules can be the next turn of a context.
Result<void> App::CheckGoingOn(const chat::AnswerRules& rules) const {
  LODE_TRY(CheckContexts());
  if (rules.choices == 1) return {};
  return Error(Code::kBadInput, "n: an answer that a context goes on with is one",
               "fork the context, and ask each fork");
}

// The request's messages become those of the context, the new ones behind them.
Result<void> App::BindContext(const ContextUse& use, chat::ChatRequest* request, bool look) {
  if (use.id.empty()) return {};
  LODE_TRY(CheckGoingOn(request->rules));
  chat::Contexts& contexts = *options_.contexts;
  auto turn = look ? contexts.Look(request->origin, use.id)
                   : contexts.Begin(request->origin, use.id, use.fork_if_busy);
  if (!turn.ok()) return turn.error();
  const chat::ContextText& text = (*turn)->text();
  if (text.dialogue == nullptr) {
    return Error(Code::kBadInput, "context: " + (*turn)->id() + " holds plain text, no messages",
                 "/v1/completions goes on from it");
  }
  Json joined = *text.dialogue;
  for (auto& [key, value] : request->template_request.items()) {
    if (key == "messages") {
      for (Json& message : value) joined["messages"].push_back(std::move(message));
    } else {
      joined[key] = std::move(value);
    }
  }
  request->template_request = std::move(joined);
  request->origin.salt = (*turn)->salt();
  (*turn)->append = use.append;
  request->turn = std::move(*turn);
  return {};
}

Result<void> App::BindContext(const ContextUse& use, chat::CompletionRequest* request) {
  if (use.id.empty()) return {};
  LODE_TRY(CheckGoingOn(request->rules));
  LODE_ASSIGN(auto turn, options_.contexts->Begin(request->origin, use.id, use.fork_if_busy));
  const std::vector<int32_t>& known = *turn->text().tokens;
  request->prompt.insert(request->prompt.begin(), known.begin(), known.end());
  request->origin.salt = turn->salt();
  request->turn = std::move(turn);
  return {};
}

std::unique_ptr<AnswerWriter> App::TellReuse(const ContextUse& use,
                                             const std::shared_ptr<chat::ContextTurn>& turn,
                                             const chat::Answer* answer, Json head,
                                             std::unique_ptr<AnswerWriter> writer) const {
  if (!use.told()) return writer;
  return std::make_unique<ContextWriter>(std::move(writer), answer, std::move(head),
                                         turn == nullptr ? "" : turn->id(), &service_->tokenizer());
}

Reaction App::JobReaction(const HttpRequest& request, std::shared_ptr<chat::ContextJob> job,
                          std::function<Json(const chat::ContextReport&)> shape, int status,
                          bool stream, int64_t total) {
  Reaction reaction;
  reaction.exchange = std::make_unique<ContextExchange>(std::move(job), std::move(shape), status,
                                                        stream, total, request.id);
  return reaction;
}

// --- All of them, new ones -----------------------------------------------------------------------

Result<Reaction> App::ContextList(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckContexts());
  if (request.method == "POST") return NewContext(request, body, std::move(wake));
  const chat::Origin origin = OriginOf(request);
  Json list = Json::array();
  for (const chat::ContextInfo& info : options_.contexts->List(origin)) {
    list.push_back(ContextJson(info, service_->tokenizer()));
  }
  Json reply = {{"object", "list"}, {"data", std::move(list)}};
  if (!options_.contexts->can_save()) return Reaction{Json200(reply)};
  LODE_ASSIGN(const auto saved, options_.contexts->Saved(origin));
  Json files = Json::array();
  for (const runtime::ContextEntry& entry : saved) {
    Json one = {{"name", entry.name},
                {"tokens", entry.tokens},
                {"bytes", entry.bytes},
                {"created", entry.created},
                {"delta", entry.delta}};
    if (!entry.trouble.empty()) one["trouble"] = entry.trouble;
    files.push_back(std::move(one));
  }
  reply["saved"] = std::move(files);
  return Reaction{Json200(reply)};
}

Result<Reaction> App::NewContext(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckModel(body));
  const Fields fields(body);
  LODE_ASSIGN(chat::NewContext context, ReadNewContext(fields));
  LODE_ASSIGN(const auto from, fields.String("from"));
  LODE_ASSIGN(const auto stream, fields.Bool("stream"));
  LODE_ASSIGN(chat::Origin origin, ReadOrigin(fields, OriginOf(request)));
  const text::Tokenizer& tokenizer = service_->tokenizer();
  if (from) {
    LODE_ASSIGN(const chat::ContextPlace at, ReadContextPlace(fields));
    LODE_ASSIGN(const auto forks, options_.contexts->Fork(origin, *from, 1, at));
    chat::ContextChange change;
    if (!context.name.empty()) change.name = context.name;
    if (context.ttl_seconds > 0.0) change.ttl_seconds = context.ttl_seconds;
    LODE_ASSIGN(const auto changed, options_.contexts->Change(origin, forks[0].id, change));
    if (context.pin == chat::ContextPin::kNone) {
      return Reaction{Made(ContextJson(changed, tokenizer))};
    }
    LODE_ASSIGN(auto job, options_.contexts->Pin(origin, changed.id, std::move(wake)));
    return JobReaction(request, std::move(job), TellContext(tokenizer), 201, stream.value_or(false),
                       changed.tokens);
  }
  if (fields.Find("messages") != nullptr) {
    LODE_ASSIGN(const ChatCall call, ReadChatRequest(body, Limits(), OriginOf(request)));
    LODE_ASSIGN(auto beginning, service_->RenderBeginning(call.request));
    const auto messages = static_cast<int64_t>((*beginning.dialogue)["messages"].size());
    const auto tokens = static_cast<int64_t>(beginning.tokens.size());
    context.text.tokens = std::make_shared<const std::vector<int32_t>>(std::move(beginning.tokens));
    context.text.dialogue = std::move(beginning.dialogue);
    context.text.boundaries = {{messages, tokens, false}};
    context.probes = std::move(beginning.probes);
  } else {
    LODE_ASSIGN(auto prompts, ReadPrompts(fields, "prompt", tokenizer));
    if (prompts.size() != 1) return fields.Bad("prompt", "must be one text");
    context.text.tokens =
        std::make_shared<const std::vector<int32_t>>(std::move(prompts[0].prompt));
  }
  const int64_t size = context.text.size();
  if (size == 0) return fields.Bad("prompt", "is empty");
  LODE_ASSIGN(auto job, options_.contexts->Create(origin, std::move(context), std::move(wake)));
  return JobReaction(request, std::move(job), TellContext(tokenizer), 201, stream.value_or(false),
                     size);
}

Result<Reaction> App::ContextRestore(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckContexts());
  const Fields fields(body);
  LODE_ASSIGN(const auto restoring, ReadContextRestoring(fields));
  LODE_ASSIGN(const chat::Origin origin, ReadOrigin(fields, OriginOf(request)));
  LODE_ASSIGN(auto job, options_.contexts->Restore(origin, restoring, std::move(wake)));
  return JobReaction(
      request, std::move(job),
      [tokenizer = &service_->tokenizer()](const chat::ContextReport& report) {
        return RestoredJson(report, *tokenizer);
      },
      201, false, 0);
}

// What a request for an answer would reuse. Nothing is computed, nothing changes.
Result<Reaction> App::ContextExplain(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckContexts());
  LODE_TRY(CheckModel(body));
  const Fields fields(body);
  const text::Tokenizer& tokenizer = service_->tokenizer();
  chat::Origin origin;
  std::vector<int32_t> ids;
  if (fields.Find("messages") != nullptr) {
    LODE_ASSIGN(ChatCall call, ReadChatRequest(body, Limits(), OriginOf(request)));
    LODE_TRY(BindContext(call.use, &call.request, true));
    LODE_ASSIGN(chat::Prompt prompt, service_->Render(call.request));
    ids = std::move(prompt.ids);
    origin = call.request.origin;
  } else {
    LODE_ASSIGN(origin, ReadOrigin(fields, OriginOf(request)));
    LODE_ASSIGN(auto prompts, ReadPrompts(fields, "prompt", tokenizer));
    if (prompts.size() != 1) return fields.Bad("prompt", "must be one text");
    ids = std::move(prompts[0].prompt);
  }
  if (ids.empty()) return fields.Bad("prompt", "is empty");
  auto job = options_.contexts->Explain(origin, std::move(ids), std::move(wake));
  return JobReaction(
      request, std::move(job),
      [&tokenizer](const chat::ContextReport& report) {
        return ExplanationJson(*report.explanation, tokenizer);
      },
      200, false, 0);
}

// --- One of them ---------------------------------------------------------------------------------

Result<Reaction> App::OneContext(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckContexts());
  const auto [id, action] = Parts(request.path);
  const bool get = request.method == "GET" || request.method == "HEAD";
  const bool post = request.method == "POST";
  if (action == "explain" && get) return ExplainOne(request, id, false, std::move(wake));
  if (action == "fork" && post) return ForkOne(request, id, body);
  if (action == "truncate" && post) {
    const Fields fields(body);
    LODE_ASSIGN(const chat::ContextPlace at, ReadContextPlace(fields));
    if (fields.Find("at") == nullptr) return fields.Bad("at", "is missing");
    LODE_ASSIGN(const auto cut, options_.contexts->Truncate(OriginOf(request), id, at));
    return Reaction{Json200(ContextJson(cut, service_->tokenizer()))};
  }
  if (action == "save" && post) {
    LODE_ASSIGN(const auto saving, ReadContextSaving(Fields(body)));
    LODE_ASSIGN(auto job, options_.contexts->Save(OriginOf(request), id, saving, std::move(wake)));
    return JobReaction(request, std::move(job), SavedJson, 200, false, 0);
  }
  if (action.empty() && get) return ExplainOne(request, id, true, std::move(wake));
  if (action.empty() && request.method == "PATCH") {
    return ChangeOne(request, id, body, std::move(wake));
  }
  if (action.empty() && request.method == "DELETE") {
    LODE_TRY(options_.contexts->Remove(OriginOf(request), id));
    return Reaction{Json200({{"id", id}, {"object", "context"}, {"deleted", true}})};
  }
  const bool known = action.empty() || action == "explain" || action == "fork" ||
                     action == "truncate" || action == "save";
  const Problem problem =
      known ? Problem{Fault::kWrongMethod, request.path + " does not take " + request.method}
            : Problem{Fault::kNoRoute, "there is nothing at " + request.path};
  return Reaction{ErrorResponse(Dialect::kOpenAi, problem, request.id)};
}

// `short_form`: what it is and what it takes; else all of the path through the tree, too.
Result<Reaction> App::ExplainOne(const HttpRequest& request, const std::string& id, bool short_form,
                                 Wake wake) {
  LODE_ASSIGN(auto job, options_.contexts->Explain(OriginOf(request), id, std::move(wake)));
  const text::Tokenizer& tokenizer = service_->tokenizer();
  return JobReaction(
      request, std::move(job),
      [&tokenizer, short_form](const chat::ContextReport& report) {
        Json made = ContextJson(report.context, tokenizer);
        if (!short_form) {
          Json explained = ExplanationJson(*report.explanation, tokenizer);
          explained["context"] = std::move(made);
          return explained;
        }
        int64_t points = 0;
        uint64_t bytes = 0;
        bool on_disk = false;
        for (const runtime::ExplainedNode& node : report.explanation->nodes) {
          if (!node.on_path) continue;
          bytes += node.bytes;
          points += node.point_class ? 1 : 0;
          on_disk |= node.on_disk;
        }
        made["bytes"] = bytes;  // shared ones, too
        made["points"] = points;
        made["on_disk"] = on_disk;
        made["resume_at"] = report.explanation->match.resume;
        return made;
      },
      200, false, 0);
}

Result<Reaction> App::ForkOne(const HttpRequest& request, const std::string& id, const Json& body) {
  const Fields fields(body);
  LODE_ASSIGN(const auto n, fields.Integer("n", 1, 1024));
  LODE_ASSIGN(const chat::ContextPlace at, ReadContextPlace(fields));
  LODE_ASSIGN(const auto forks, options_.contexts->Fork(OriginOf(request), id, n.value_or(1), at));
  Json list = Json::array();
  for (const chat::ContextInfo& info : forks) {
    list.push_back(ContextJson(info, service_->tokenizer()));
  }
  return Reaction{Made({{"object", "list"},
                        {"contexts", std::move(list)},
                        {"copied_bytes", 0},
                        {"recomputed_tokens", 0}})};
}

Result<Reaction> App::ChangeOne(const HttpRequest& request, const std::string& id, const Json& body,
                                Wake wake) {
  const chat::Origin origin = OriginOf(request);
  LODE_ASSIGN(const chat::ContextChange change, ReadContextChange(Fields(body)));
  LODE_ASSIGN(const auto changed, options_.contexts->Change(origin, id, change));
  const text::Tokenizer& tokenizer = service_->tokenizer();
  if (change.pin != chat::ContextPin::kMemory) {
    return Reaction{Json200(ContextJson(changed, tokenizer))};
  }
  LODE_ASSIGN(auto job, options_.contexts->Pin(origin, id, std::move(wake)));
  return JobReaction(request, std::move(job), TellContext(tokenizer), 200, false, 0);
}

}  // namespace lode::serve

// The site's small things: health, models, metrics, the tokenizer.
#include <algorithm>
#include <utility>

#include "base/text.h"
#include "serve/app.h"
#include "serve/dialogue.h"
#include "serve/faults.h"
#include "serve/machine.h"
#include "serve/openai/chat_request.h"

namespace lode::serve {
namespace {

std::string IsoTime(int64_t seconds) {
  const auto time = static_cast<std::time_t>(seconds);
  std::tm utc = {};
  ::gmtime_r(&time, &utc);
  return Format("%04d-%02d-%02dT%02d:%02d:%02dZ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                utc.tm_hour, utc.tm_min, utc.tm_sec);
}

}  // namespace

HttpResponse App::Health(const HttpRequest&) {
  const bool draining = server_ != nullptr && server_->draining();
  const chat::BackendLoad load = service_->backend().load();
  HttpResponse response = Json200({{"status", draining ? "draining" : "ok"},
                                   {"running", load.running},
                                   {"waiting", load.waiting}});
  if (draining) response.status = 503;
  return response;
}

HttpResponse App::Live(const HttpRequest&) { return Json200({{"status", "ok"}}); }

HttpResponse App::Version(const HttpRequest&) { return Json200({{"version", options_.version}}); }

HttpResponse App::Models(const HttpRequest& request) {
  const bool anthropic = !request.Header("anthropic-version").empty();
  Json data = Json::array();
  for (const std::string& name : options_.models) {
    if (anthropic) {
      data.push_back({{"type", "model"},
                      {"id", name},
                      {"display_name", name},
                      {"created_at", IsoTime(created_)}});
      continue;
    }
    data.push_back({{"id", name},
                    {"object", "model"},
                    {"created", created_},
                    {"owned_by", "lode"},
                    {"root", options_.models.front()},
                    {"max_model_len", service_->context_max()},
                    {"capabilities",
                     {{"chat", service_->has_template()}, {"tools", service_->has_template()}}}});
  }
  if (anthropic) {
    return Json200({{"data", data},
                    {"has_more", false},
                    {"first_id", options_.models.front()},
                    {"last_id", options_.models.back()}});
  }
  return Json200({{"object", "list"}, {"data", data}});
}

HttpResponse App::ModelByName(const HttpRequest& request) {
  const std::string_view path = request.path;
  const size_t at = path.find("models/");
  const std::string name(path.substr(at + 7));
  HttpRequest all = request;
  const Json list = *ParseJson(Models(all).body);
  for (const Json& model : list["data"]) {
    if (model["id"] == name) return Json200(model);
  }
  return ErrorResponse(DialectOf(path), {Fault::kNoModel, Quote(name) + " is not here", "model"},
                       request.id);
}

HttpResponse App::MetricsText(const HttpRequest&) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = metrics_.Text(options_.models.front(), service_->backend().load(),
                                server_ == nullptr ? 0 : server_->connections(),
                                server_ == nullptr ? 0 : server_->busy());
  response.body += MachineMetrics(energy_.Joules());
  return response;
}

HttpResponse App::TokenizerInfo(const HttpRequest&) {
  const text::Tokenizer& tokenizer = service_->tokenizer();
  const auto name = [&](std::optional<int32_t> id) {
    return id ? Json(std::string(tokenizer.TokenText(*id))) : Json(nullptr);
  };
  return Json200({{"eos_token", name(tokenizer.eos_id())},
                  {"bos_token", name(tokenizer.bos_id())},
                  {"pad_token", name(tokenizer.pad_id())},
                  {"vocab_size", tokenizer.vocab_size()},
                  {"chat_template", options_.template_source}});
}

// --- Text and tokens -----------------------------------------------------------------------------

Result<Reaction> App::Tokenize(const HttpRequest& request, const Json& body, Wake) {
  LODE_TRY(CheckModel(body));
  const Fields fields(body);
  LODE_ASSIGN(const auto add, fields.Bool("add_special_tokens"));
  LODE_ASSIGN(const auto add_other, fields.Bool("add_special"));
  const text::Tokenizer& tokenizer = service_->tokenizer();
  std::vector<int32_t> ids;
  if (fields.Find("messages") != nullptr) {
    LODE_ASSIGN(const ChatCall call, ReadChatRequest(body, Limits(), OriginOf(request)));
    LODE_ASSIGN(chat::Prompt prompt, service_->Render(call.request));
    ids = std::move(prompt.ids);
  } else {
    LODE_ASSIGN(auto text, fields.String("prompt"));
    if (!text) {
      LODE_ASSIGN(text, fields.String("content"));
    }
    if (!text) return fields.Bad("prompt", "is missing");
    LODE_ASSIGN(ids,
                tokenizer.Encode(*text, {.add_special = add.value_or(add_other.value_or(false))}));
  }
  LODE_ASSIGN(const auto strings, fields.Bool("return_token_strs"));
  LODE_ASSIGN(const auto pieces, fields.Bool("with_pieces"));
  Json reply = {{"tokens", ids}, {"count", ids.size()}, {"max_model_len", service_->context_max()}};
  if (strings.value_or(false)) {
    Json texts = Json::array();
    for (const int32_t id : ids) texts.push_back(std::string(tokenizer.TokenText(id)));
    reply["token_strs"] = std::move(texts);
  }
  if (pieces.value_or(false)) {
    Json list = Json::array();
    for (const int32_t id : ids) {
      list.push_back({{"id", id}, {"piece", std::string(tokenizer.TokenText(id))}});
    }
    reply["tokens"] = std::move(list);
  }
  return Reaction{Json200(reply)};
}

Result<Reaction> App::Detokenize(const HttpRequest&, const Json& body, Wake) {
  LODE_TRY(CheckModel(body));
  const Fields fields(body);
  LODE_ASSIGN(const Json* tokens, fields.Array("tokens"));
  if (tokens == nullptr) return fields.Bad("tokens", "is missing");
  std::vector<int32_t> ids;
  for (const Json& token : *tokens) {
    if (!token.is_number_integer() || !service_->tokenizer().Has(token.get<int64_t>())) {
      return fields.Bad("tokens", Quote(DumpJson(token), 40) + " is not the id of a token");
    }
    ids.push_back(token.get<int32_t>());
  }
  LODE_ASSIGN(const std::string text, service_->tokenizer().Decode(ids));
  return Reaction{Json200({{"prompt", text}, {"content", text}})};
}

Result<Reaction> App::ApplyTemplate(const HttpRequest& request, const Json& body, Wake) {
  LODE_TRY(CheckModel(body));
  LODE_ASSIGN(const ChatCall call, ReadChatRequest(body, Limits(), OriginOf(request)));
  LODE_ASSIGN(const chat::Prompt prompt, service_->Render(call.request));
  return Reaction{Json200({{"prompt", prompt.text}})};
}

}  // namespace lode::serve

// Responses: the site's routes of this dialect, and what it keeps of them.
#include <algorithm>
#include <ctime>
#include <utility>

#include "base/text.h"
#include "serve/app.h"
#include "serve/faults.h"
#include "serve/responses/response_request.h"
#include "serve/responses/response_writer.h"

namespace lode::serve {
namespace {

constexpr std::string_view kItemsOf = "/input_items";

// Items that were sent before are named instead of sent again.
void FillReferences(const std::string& tenant, ResponseStore* store, Json* body) {
  const auto input = body->find("input");
  if (input == body->end() || !input->is_array()) return;
  for (Json& item : *input) {
    if (GetString(item, "type") != "item_reference") continue;
    if (auto found = store->Item(tenant, GetString(item, "id"))) item = std::move(*found);
  }
}

std::string QueryValue(std::string_view query, std::string_view name) {
  for (const std::string& part : Split(query, '&')) {
    if (part.size() > name.size() && part.starts_with(name) && part[name.size()] == '=') {
      return part.substr(name.size() + 1);
    }
  }
  return "";
}

// A page of `items`, as the query asks: "limit", "order", "after".
Json ItemPage(Json items, const std::string& id, std::string_view query) {
  for (size_t i = 0; i < items.size(); ++i) {
    if (GetString(items[i], "id").empty()) items[i]["id"] = "item_" + id + "_" + std::to_string(i);
  }
  std::vector<Json> list(items.begin(), items.end());
  if (QueryValue(query, "order") != "asc") std::reverse(list.begin(), list.end());
  const std::string after = QueryValue(query, "after");
  const auto from = std::find_if(list.begin(), list.end(), [&](const Json& item) {
    return !after.empty() && item["id"] == after;
  });
  if (from != list.end()) list.erase(list.begin(), from + 1);
  int64_t limit = 20;
  if (!ParseInt64(QueryValue(query, "limit"), &limit)) limit = 20;
  const auto most = static_cast<size_t>(std::clamp<int64_t>(limit, 1, 100));
  const size_t count = std::min(list.size(), most);
  const bool more = list.size() > count;
  list.resize(count);
  Json page = {{"object", "list"}, {"data", list}, {"has_more", more}};
  page["first_id"] = list.empty() ? Json(nullptr) : list.front()["id"];
  page["last_id"] = list.empty() ? Json(nullptr) : list.back()["id"];
  return page;
}

// Messages from which a shorter dialogue may begin: the user's, but for the first.
std::vector<size_t> Beginnings(const Json& messages, size_t head) {
  std::vector<size_t> places;
  for (size_t i = head + 1; i < messages.size(); ++i) {
    if (GetString(messages[i], "role") == "user") places.push_back(i);
  }
  return places;
}

}  // namespace

// The dialogue without its oldest turns, as few as will do for the prompt and some answer.
Result<void> App::DropOldTurns(chat::ChatRequest* request) const {
  const Json all = request->template_request["messages"];
  const size_t head = !all.empty() && GetString(all[0], "role") == "system" ? 1 : 0;
  const std::vector<size_t> places = Beginnings(all, head);
  const int64_t context = service_->context_max();
  const int64_t answer = request->rules.tokens_max < 0 ? context / 8 : request->rules.tokens_max;
  const int64_t room = context - std::min(answer, context / 2);
  size_t low = 0, high = places.size();  // the first that fits lies between
  const auto cut = [&](size_t at) {
    Json messages = Json::array();
    for (size_t i = 0; i < head; ++i) messages.push_back(all[i]);
    for (size_t i = places[at]; i < all.size(); ++i) messages.push_back(all[i]);
    request->template_request["messages"] = std::move(messages);
  };
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    cut(middle);
    LODE_ASSIGN(const chat::Prompt prompt, service_->Render(*request));
    if (static_cast<int64_t>(prompt.ids.size()) <= room) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  if (!places.empty()) cut(std::min(low, places.size() - 1));
  return {};
}

Result<ResponseCall> App::ReadResponse(const HttpRequest& request, Json* body,
                                       std::optional<HttpResponse>* refusal) {
  const std::string previous = GetString(*body, "previous_response_id");
  Json history = Json::array();
  if (!previous.empty()) {
    auto items = responses_.Items(request.tenant, previous, true);
    if (!items) {
      Problem problem = {Fault::kNoRoute,
                         "previous_response_id: " + Quote(previous, 80) +
                             " is not kept here (any more); send the items instead",
                         "previous_response_id"};
      *refusal = ErrorResponse(Dialect::kOpenAi, problem, request.id);
      return ResponseCall{};
    }
    history = std::move(*items);
  }
  FillReferences(request.tenant, &responses_, body);
  return ReadResponseRequest(*body, Limits(), OriginOf(request), history);
}

Result<Reaction> App::Responses(const HttpRequest& request, const Json& given, Wake wake) {
  LODE_TRY(CheckModel(given));
  Json body = given;
  std::optional<HttpResponse> refusal;
  LODE_ASSIGN(ResponseCall call, ReadResponse(request, &body, &refusal));
  if (refusal) return Reaction{std::move(*refusal)};
  auto answer = service_->Chat(call.request, wake);
  if (!answer.ok() && call.fit && answer.error().code() == Code::kNoSpace) {
    LODE_TRY(DropOldTurns(&call.request));
    answer = service_->Chat(call.request, std::move(wake));
  }
  if (!answer.ok()) return std::move(answer).error();
  ResponseHead head;
  head.id = NewId("resp_");
  head.model = GetString(body, "model", options_.models.front());
  head.created = static_cast<int64_t>(std::time(nullptr));
  const bool logprobs = call.request.rules.logprobs >= 0;
  head.echo = std::move(call.echo);
  head.custom_tools = std::move(call.custom_tools);
  head.stream = call.stream;
  head.summary = call.summary;
  head.sealed = call.sealed;
  head.logprobs = logprobs;
  std::function<void(const Json&)> keep;
  if (call.store) {
    keep = [this, tenant = request.tenant, id = head.id, items = DumpJson(call.items),
            previous = GetString(body, "previous_response_id")](const Json& response) {
      KeptResponse kept = {previous, items, DumpJson(response), {}};
      for (const Json& item : response["output"]) kept.item_ids.push_back(GetString(item, "id"));
      responses_.Keep(tenant, id, std::move(kept));
    };
  }
  auto writer = std::make_unique<ResponseWriter>(std::move(head), &service_->tokenizer(),
                                                 std::move(keep));
  return MakeReaction(request, std::move(*answer), std::move(writer), call.stream);
}

Result<Reaction> App::ResponseTokens(const HttpRequest& request, const Json& given, Wake) {
  LODE_TRY(CheckModel(given));
  Json body = given;
  std::optional<HttpResponse> refusal;
  LODE_ASSIGN(const ResponseCall call, ReadResponse(request, &body, &refusal));
  if (refusal) return Reaction{std::move(*refusal)};
  LODE_ASSIGN(const chat::Prompt prompt, service_->Render(call.request));
  return Reaction{Json200(
      {{"object", "response.input_tokens"}, {"input_tokens", prompt.ids.size()}})};
}

HttpResponse App::ResponseById(const HttpRequest& request) {
  std::string id = request.path.substr(request.path.find("responses/") + 10);
  const bool items = id.ends_with(kItemsOf);
  if (items) id.resize(id.size() - kItemsOf.size());
  if (request.method == "DELETE" && !items) {
    if (responses_.Forget(request.tenant, id)) {
      return Json200({{"id", id}, {"object", "response"}, {"deleted", true}});
    }
  } else if (items && request.method != "DELETE") {
    auto list = responses_.Items(request.tenant, id, false);
    if (list) return Json200(ItemPage(std::move(*list), id, request.query));
  } else if (const auto kept = responses_.Find(request.tenant, id); kept != nullptr) {
    if (request.method != "DELETE") return {.body = kept->response};
  }
  return ErrorResponse(Dialect::kOpenAi,
                       {Fault::kNoRoute, "the response " + Quote(id, 80) + " is not kept here"},
                       request.id);
}

}  // namespace lode::serve

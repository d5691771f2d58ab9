// Messages and the counting of their tokens: the site's routes of this dialect.
#include <utility>

#include "serve/anthropic/message_request.h"
#include "serve/anthropic/message_writer.h"
#include "serve/app.h"

namespace lode::serve {

Result<Reaction> App::Messages(const HttpRequest& request, const Json& body, Wake wake) {
  LODE_TRY(CheckModel(body));
  LODE_ASSIGN(MessageCall call, ReadMessageRequest(body, Limits(), OriginOf(request), false));
  ContextUse use;  // whose messages stand before these; this dialect has no field for it
  use.id = request.Header("x-lode-context");
  LODE_TRY(BindContext(use, &call.request));
  LODE_ASSIGN(auto answer, service_->Chat(call.request, std::move(wake)));
  MessageHead head = {NewId("msg_"), GetString(body, "model", options_.models.front())};
  std::unique_ptr<AnswerWriter> writer;
  if (call.stream) {
    writer = std::make_unique<MessageEvents>(std::move(head));
  } else {
    writer = std::make_unique<MessageWhole>(std::move(head));
  }
  return MakeReaction(request, std::move(answer), std::move(writer), call.stream);
}

// What the whole template makes of it: system, tools, calls and results count, too.
Result<Reaction> App::CountTokens(const HttpRequest& request, const Json& body, Wake) {
  LODE_TRY(CheckModel(body));
  LODE_ASSIGN(const MessageCall call, ReadMessageRequest(body, Limits(), OriginOf(request), true));
  LODE_ASSIGN(const chat::Prompt prompt, service_->Render(call.request));
  return Reaction{Json200({{"input_tokens", prompt.ids.size()}})};
}

}  // namespace lode::serve
